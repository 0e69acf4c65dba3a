"""``perfd compare`` of stored measurements."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

import attrs
import pytest

from perfd.record import Measurement, Outcome
from tests.support.stored import Stored
from tests.support.strategies import typical

DAY = 86400.0
BEGIN = 20000 * DAY


def runs(
    tor: str, count: int, factor: float = 1.0, *, begin: float = BEGIN, every: float = 300.0, seed: int = 1
) -> Iterable[Measurement]:
    """Downloads of about a second, slower at night, one in fifty of which fails."""
    chance = Random(f"{tor} {seed}")
    for n in range(count):
        start = begin + n * every
        night = 2.0 if start % DAY < DAY / 3 else 1.0
        seconds = factor * night * chance.lognormvariate(0, 0.1)
        failed = n % 50 == 49
        yield attrs.evolve(
            typical(n),
            id=f"{tor}{begin:.0f}{n}",
            experiment="download-50k",
            type="download",
            tor=tor,
            server="public",
            filesize=51200,
            start=start,
            request=start + seconds / 10,
            response=start + seconds / 4,
            dataresponse=start + seconds / 2,
            datacomplete=None if failed else start + seconds,
            payloadbytes=51200,
            outcome=Outcome.FAILED if failed else Outcome.OK,
        )


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """An instance that has measured two tors for two days, of which beta is 5 % slower."""
    instance = Stored(tmp_path)
    instance.add([*runs("alpha", 576), *runs("beta", 576, 1.05)])
    return instance


def test_two_tors(stored: Stored) -> None:
    """One sentence first, then tables, failures, design, and the plain warning."""
    code, out, err = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--margin", "2%")
    assert (code, err) == (3, "reading: A\n") or code == 3, err
    lines = out.splitlines()
    assert lines[0].startswith("beta is ")
    assert " % slower than alpha (complete), 95 % interval " in lines[0]
    assert lines[0].endswith("48 blocks; 0 is excluded; it is slower by more than the margin of 2 %")
    assert [
        line.split()[0] for line in lines if line.startswith(("complete", "first-byte", "circuit", "throughput"))
    ]
    assert "failures: alpha 11 of 576, beta 11 of 576" in out
    assert "48 strata, each of one hour, with the same experiment, type, size, server" in out
    assert "warning: observational" in out


def test_pairs(tmp_path: Path) -> None:
    """Runs over the same circuit are compared by pairs, however much circuits differ, and that is no observation of
    what chance did not decide.
    """
    instance = Stored(tmp_path)
    chance = Random(3)
    for n in range(60):
        circuit = chance.lognormvariate(0, 1)
        for eager, run in enumerate(runs("alpha", 2, circuit, begin=BEGIN + 600 * n)):
            took = circuit * (0.9 if eager else 1.0) * chance.lognormvariate(0, 0.01)
            extra = {"PAIR": f"pair{n}", "OPTIMISTIC": bool(eager)}
            instance.add([attrs.evolve(run, datacomplete=run.start + took, outcome=Outcome.OK, extra=extra)])
    code, out, err = instance.perfd("compare", "--a", "optimistic=no", "--b", "optimistic=yes", "--json")
    found = json.loads(out)
    assert code == 0, err
    assert found["primary"]["runs"] == [60, 60]
    assert found["primary"]["ratio"] == pytest.approx(-0.1, abs=0.02)
    assert -0.12 < found["primary"]["low"] < found["primary"]["high"] < -0.08
    assert "60 pairs, each over the same circuit" in found["design"]["text"]
    assert not any("observational" in each for each in found["warnings"])


def test_json(stored: Stored) -> None:
    """The same as JSON: the true change is in the interval."""
    code, out, _ = stored.perfd("compare", "--json", "--a", "tor=alpha", "--b", "tor=beta")
    found = json.loads(out)
    assert code == 3
    assert found["primary"]["low"] < 0.05 < found["primary"]["high"]
    assert found["primary"]["low"] > 0
    assert found["verdict"] == "slower"
    assert found["primary"]["runs"] == [576, 576]
    assert {each["metric"] for each in found["others"]} >= {"first-byte", "circuit"}
    assert len(found["deciles"]) == 9


def test_names_of_sets(stored: Stored, tmp_path: Path) -> None:
    """They are called as they were asked for: by their filters, where a value alone does not tell what it is."""
    day = "2024-10-05"
    relays = tmp_path / "r"
    relays.write_text("\n".join(f"{n:040X}" for n in range(500)))

    def names(a: str, b: str) -> list[str]:
        code, out, err = stored.perfd("compare", "--json", "--a", a, "--b", b)
        assert code in (0, 3, 4), err
        design = json.loads(out)["design"]
        return [design["a"], design["b"]]

    assert names("tor=alpha", "tor=beta") == ["alpha", "beta"]
    assert names("hour=22-5", "not-hour=22-5") == ["hour=22-5", "not-hour=22-5"]
    assert names("weekday=fri", "weekday=sat-sun") == ["weekday=fri", "weekday=sat-sun"]
    assert names(f"until={day}", f"since={day}") == [f"until={day}", f"since={day}"]
    stored.add([attrs.evolve(run, id=f"r{run.id}", path=(f"${9:040X}",) * 3) for run in runs("alpha", 576)])
    of_file, other = names(f"relay=@{relays}", f"not-relay=@{relays}")
    assert (of_file[:7], other[:11]) == ("relay=@", "not-relay=@")
    assert len(other) <= 70
    optimistic = [attrs.evolve(run, id=f"o{run.id}", extra={"OPTIMISTIC": True}) for run in runs("alpha", 576)]
    stored.add(optimistic)
    assert names("optimistic=no", "optimistic=yes") == ["optimistic=no", "optimistic=yes"]


def test_runs_in_both_sets(stored: Stored) -> None:
    """A run cannot differ from itself: what is in both sets is left out, and told."""
    code, out, _ = stored.perfd("compare", "--json", "--a", "tor=alpha", "--b", "hour=0-11")
    found = json.loads(out)
    assert code in (0, 3, 4)
    in_both = 288
    assert f"{in_both} measurements are in both sets, and are left out" in found["warnings"]
    assert found["primary"]["runs"] == [288, 288]


def test_before_and_after(stored: Stored) -> None:
    """Sets that do not overlap in time are compared by the hour of the day: a daily pattern does no harm."""
    stored.add(runs("gamma", 288 * 3))
    stored.add(runs("gamma", 288 + 96, 0.9, begin=BEGIN + 3 * DAY, seed=2))  # 8 more hours of night
    day = "1970-01-01"
    day = time.strftime("%Y-%m-%d", time.gmtime(BEGIN + 3 * DAY))
    code, out, _ = stored.perfd(
        "compare", "--json", "--tor", "gamma", "--a", f"until={day}", "--b", f"since={day}", "--margin", "5%"
    )
    found = json.loads(out)
    assert code == 0
    assert found["primary"]["low"] < -0.1 < found["primary"]["high"] < 0
    assert found["design"]["b"] == f"since={day}"
    assert "hour of the day" in found["design"]["text"]


@pytest.mark.parametrize("hours", [37.0, 33.83])
def test_before_and_after_within_a_day(stored: Stored, hours: float) -> None:
    """All of both sets is compared, not only what was measured in the hours around the moment between them."""
    moment = f"{BEGIN + hours * 3600:.0f}"
    found = json.loads(
        stored.perfd("compare", "--json", "--tor", "alpha", "--a", f"until={moment}", "--b", f"since={moment}")[1]
    )
    assert "hour of the day" in found["design"]["text"]
    assert min(found["primary"]["runs"]) > 100


def test_upgrades_at_several_times(stored: Stored) -> None:
    """Nor where the moment is another one for each tor."""
    versions = [
        attrs.evolve(m, torversion="0.4.8.1" if n < upgraded else "0.4.9.1", id=f"v{m.id}")
        for tor, upgraded in (("gamma", 300), ("delta", 400))
        for n, m in enumerate(runs(tor, 576))
    ]
    stored.add(versions)
    arguments = ("--json", "--a", "torversion=0.4.8.1", "--b", "torversion=0.4.9.1")
    found = json.loads(stored.perfd("compare", *arguments)[1])
    assert "hour of the day" in found["design"]["text"]
    assert min(found["primary"]["runs"]) > 300


def test_nothing_differs(stored: Stored) -> None:
    """The margin of 3 % is not decided by few runs."""
    stored.add(runs("gamma", 100))
    code, out, _ = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=gamma", "--margin", "1%")
    assert code == 4
    assert "whether it is slower by the margin of 1 % is not decided" in out


def test_report(stored: Stored, tmp_path: Path) -> None:
    """A page in one file."""
    report = tmp_path / "report.html"
    stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--report", str(report))
    assert report.read_text().startswith("<!DOCTYPE html>")
    assert "beta is " in report.read_text()


def test_plots(stored: Stored, tmp_path: Path) -> None:
    """The intervals of all metrics, the deciles and both distributions as pictures, each with its CSV."""
    plots = tmp_path / "plots"
    code, _, _ = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--plots", str(plots))
    assert code == 3
    names = {path.stem for path in plots.iterdir()}
    assert len(names) >= 3
    assert {path.name for path in plots.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "csv")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.glob("*.png"))
    (metrics,) = (path for path in plots.glob("*.csv") if "complete" in path.read_text().split("\n")[1])
    assert metrics.read_text().startswith("what,")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "say what is compared"),
        (("--a", "tor=alpha", "--b", "tor=alpha"), 1, "ask for the same"),
        (("--a", "tor=alpha", "--b", "tor=nobody"), 1, "there are no measurements with tor=nobody"),
        (("--a", "tor=alpha", "--a", "tor=beta", "--b", "tor=gamma"), 1, "--a has tor twice"),
        (("--a", "tor=alpha", "--b", "tor=beta", "--primary", "load"), 1, "has the metric load"),
        (("--a", "tor=alpha", "--b", "experiment=download-50k"), 1, "all measurements of A are in B as well"),
        (("--a", "tor=alpha", "--b", "tor=beta", "--inject", "3%"), 2, "--inject is for what is measured at once"),
        (("--a", "tor=alpha", "--b", "tor=beta", "--delay", "5ms"), 2, "--delay is for what is measured at once"),
        (("--arm", "x=", "--arm", "y=", "--a", "tor=alpha"), 2, "--a and --b are for stored measurements"),
        (("--tor", "alpha", "--a", "tor=beta", "--b", "tor=alpha"), 2, "--tor is for both sets"),
        (
            ("--a", "tor=alpha", "--b", "tor=beta", "--report", "/nowhere/r.html"),
            1,
            "/nowhere/r.html: No such file",
        ),
        (("--a", "tor=alpha", "--b", "tor=beta", "--plots", "/dev/null"), 1, "/dev/null: Not a directory"),
        (("--arm", "x=", "--arm", "y=", "--report", "/"), 1, "Is a directory"),
        (("conflux", "--margin", "1%"), 2, "--margin is not asked here: [comparison:conflux] says"),
        (("conflux", "--tor", "alpha"), 2, "--tor is not asked here"),
        (("conflux", "--until-decided"), 2, "--until-decided is not asked here"),
    ],
)
def test_refused(stored: Stored, arguments: tuple[str, ...], code: int, message: str) -> None:
    """What cannot be compared is told, and why."""
    found = stored.perfd("compare", *arguments)
    assert (found[0], message in found[2]) == (code, True), found


ARMS = ("--arm", "plain=ConfluxEnabled 0", "--arm", "other=ConfluxEnabled 0", "--network", "testnet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--networks", "3"), "--networks needs --relays 8 or more"),
        (("--networks", "1", "--relays", "8"), "--networks needs at least 2"),
        (("--networks", "3", "--relays", "8", "--until-decided"), "give --networks without it"),
        (("--networks", "3", "--relays", "8", "--primary", "load"), "load is a metric of pageload only"),
    ],
)
def test_networks_that_cannot_answer(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """They are refused before anything starts."""
    instance = Stored(tmp_path)
    code, _, err = instance.perfd("compare", *ARMS, *arguments)
    assert (code, message in err) == (1, True), err


@pytest.mark.parametrize("text", ["tor", "nonsense=1", "outcome=bad"])
def test_mistaken_filter(stored: Stored, text: str) -> None:
    """A filter that there is not is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        stored.perfd("compare", "--a", text, "--b", "tor=beta")
    assert caught.value.code == 2


def test_many_runs(tmp_path: Path) -> None:
    """100,000 runs are concluded from in a few seconds, even where the machine is busy."""
    from perfd.analysis.blocks import Block
    from perfd.comparison.conclusion import Design, conclude
    from perfd.comparison.metrics import Samples

    chance = Random(1)
    blocks = [
        Block(
            [chance.lognormvariate(0, 0.5) for _ in range(6)], [chance.lognormvariate(0.03, 0.5) for _ in range(6)]
        )
        for _ in range(100_000 // 12)
    ]
    design = Design(a="a", b="b", primary="complete", margin=0.0, seed=1, text="blocks of 6 + 6")
    found = conclude(design, Samples({"complete": blocks}, blocks))
    assert found.primary.low > 0
