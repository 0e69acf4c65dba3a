"""What a campaign checks is found when it does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from perfd.logfile.line import DamagedLine
from perfd.record import Measurement, Outcome
from tests.campaign.invariants import (
    MORE_BYTES,
    Kept,
    Tolerance,
    growth_violations,
    violations,
    web_violations,
)
from tests.campaign.table import Injected, Results, text

INTERVALS = {"small": 2.0}
BEGAN = 1.5
"""Before the first slot, as an instance starts."""

GOOD_LINE = "2026-11-26 21:00:00+0000 [Perfd] all is well\n\tand goes on\n"


def record(slot: int, **more: str | int | float) -> Measurement:
    """The record of the slot with this number."""
    return Measurement(
        start=2.0 * slot, slot=2.0 * slot, id=f"{slot}{more}", source="s", experiment="small", tor="t", server="p",
        filesize=1024, outcome=Outcome.OK, extra=more,
    )  # fmt: skip


WHOLE = [record(1), record(2), record(3, COUNT=3, FROM=6.0, UNTIL=10.0), record(6), record(2, REPEATED=1)]


def kept(stored: Sequence[Measurement] = WHOLE, logged: Sequence[Measurement] = WHOLE) -> Kept:
    return Kept(stored, logged, (), GOOD_LINE)


STRICT = Tolerance()


def found(what: Kept, tolerance: Tolerance = STRICT, committed: frozenset[str] = frozenset()) -> list[str]:
    return list(violations(what, INTERVALS, BEGAN, set(committed), tolerance))


def test_nothing() -> None:
    """An instance that is as it should be."""
    assert found(kept(), committed=frozenset(m.id for m in WHOLE)) == []


def test_slots() -> None:
    """A slot without a record, or with two, in the database or the log."""
    gap, twice = [WHOLE[0], *WHOLE[2:]], [*WHOLE, record(5)]
    for records, words in ((gap, "1 slots have no record, such as slot number 2"), (twice, "slot number 5")):
        assert any(f"in the database, {words}" in each or words in each for each in found(kept(records, records)))
    assert any("in the log, 1 slots have no record" in each for each in found(kept(logged=gap)))
    assert any("in the log, 1 slots have several" in each for each in found(kept(logged=twice)))
    # Where the clock was set back to before the start, there may be gaps.
    assert found(kept([record(-9), *WHOLE], [record(-9), *WHOLE])) == []
    # What a lost database had may be in the log, and the other way round; but twice is twice.
    assert found(kept(stored=gap), Tolerance(database=True)) == []
    assert found(kept(logged=gap), Tolerance(log=True)) == []
    assert found(kept(WHOLE[2:], WHOLE[2:]), Tolerance(database=True, log=True)) == []
    # The middle was in a database that was moved away, and then in a log that was deleted.
    assert found(kept(gap[1:], gap), Tolerance(database=True, log=True)) != []
    assert found(kept(gap[1:], gap), Tolerance(database=True, log=True, both=gap[1].slot or 0.0)) == []
    assert any("several" in each for each in found(kept(stored=twice), Tolerance(database=True, log=True, kills=9)))


def test_committed() -> None:
    """A row that was committed and is gone, and a record that only one of both has."""
    assert "1 committed rows are gone, such as x" in found(kept(), committed=frozenset({"x"}))
    more = [*WHOLE, record(7)]
    assert any("in the log or the database only" in each for each in found(kept(logged=more)))
    assert found(kept(logged=more), Tolerance(kills=1)) == []
    assert kept(logged=more).lost() == [record(7).id]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("\tTraceback (most recent call last):", "the log has 'Traceback'"),
        ("2026-11-26 21:00:00+0000 [-] Unhandled error in Deferred:", "the log has 'Unhandled'"),
        ("half a line", "has another form"),
    ],
)
def test_log(line: str, words: str) -> None:
    """Tracebacks, and lines that are none."""
    (violation,) = found(attrs.evolve(kept(), log_text=f"{GOOD_LINE}{line}\n"))
    assert words in violation


def test_damaged() -> None:
    """A line that cannot be read; a kill may have left half of one."""
    damaged = attrs.evolve(kept(), damaged=[DamagedLine(Path("perfd.log"), 5, "no end")])
    assert found(damaged) == ["1 lines cannot be read, such as perfd.log:5: no end"]
    assert found(damaged, Tolerance(kills=1)) == []


def test_web_and_growth() -> None:
    """Pages that do not answer, and what grows."""
    assert list(web_violations((503, b"{}"), (200, b"{}"))) == []
    assert [each[:30] for each in web_violations((0, b"refused"), (503, b"{}"))] == [
        "/health answered 0 and no JSON",
        "/results answered 503: b'{}'",
    ]
    assert list(growth_violations((1 << 20, 20), (2 << 20, 22))) == []
    assert len(list(growth_violations((0, 20), (MORE_BYTES + 1, 60)))) == 2


def test_table() -> None:
    """Results add up, by fault."""
    one = Results(1, (Injected("daemon killed", 1.0), Injected("SIGHUP", None)), 1, ("v",))
    both = one + Results.from_dict({**one.as_dict(), "injected": [{"kind": "daemon killed", "recovery": 3.0}]})
    assert text(both).splitlines()[2:] == [
        "| SIGHUP | 1 | 0 |  |  | 0 |",
        "| daemon killed | 2 | 2 | 2.0 | 3.0 | 2 |",
        "| all | 3 | 2 | 2.0 | 3.0 | 2 |",
        "",
        "2 instances, 2 violations",
    ]
