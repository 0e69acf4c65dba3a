"""What scans found."""

from __future__ import annotations

from random import Random
from typing import Any

from perfd.reports.scans import FIELDS, ScanRun, scanned

PATH = ",".join(f"${letter * 40}" for letter in "ABC")


def row(**values: Any) -> tuple[Any, ...]:
    """A run over C as exit, with what is given."""
    found = {
        "experiment": "x",
        "tor": "default",
        "server": "public",
        "URL": None,
        "start": 100.0,
        "outcome": "ok",
        "errorcode": None,
        "datacomplete": 101.0,
        "SCANRELAY": f"${'C' * 40}",
        "SCANNICKNAME": "c",
        "SCANPLACE": "exit",
        "SCANPASS": 1,
        "CHOSENPATH": PATH,
        "CHOSENTIMES": "0.1,0.3,0.7",
        **values,
    }
    return tuple(found[name] for name in FIELDS)


def scan(seed: int, passes: int, *, slow: float = 1.0, failing: float = 0.0) -> list[tuple[Any, ...]]:
    """Eight exits in each pass: e1 slower, e2 failing."""
    random = Random(seed)
    made = []
    for number in range(passes):
        for exit_number in range(8):
            fails = exit_number == 2 and random.random() < failing
            took = random.lognormvariate(0.0, 0.1) * (slow if exit_number == 1 else 1.0)
            relay = f"${exit_number:040X}"
            made.append(
                row(
                    SCANRELAY=relay,
                    SCANNICKNAME=f"e{exit_number}",
                    SCANPASS=number,
                    CHOSENPATH=f"{PATH[:84]}{relay}",
                    CHOSENTIMES=f"0.1,0.3,{0.3 + took / 10:.6f}",
                    outcome="failed" if fails else "ok",
                    errorcode="TOR/END/RESET" if fails else None,
                    datacomplete=None if fails else 100.0 + took,
                )
            )
    return made


def test_run() -> None:
    """A relay's own time, and its failures; what did not come to it says nothing of it."""
    run = ScanRun.of(row())
    assert run is not None
    assert (round(run.build or 0, 6), run.transfer, run.has_failed) == (0.4, 1.0, False)
    guard = ScanRun.of(row(SCANRELAY=f"${'A' * 40}", SCANPLACE="guard"))
    assert guard is not None
    assert guard.build == 0.1
    at_it = ScanRun.of(row(outcome="failed", errorcode="PERFD/CIRCUIT", datacomplete=None, CHOSENTIMES="0.1,0.3"))
    assert at_it is not None
    assert (at_it.build, at_it.transfer, at_it.has_failed) == (None, None, True)
    before = row(outcome="failed", errorcode="PERFD/CIRCUIT", datacomplete=None, CHOSENTIMES="0.1")
    others = (before, row(outcome="skipped"), row(SCANRELAY=None), row(outcome="failed", errorcode="PERFD/NOPATH"))
    assert [ScanRun.of(each) for each in others] == [None] * 4


def test_found() -> None:
    """The slow and the failing one are named, first, and nobody else."""
    relays = scanned(scan(1, 60, slow=1.5, failing=0.15))
    assert {relay.nickname: relay.found for relay in relays if relay.found} == {
        "e1": ("build", "transfer"),
        "e2": ("failures",),
    }
    assert {relay.nickname for relay in relays[:2]} == {"e1", "e2"}
    slow = next(relay for relay in relays if relay.nickname == "e1").as_dict()
    assert slow["place"] == "exit"
    low, high = slow["transfer"]["change"][1:]
    assert low < 0.5 < high
    failing = next(relay for relay in relays if relay.nickname == "e2")
    assert failing.failed[0] < 0.15 < failing.failed[1]


def test_nothing() -> None:
    """Where nothing differs, nobody is named: in 40 scans of 8 relays no more than a few."""
    named = [relay for seed in range(40) for relay in scanned(scan(seed, 10)) if relay.found]
    assert len(named) <= 2
    assert scanned([]) == []


def test_too_few() -> None:
    """Of relays with few runs nothing is said but what was seen."""
    (relay,) = scanned([row(), row(outcome="timeout", datacomplete=None)])
    assert (relay.runs, relay.failures, relay.adjusted, relay.found) == (2, 1, {}, ())


def test_groups() -> None:
    """A relay is compared in each place and way on its own."""
    rows = [*scan(1, 6), *(row(SCANPLACE="middle", SCANPASS=n) for n in range(6)), *(row(server="url", URL="u"),)]
    assert {relay.group[2:] for relay in scanned(rows)} == {
        ("public", "", "exit"),
        ("public", "", "middle"),
        ("url", "u", "exit"),
    }
