"""``perfd note``, and where notes are seen."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from perfd.record import Note
from perfd.store.database import transaction
from perfd.store.rows import NOTES as NOTE_TABLE
from perfd.store.schema import open_database
from tests.support.stored import Stored
from tests.support.strategies import typical

SHOWN = [
    "Notes",
    "time (UTC)           note",
    "2023-11-15 06:00:00  first",
    "2023-11-15 12:00:00  second",
    "",
]


NOTES = (
    ("of another experiment", "configuration", "experiment:upload"),
    ("of the experiment", "configuration", f"experiment:{typical(0).experiment}"),
    ("of another tor", "tor", "tor:gamma"),
    ("of another client", "configuration", "client:arti"),
    ("of a tor", "configuration", "tor:alpha"),
    ("of all", "consensus", None),
    ("of the server", "configuration", "server"),
)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """A day of measurements by two tors, one of which was updated."""
    found = Stored(tmp_path)
    runs = [
        typical(n, tor=("alpha", "beta")[n % 2], torversion=f"0.4.{8 + (n >= 50 and n % 2)}") for n in range(100)
    ]
    found.add(runs)
    return found


def test_kept_and_listed(stored: Stored) -> None:
    """Notes are kept with their time, and listed the oldest first."""
    assert stored.perfd("note", "second", "--at", "2023-11-15T12:00") == (0, "", "")
    assert stored.perfd("note", "first", "--at", "2023-11-15T06:00") == (0, "", "")
    code, out, _ = stored.perfd("note", "--list")
    assert (code, out.splitlines()) == (0, SHOWN)
    code, out, _ = stored.perfd("note", "--list", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["first", "second"]
    code, out, _ = stored.perfd("note", "--list", "--csv")
    assert [line.split(",")[:3] for line in out.splitlines()][:2] == [
        ["source", "at", "text"],
        ["example", "1700028000.0", "first"],
    ]
    assert stored.perfd("note")[0] == 2
    assert stored.perfd("note", "x", "--list")[0] == 2
    with pytest.raises(SystemExit):
        stored.perfd("note", "two\nlines")


def test_seen(stored: Stored) -> None:
    """Charts have them as marks, beside changes of tor's version; comparisons that span one warn."""
    stored.perfd("note", "moved", "--at", str(typical(0).start + 3000))
    code, out, err = stored.perfd("analyze", "--json")
    assert code == 0, err
    assert [mark["text"] for mark in json.loads(out)["marks"]] == ["moved", "beta is 0.4.9"]
    code, out, err = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--json")
    assert out, err
    assert any("moved" in each for each in json.loads(out)["warnings"]), (code, err)
    stored.perfd("note", "later", "--at", "2024-01-01")
    _, out, _ = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--json")
    assert not any("later" in each for each in json.loads(out)["warnings"])


def test_what_concerns(stored: Stored) -> None:
    """What is about another experiment or tor than the measurements are of is not told; nor is a version twice."""
    known = "beta is 0.4.9, and was 0.4.8"
    notes = [Note(source="x", at=typical(20).start, text=text, kind=k, subject=s) for text, k, s in NOTES]
    notes.append(Note(source="x", at=typical(51).start, text=known, kind="tor", subject="tor:beta"))
    with closing(open_database(stored.database)) as connection, transaction(connection):
        connection.executemany(NOTE_TABLE.insert, map(NOTE_TABLE.row, notes))
    wanted = {"of the experiment", "of a tor", "of all", "of the server"}
    _, out, _ = stored.perfd("compare", "--a", "tor=alpha", "--b", "tor=beta", "--json")
    warnings = [each.partition(": ")[2] for each in json.loads(out)["warnings"] if "was noted" in each]
    assert sorted(warnings) == sorted([*wanted, known])
    _, out, _ = stored.perfd("analyze", "--tor", "alpha", "--json", "--experiment", typical(0).experiment)
    assert {mark["text"] for mark in json.loads(out)["marks"]} == wanted
