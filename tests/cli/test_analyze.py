"""``perfd analyze``."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from perfd.cli.analyze import period
from perfd.record import Measurement, Outcome
from tests.support.places import CHECKOUT
from tests.support.stored import Stored

START = 1_795_392_000.0
FIRST, BAD, OTHER = (f"${n:040X}" for n in (1, 2, 3))


def run(n: int, **values: object) -> Measurement:
    """A download of 1 MiB that takes 1 s to the first byte and 3 s to the last."""
    start = START + 300 * n
    steps = {"socket": 0, "connect": 0.001, "request": 0.002, "response": 0.5, "datarequest": 0.501}
    done = {"dataresponse": start + 1.0, "datacomplete": start + 3.0, "dataperc": {50: start + 2, 100: start + 3}}
    found = Measurement(
        id=f"run{n}",
        source="example",
        experiment="download",
        start=start,
        server="public",
        tor="default",
        filesize=2**20,
        outcome=Outcome.OK,
        path=(FIRST, OTHER, FIRST),
        buildtimes=(0.1, 0.25, 0.45),
        serverrequest=start + 0.7,
        serverresponse=start + 0.71,
        **{name: start + time for name, time in steps.items()},  # type: ignore[arg-type]
        **done,  # type: ignore[arg-type]
    )
    return attrs.evolve(found, **values)  # type: ignore[arg-type]


def failed(n: int, **values: object) -> Measurement:
    lost = {"dataresponse": None, "datacomplete": None, "dataperc": {}, "errorcode": "TOR/END/MISC"}
    return run(n, outcome=Outcome.FAILED, **lost, **values)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path / "instance")


def analyzed(stored: Stored, *arguments: str | Path) -> dict[str, object]:
    code, out, err = stored.perfd("analyze", "--json", *arguments)
    assert (code, err.replace("analyzing", "")) == (0, err.replace("analyzing", ""))
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_definitions(stored: Stored) -> None:
    """Quartiles are PERCENTILE_CONT's of the successes, times count from START, throughput is OnionPerf's."""
    times = [1.0, 2.0, 4.0, 8.0]
    stored.add([run(n, dataresponse=START + 300 * n + time) for n, time in enumerate(times)] + [failed(9)])
    (group,) = analyzed(stored)["groups"]  # type: ignore[misc]
    assert group["first_byte"] | {"p5": 0, "p95": 0, "p99": 0} == {
        "p5": 0,
        "p25": 1.75,
        "p50": 3.0,
        "p75": 5.0,
        "p95": 0,
        "p99": 0,
    }
    assert group["complete"]["p50"] == pytest.approx(3.0)
    assert group["throughput"]["p50"] == pytest.approx(4.194304)
    assert (group["count"], group["outcomes"], group["errors"]) == (5, {"ok": 4, "failed": 1}, {"TOR/END/MISC": 1})


def test_throughput_of_five_mebibytes(stored: Stored) -> None:
    """By the last fifth, as OnionPerf and tornettools."""
    reached = {n * 10: START + n for n in range(11)}
    stored.add([run(0, filesize=5 * 2**20, dataperc=reached)])
    (group,) = analyzed(stored)["groups"]  # type: ignore[misc]
    assert group["throughput"]["p50"] == pytest.approx(8.388608 / 2)


def test_what_was_left_out_is_said(stored: Stored) -> None:
    stored.add([run(0), run(1, tor="beta"), failed(2)])
    found = analyzed(stored, "--tor", "beta")
    assert found["notes"] == ["2 of 3 measurements of the period were left out by the filters."]
    assert str(found["lead"]).startswith("1 run from ")
    assert analyzed(stored)["notes"] == []


def test_a_bad_relay(stored: Stored) -> None:
    """A guard whose runs fail and are slow is named first, with its interval; the others are not accused."""
    chance = Random(3)
    guards = [f"${n:040X}" for n in range(10, 30)]
    runs = []
    for n in range(600):
        guard = guards[n % 20]
        is_bad = guard == guards[7] and chance.random() < 0.5
        make = failed if is_bad or chance.random() < 0.03 else run
        names = {"PATHNICKNAMES": f"nick{n % 20},m,e", "PATHWEIGHTS": f"{n % 20 + 1000},1,2"}
        runs.append(make(n, path=(guard, OTHER, FIRST), extra=names))
    stored.add(runs)
    failing = analyzed(stored)["relays"]["failing"]  # type: ignore[index]
    assert (failing[0]["place"], failing[0]["fingerprint"]) == ("guard", guards[7])
    assert (failing[0]["nickname"], failing[0]["weight"]) == ("nick7", "1007")
    assert failing[0]["q"] < 0.001
    assert failing[1]["q"] > 0.05
    code, out, _ = stored.perfd("analyze")
    assert code == 0
    (row,) = [line.split() for line in out.splitlines() if line.startswith("nick7 ")]
    assert row[:3] == ["nick7", "guard", "30"]  # runs; where there is no room, the fingerprint goes first
    assert row[-1] == guards[7]


def test_plots_and_report(stored: Stored, tmp_path: Path) -> None:
    """Each chart is a picture and its CSV; runs.csv has a row for each run; the report runs nothing."""
    chance = Random(4)
    stored.add(
        [
            run(n, dataresponse=START + 300 * n + chance.lognormvariate(0, 0.3))
            for n in range(300)
            if not 99 < n < 130
        ]
        + [failed(n) for n in range(300, 310)]
        + [run(400, outcome=Outcome.SKIPPED, errorcode="PERFD/BUSY", dataperc={}, dataresponse=None)]
    )
    plots, page = tmp_path / "plots", tmp_path / "report.html"
    code, _, err = stored.perfd("analyze", "--plots", plots, "--format", "svg", "--report", page)
    assert code == 0, err
    names = {path.stem for path in plots.glob("*.svg")}
    assert names == {path.stem for path in plots.glob("*.csv")} - {"runs"}
    assert names >= {
        f"download.{name}"
        for name in (
            *("first-byte.cdf", "first-byte.tail", "first-byte.time", "complete.cdf", "throughput.cdf"),
            *("throughput.tail", "first-byte.scatter", "complete.scatter", "failures", "hops", "ways", "steps-1"),
        )
    } | {"relays.failing"}
    with (plots / "runs.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 280
    assert rows[0]["time_to_last_byte"] == "3.0"
    assert rows[0]["mbps"] == "4.194304"
    assert rows[-1]["error_code"] == "TOR/END/MISC"
    assert rows[-1]["time_to_last_byte"] == ""
    with (plots / "download.first-byte.time.csv").open(newline="") as opened:
        assert any(row[2] == "" for row in csv.reader(opened))
    with (plots / "download.complete.scatter.csv").open(newline="") as opened:
        _, first, *others = csv.reader(opened)
    assert first == ["download (n = 270)", "2026-11-23 00:00:00", "3.0"]
    assert len(others) == 269
    text = page.read_text()
    assert "<script" not in text
    assert text.count("<figure") == len(names)


@pytest.mark.long
def test_charts_of_like_names(stored: Stored, tmp_path: Path) -> None:
    """Experiments have charts of their own, though names begin alike, or differ in what files cannot have."""
    names = [f"{'x' * 62}1", f"{'x' * 62}2", "\N{GREEK SMALL LETTER ALPHA}", "a b", "a-b"]
    stored.add([run(10 * n + k, experiment=name) for n, name in enumerate(names) for k in range(2)])
    plots = tmp_path / "plots"
    code, _, err = stored.perfd("analyze", "--plots", plots)
    assert code == 0, err
    drawn = {path.name.removesuffix(".complete.cdf.png") for path in plots.glob("*.complete.cdf.png")}
    assert len(drawn) == len(names)
    assert {names[0], names[1], "a-b"} <= drawn
    assert f"{len([*plots.glob('*.png')])} charts" in err


def test_marks_in_charts(stored: Stored, tmp_path: Path) -> None:
    """What the operator noted is in each chart over time of the report, and told below it."""
    stored.add([run(n) for n in range(0, 90, 3)] + [failed(n) for n in (10, 40)])
    assert stored.perfd("note", "moved to another host", "--at", str(START + 300 * 50))[0] == 0
    plots, page = tmp_path / "plots", tmp_path / "report.html"
    code, _, err = stored.perfd("analyze", "--plots", plots, "--format", "svg", "--report", page)
    assert code == 0, err
    over_time = [path.stem for path in plots.glob("download.*.svg") if path.stem.endswith((".time", ".scatter"))]
    assert len(over_time) >= 5
    listed = re.findall(r'<ol class="marks"><li>[^<]*: moved to another host</li></ol>', page.read_text())
    assert len(listed) == len([*over_time, "failures"])


def test_the_csv_of_onionperf(stored: Stored, tmp_path: Path) -> None:
    """Of an imported document, the numbers that are in it."""
    document = CHECKOUT / "tests" / "data" / "op-nl2.onionperf-2.0.analysis.json"
    assert stored.perfd("import", document)[0] == 0
    assert stored.perfd("analyze", "--plots", tmp_path / "plots")[0] == 0
    with (tmp_path / "plots" / "runs.csv").open(newline="") as opened:
        rows = {float(row["time_to_last_byte"] or "nan"): row for row in csv.DictReader(opened)}
    transfers = json.loads(document.read_text())["data"]["op-nl2"]["tgen"]["transfers"].values()
    assert len(rows) == len(transfers)
    for transfer in transfers:
        elapsed = transfer["elapsed_seconds"]
        if transfer["is_error"]:
            continue
        row = next(row for last, row in rows.items() if math.isclose(last, elapsed["last_byte"], abs_tol=2e-6))
        # The document's own DATAPERC0 is up to a tenth of a millisecond before its first_byte.
        assert float(row["time_to_first_byte"]) == pytest.approx(elapsed["first_byte"], abs=1e-4)
        assert int(row["filesize_bytes"]) == transfer["filesize_bytes"]
        if transfer["filesize_bytes"] == 2**20:
            progress = elapsed["payload_progress"]
            assert float(row["mbps"]) == pytest.approx(4.194304 / (progress["1.0"] - progress["0.5"]), rel=1e-4)


GUARDS = ({"fingerprint": "B" * 40, "country": "de"}, {"fingerprint": "C" * 40})


def with_guards(document: dict[str, Any]) -> dict[str, Any]:
    """As OnionPerf from 0.9 on writes it, after its filter has marked circuit 49.

    tor's guards are two others, and the first relay of circuit 39.
    """
    circuits = document["data"]["op-nl2"]["tor"]["circuits"]
    own = {"fingerprint": circuits["39"]["path"][0][0][1:41], "country": "nl"}
    for number in ("39", "49", "72"):
        circuits[number] |= {"current_guards": [*GUARDS, own], "filtered_out": number == "49"}
    return document | {"version": "4.0", "filters": {"tor/circuits": [{"name": "exclude_fingerprints"}]}}


def test_the_columns_of_onionperf(stored: Stored, tmp_path: Path) -> None:
    """Relays, and what the document tells of tor's guards; runs that a filter marked are left out."""
    whole = json.loads((CHECKOUT / "tests" / "data" / "op-nl2.onionperf-2.0.analysis.json").read_text())
    path = tmp_path / "2020-04-27.onionperf.analysis.json"
    path.write_text(json.dumps(with_guards(whole)))
    assert stored.perfd("import", path)[0] == 0
    rows: dict[int, list[dict[str, str]]] = {}
    for asked in ((), ("--filtered", "any")):
        code, out, err = stored.perfd("analyze", "--plots", tmp_path / "plots", *asked)
        assert code == 0, err
        assert ("1 imported measurements are left out" in " ".join(out.split())) is not bool(asked)
        with (tmp_path / "plots" / "runs.csv").open(newline="") as opened:
            rows[len(asked)] = sorted(csv.DictReader(opened), key=lambda row: row["start"])
    assert rows[0] == [rows[2][0], rows[2][2]]
    first, _, last = rows[2]
    relays = ("970F0966DAA7EBDEE44E3772045527A6854E997B", "8101421BEFCCF4C271D5483C5AABCAAD245BBB9D")
    assert first["fingerprints"].startswith(f"['${relays[0]}~Determinist', '${relays[1]}~rofltor01', '$1A7A")
    of_guards = ("guard_country_codes", "guards", "guard", "uses_guard", "guard_index")
    assert [first[key] for key in of_guards] == ["['de', 'N/A', 'nl']", "3", relays[0], "True", "2"]
    assert [last[key] for key in of_guards[3:]] == ["False", "-1"]


def test_nothing(stored: Stored, tmp_path: Path) -> None:
    stored.add([])
    code, out, _ = stored.perfd("analyze", "--report", tmp_path / "report.html")
    assert (code, out.strip()) == (0, "There are no such measurements.")


def test_nothing_was_run(stored: Stored) -> None:
    stored.add([run(n, outcome=Outcome.SKIPPED, errorcode="PERFD/BUSY", dataperc={}, path=None) for n in range(2)])
    assert analyzed(stored)["lead"] == "Nothing was run from 2026-11-23 00:00:00 to 2026-11-23 00:05:00 UTC."


def test_relays_of_one_nickname(stored: Stored, tmp_path: Path) -> None:
    """In charts and their numbers they are told apart."""
    relays = [f"${n:08X}{'A' * 32}" for n in range(3)]
    names = {"PATHNICKNAMES": "Unnamed,Unnamed,Unnamed"}
    stored.add([run(n, path=tuple(relays[(n + k) % 3] for k in range(3)), extra=names) for n in range(30)])
    stored.add([failed(n, path=tuple(relays), extra=names) for n in range(30, 40)])
    assert stored.perfd("analyze", "--plots", tmp_path / "plots")[0] == 0
    with (tmp_path / "plots" / "relays.failing.csv").open() as file:
        found = [row["what"] for row in csv.DictReader(file)]
    assert sorted(found) == [
        *("Unnamed $00000000 (guard)", "Unnamed $00000001 (middle)", "Unnamed $00000002 (exit)"),
    ]


def test_periods() -> None:
    """A day and a month end; a duration goes on until now."""
    assert period("2026-11-26") == (1_795_651_200.0, 1_795_651_200.0 + 86400)
    assert period("2026-02") == (1_769_904_000.0, 1_769_904_000.0 + 28 * 86400)
    since, until = period("7d")
    assert until is None
    assert since > 0
    with pytest.raises(ValueError, match="is no time"):
        period("soon")


def test_wrong_usage(stored: Stored) -> None:
    code, _, err = stored.perfd("analyze", "7d", "--since", "1h")
    assert (code, err) == (2, "perfd: analyze: give PERIOD, or --since and --until\n")


def test_held_up(stored: Stored) -> None:
    """That Perfd itself was held up is said, and those runs can be left out."""
    stored.add([run(n, extra={"HELDUP": 0.2} if n == 1 else {}) for n in range(3)])
    assert "During 1 of them Perfd itself was held up" in str(analyzed(stored)["notes"])
    assert "held up" not in str(analyzed(stored, "--heldup", "no")["notes"])


def plotted(stored: Stored, tmp_path: Path) -> set[str]:
    """The names of the charts, each of which is a file with its numbers."""
    analyzed(stored, "--plots", tmp_path / "plots")
    names = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert names <= {path.stem for path in (tmp_path / "plots").glob("*.csv")}
    return names


def test_round_trips_and_bootstraps(stored: Stored, tmp_path: Path) -> None:
    """Delays of all phases, each run by its load's rate, and the steps of bootstraps."""
    pytest.importorskip("matplotlib")
    rtt = {"RTTIDLEMEDIAN": 0.1, "RTTLOADMEDIAN": 0.3, "RTTUPLOADMEDIAN": 0.5, "RTTBOTHMEDIAN": 0.9}
    delays = {"OWDUPIDLEMEDIAN": 0.04, "OWDDOWNIDLEMEDIAN": 0.06, "OWDUPUPLOADMEDIAN": 0.4}
    rates = {"RTTLOADDOWNRATE": 2.5e6, "RTTBOTHDOWNRATE": 1e6, "RTTBOTHUPRATE": 5e5}
    steps = ("TORNETWORK", "HANDSHAKEDONE", "REQUESTINGSTATUS", "REQUESTINGDESCRIPTORS", "ENOUGHDIRINFO", "DONE")
    keys = [step if step == "TORNETWORK" else f"BOOTSTRAP{step}" for step in steps]
    for n in range(4):
        figures = {key: value * (1 + n / 10) for key, value in (rtt | delays | rates).items()}
        times = {key: START + 300 * n + (place + 1) / 10 for place, key in enumerate(keys)}
        stored.add([run(n, id=f"r{n}", type="rtt", experiment="rtt", extra=figures)])
        stored.add([run(n, id=f"b{n}", type="bootstrap", experiment="boot", extra=times)])
    names = plotted(stored, tmp_path)
    assert {"rtt.rtt", "rtt.one-way", "rtt.rtt-load", "boot.bootstrapped", "boot.bootstrap-1"} <= names
    assert not {"rtt.bootstrapped", "boot.rtt-load"} & names
    with (tmp_path / "plots" / "rtt.rtt-load.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        "series",
        "rate of the load, both directions together (Mbit/s)",
        "median round-trip time (s)",
    ]
    assert [float(cell) for cell in rows[1][1:]] == pytest.approx([20.0, 0.3])
    both = next(row for row in rows if row[0].startswith("both"))
    assert [float(cell) for cell in both[1:]] == pytest.approx([12.0, 0.9])


def test_boxes_and_counts(stored: Stored, tmp_path: Path) -> None:
    """Of each tor the median, quartiles and mean of its successes, and how its runs ended, in numbers too."""
    times = (1.0, 2.0, 3.0, 4.0, 10.0)
    of_alpha = [run(n, tor="alpha", datacomplete=START + 300 * n + time) for n, time in enumerate(times)]
    stored.add([*of_alpha, *(run(n, tor="beta") for n in range(5, 8)), failed(8, tor="beta")])
    plots = tmp_path / "plots"
    assert stored.perfd("analyze", "--plots", str(plots))[0] == 0
    with (plots / "download.complete.box.csv").open() as file:
        alpha, beta = csv.DictReader(file)
    assert (alpha["what"], beta["what"]) == ("download [alpha]", "download [beta]")
    assert [float(alpha[key]) for key in ("low", "time to last byte (s)", "high")] == pytest.approx([2, 3, 4])
    assert alpha["besides"].startswith("mean 4 s, 5 to 95 %: 1.2 to 8.8 s, n = 5")
    with (plots / "download.counts.csv").open() as file:
        rows = {row["what"]: row for row in csv.DictReader(file)}
    assert {name: row["besides"] for name, row in rows.items()} == {
        "download [alpha]: ok": "5 of 5 runs",
        "download [beta]: ok": "3 of 4 runs",
        "download [beta]: TOR/END/MISC": "1 of 4 runs",
    }
    assert float(rows["download [beta]: ok"]["low"]) == pytest.approx(19.4, abs=0.1)
    assert (plots / "download.complete.box.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_chart_has_no_room_for_is_said(stored: Stored, tmp_path: Path) -> None:
    """Of many variants there are 40 bars; the map of hours is of the variant with most runs."""
    stored.add([run(n, tor=f"t{n % 45}") for n in range(90)])
    stored.add([run(12 * n, id=f"long{n}", experiment="long", tor="zz" if n else "aa") for n in range(100)])
    page = tmp_path / "report.html"
    assert stored.perfd("analyze", "--report", page)[0] == 0
    text = page.read_text()
    assert text.count("These are the first 40 of 45.") == 4
    assert "By hour and weekday: long [zz]" in text


def test_arms_of_a_comparison(stored: Stored) -> None:
    """They are kept apart, and put together over the tors that both arms have in turn."""
    arms = {"plain": 3.0, "noconflux": 4.0}
    stored.add(
        run(
            10 * n + place,
            experiment="conflux",
            tor=f"conflux-{1 + (n + place) % 2}",
            datacomplete=START + 300 * (10 * n + place) + took,
            extra={"COMPARISON": "conflux", "BLOCK": n, "ARM": arm},
        )
        for n in range(6)
        for place, (arm, took) in enumerate(arms.items())
    )
    groups: Any = analyzed(stored)["groups"]
    assert [(each["name"], each["arm"], each["tor"], each["count"]) for each in groups] == [
        ("conflux noconflux", "noconflux", None, 6),
        ("conflux plain", "plain", None, 6),
    ]
    assert [each["complete"]["p50"] for each in groups] == pytest.approx([4.0, 3.0])
