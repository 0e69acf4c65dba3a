"""``perfd scan``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from perfd.record import Measurement, Outcome
from tests.support.stored import Stored

START = 1_795_392_000.0


def runs(passes: int) -> Iterator[Measurement]:
    """Scans of 30 exits, of which one is slow."""
    random = Random(1)
    for number in range(passes):
        for relay in range(30):
            took = random.lognormvariate(0.0, 0.1) * (2.0 if relay == 7 else 1.0)
            start = START + 3600 * number + 60 * relay
            path = f"${1000:040X},${1001:040X},${relay:040X}"
            yield Measurement(
                id=f"m{number}-{relay}",
                source="example",
                experiment="exits",
                type="scan",
                tor="default",
                server="public",
                start=start,
                datacomplete=start + took,
                filesize=1,
                outcome=Outcome.OK,
                extra={
                    "SCANRELAY": f"${relay:040X}",
                    "SCANNICKNAME": f"exit{relay}",
                    "SCANPLACE": "exit",
                    "SCANPASS": number,
                    "SCANSEED": 1,
                    "CHOSENPATH": path,
                    "CHOSENTIMES": f"0.1,0.2,{0.2 + took / 5:.6f}",
                },
            )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    made = Stored(tmp_path_factory.mktemp("scans") / "instance")
    made.add(list(runs(10)))
    return made


def test_table(stored: Stored) -> None:
    """Who stands out comes first, with what it stands out by; of the others there are some, or all."""
    code, out, err = stored.perfd("scan")
    assert (code, err) == (0, "")
    first, others = out.split("The others")
    (row,) = [line for line in first.splitlines() if line.startswith("exit")]
    assert row.split()[:3] == ["exit7", f"${0:08X}", "exit"]
    assert "build (q = " in row
    assert "transfer (q = " in row
    assert len([line for line in others.splitlines() if line.startswith("exit")]) == 20
    assert "300 runs over 30 relays, of which 30 have enough (5)" in out
    assert "9 more relays stand out by nothing; --all shows them." in out
    _, out, _ = stored.perfd("scan", "--all")
    assert len([line for line in out.splitlines() if line.startswith("exit")]) == 30


def test_filters(stored: Stored) -> None:
    """Only what is asked for, and with its margin."""
    _, out, _ = stored.perfd("scan", "--experiment", "other")
    assert "No scan has measured a relay in this period." in out
    _, out, _ = stored.perfd("scan", "--since", "2026-11-23", "--until", "2026-11-23 04:00:00")
    assert "120 runs over 30 relays, of which 0 have enough" in out
    _, out, _ = stored.perfd("scan", "--margin", "99.9%", "--false-discovery", "0.1%")
    assert "0 stand out: slower by more than 99.9 %" in out


def test_for_programs(stored: Stored) -> None:
    """A JSON object per line, or CSV: always all relays."""
    _, out, _ = stored.perfd("scan", "--json")
    relays = [json.loads(line) for line in out.splitlines()]
    assert len(relays) == 30
    assert (relays[0]["nickname"], relays[0]["found"]) == ("exit7", ["build", "transfer"])
    assert relays[0]["transfer"]["change"][1] < 1.0 < relays[0]["transfer"]["change"][2]
    _, out, _ = stored.perfd("scan", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 30
    assert rows[0]["nickname"] == "exit7"


def test_empty(tmp_path: Path) -> None:
    """A database without scans."""
    made = Stored(tmp_path / "instance")
    made.add([])
    code, out, _ = made.perfd("scan")
    assert code == 0
    assert "No scan" in out
