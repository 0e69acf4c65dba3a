"""Comparisons in the daemon, over the embedded SOCKS server; and what perfd.conf may say of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.comparison.design import DesignError, check_comparison
from perfd.comparison.service import Overlaps
from perfd.config import Config, ConfigError, parse_config
from perfd.record import Outcome
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.strategies import typical

COMPARISON = """
[comparison:eager]
arms =
    plain=
    eager=optimistic=yes
experiment = fast
block = 3
pause = 0
margin = 900%
beside = yes
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is stopped at the end."""
    made = TestInstance(tmp_path, SOCKS_CONFIG + COMPARISON)
    yield made
    made.perfd("stop")


def blocks(instance: TestInstance) -> dict[int, Counter[str]]:
    """Of each block, how many runs of each arm came to an end, well or not."""
    found: dict[int, Counter[str]] = {}
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        for m in reader.measurements(Filter(comparison="eager")):
            if m.outcome in (Outcome.CANCELLED, Outcome.SKIPPED):
                continue
            found.setdefault(int(m.extra["BLOCK"]), Counter())[str(m.extra["ARM"])] += 1
            assert (m.experiment, m.extra["OPTIMISTIC"] if m.extra["ARM"] == "eager" else None) in (
                ("eager", 1),
                ("eager", None),
            )
    return found


def test_comparison_of_the_daemon(instance: TestInstance) -> None:
    """Its blocks are whole and go on after a restart, with the same seed; perfd compare tells what they say."""
    assert instance.perfd("compare", "eager").returncode == 1
    instance.start()
    wait_for(lambda: len(blocks(instance)) > 5, "blocks")
    assert instance.perfd("stop").returncode == 0
    before = blocks(instance)
    assert set(before) == set(range(len(before)))
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        stored = reader.comparison("eager")
    assert stored is not None
    instance.start()
    wait_for(lambda: len(blocks(instance)) > len(before) + 6, "more blocks")
    instance.perfd("stop")
    after = blocks(instance)
    assert before.items() <= after.items()
    assert all(after[n] == {"plain": 3, "eager": 3} for n in after if n not in (len(before) - 1, len(after) - 1))
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        assert reader.comparison("eager") == stored
        overlaps = {m.extra.get("OVERLAP") for m in reader.measurements(Filter(comparison="eager"))}
    assert "fast" in overlaps
    done = instance.perfd("compare", "eager", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["verdict"] == "not slower"
    assert found["design"]["seed"] == stored.seed
    assert found["design"]["critical"] > 2.5
    assert "confidence sequence" in found["design"]["text"]
    assert any("other experiments ran" in each for each in found["warnings"])


@pytest.mark.long
def test_another_design(instance: TestInstance) -> None:
    """What was begun with another design is not gone on with: that is in the log."""
    instance.start()
    wait_for(lambda: blocks(instance), "a block")
    instance.perfd("stop")
    count = sum(sum(each.values()) for each in blocks(instance).values())
    instance.configure(SOCKS_CONFIG + COMPARISON.replace("block = 3", "block = 4"))
    instance.start()
    wait_for(lambda: "another design" in instance.log.read_text(), "the message")
    instance.perfd("stop")
    assert sum(sum(each.values()) for each in blocks(instance).values()) == count


def read(text: str) -> Config:
    return parse_config("[experiment:fast]\nsize = 50 KiB\n" + text, Path("perfd.conf"))


def test_config() -> None:
    """Both arms have an experiment, over four tors that are launched like the experiment's own."""
    config = read(
        "[tor]\ntorrc = NumCPUs 1\n[comparison:c]\narms =\n  a=\n  b=ConfluxEnabled 0\nexperiment = fast\n"
    )
    (comparison,) = config.comparisons
    assert comparison.tors == ("c-1", "c-2", "c-3", "c-4")
    assert [each.name for each in comparison.experiments] == ["c", "c"]
    assert comparison.experiments[0].tors == comparison.tors
    torrc = next(tor.torrc for tor in config.tors if tor.name == "c-3")
    assert torrc.splitlines() == ["NumCPUs 1", "LearnCircuitBuildTimeout 0"]
    assert [arm.torrc for arm in comparison.arms] == [(), ("ConfluxEnabled 0",)]
    check_comparison(comparison, torrc.splitlines())
    assert comparison.margin == 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "arms: needed"),
        ("arms =\n  a=\n", "two arms are compared"),
        ("arms =\n  a=\n  b=\nexperiment = nothing", "no experiment is named 'nothing'"),
        ("arms =\n  a=\n  b=nonsense=1\nexperiment = fast", "nonsense"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nmargin = much", "not a percentage"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nblocs = 3", "did you mean 'blocks'"),
    ],
)
def test_mistakes(options: str, message: str) -> None:
    """Mistakes are told with the section."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(f"[comparison:c]\n{options}\n")
    assert "[comparison:c]" in str(caught.value)


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        ("a=\n  b=EntryNodes {de}", "", "different guards"),
        ("a=\n  b=optimistic=yes", "", "Conflux"),
        ("a=\n  b=", "primary = load", "pageload only"),
        ("a=\n  b=", "primary = nonsense", "no metric"),
    ],
)
def test_designs_that_cannot_answer(arms: str, options: str, message: str) -> None:
    """They are refused, with the reason."""
    (comparison,) = read(f"[comparison:c]\narms =\n  {arms}\nexperiment = fast\n{options}\n").comparisons
    with pytest.raises(DesignError, match=message):
        check_comparison(comparison, ())


def test_overlaps() -> None:
    """What measured at the same time is told; the comparison itself, and what came before or after, is not."""
    overlaps = Overlaps(lambda: ())
    for n, name in enumerate(("before", "within", "after", "eager")):
        start = typical(0).start + (n - 1) * 10
        overlaps.record(typical(n, experiment=name, start=start, end=start + 5))
    start = typical(0).start
    overlaps.record(typical(9, experiment="long", start=start - 100, end=start + 100))
    overlaps.record(typical(8, experiment="skipped", start=start, end=None))
    assert overlaps.during("eager", start + 1, start + 2) == {"within", "long"}
    assert overlaps.during("eager", start - 5, start) == {"long"}
