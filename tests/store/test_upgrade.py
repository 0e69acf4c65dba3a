"""Databases of older versions are brought up to date: what becomes of their rows, and when that is cut off."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perfd.record import Outcome
from perfd.store import schema
from perfd.store.database import StoreError
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.store.schema import load_upgrades, open_database
from tests.support.places import CHECKOUT
from tests.support.store import insert_old
from tests.support.strategies import typical

FIRST = 3
"""The version of 0.1.0."""


def make_old(path: Path, measurements: list[Any]) -> sqlite3.Connection:
    """A database as 0.1.0 left it."""
    connection = open_database(path, load_upgrades()[:FIRST])
    insert_old(connection, measurements)
    return connection


def add_circuit(connection: sqlite3.Connection, name: str, **values: Any) -> None:
    values = {
        "id": name,
        "first_seen": 1.0,
        "source": "s",
        "tor": "t",
        "circ_id": 1,
        "status": "CLOSED",
        "launch": 1.0,
        "path": json.dumps([["$A", None, 1.1], ["$B", None, 1.2]]),
        **values,
    }
    columns = ", ".join(values)
    connection.execute(
        f"INSERT INTO circuits ({columns}) VALUES ({', '.join('?' * len(values))})", [*values.values()]
    )


def test_suspects(tmp_path: Path) -> None:
    """What older versions stored wrongly is marked where that can be known, and nothing else."""
    path = tmp_path / "perfd.sqlite"
    no_stream = {"used_by": None, "used_at": None, "circ_id": None, "path": None}
    rows = {
        "stream": typical(1, **no_stream, extra={"FOO": 1}),
        "series": typical(2, type="request", extra={"SERIES": "gone", "REQUESTNUMBER": 0}, slot=None),
        "slot": typical(3, id="f" * 32, slot=typical(0).slot),
    }
    fine = [
        typical(0),
        typical(4, **no_stream, tor="none"),
        typical(5, **no_stream, network="socks"),
        typical(6, **no_stream, network=None),  # imported
        typical(7, **no_stream, outcome=Outcome.FAILED, datacomplete=None),
        typical(8, type="series"),
        typical(9, type="request", extra={"SERIES": typical(8).id}, slot=None),
        typical(10, slot=typical(0).slot, tor="other"),
        typical(11, slot=typical(0).slot, extra={"REPEATED": 1}),
        typical(12, slot=typical(0).slot, experiment="other"),
        typical(13, **no_stream, extra={"A": float("inf")}),  # JSON that SQLite cannot read
        typical(14, slot=typical(0).slot, experiment="odd", extra={"A": float("nan")}),
    ]
    with closing(make_old(path, [*fine, *rows.values()])) as connection:
        add_circuit(connection, "built", purpose="MEASURE_TIMEOUT", built=2.0)
        add_circuit(connection, "hops", conflux_id="C", built=2.0, path='[["$A", null, 1.1], ["$B", null, null]]')
        add_circuit(connection, "fine", purpose="GENERAL", built=2.0, conflux_id="C")
        add_circuit(connection, "given up", purpose="MEASURE_TIMEOUT")
        add_circuit(connection, "before", built=2.0, launch=None, conflux_id="C", path='[["$A", null, null]]')
    open_database(path).close()
    with StoreReader(path) as reader:
        marked = {m.id: m.extra["SUSPECT"] for m in reader.measurements() if "SUSPECT" in m.extra}
        assert marked == {m.id: word for word, m in rows.items()}
        assert reader.measurement(typical(1).id).extra == {"FOO": 1, "SUSPECT": "stream"}  # type: ignore[union-attr]
        suspects = {circuit.id: circuit.suspect for circuit in reader.circuits()}
        assert suspects == {"built": "built", "hops": "hops", "fine": None, "given up": None, "before": None}
        assert reader.count(Filter(outcome=Outcome.FAILED)) == 1


def test_progress(tmp_path: Path) -> None:
    """It is said what is done, and where the copy is."""
    path = tmp_path / "perfd.sqlite"
    make_old(path, [typical(n) for n in range(10)]).close()
    told: list[str] = []
    open_database(path, tell=told.append).close()
    assert told[0].startswith("copying the database to perfd.sqlite.version-3: ")
    assert "upgrading the database to version 5: step 1 of 3" in told
    assert told[-1].startswith(f"the database is of version {len(load_upgrades())} now; ")
    assert "perfd.sqlite.version-3" in told[-1]
    assert oct((tmp_path / "perfd.sqlite.version-3").stat().st_mode & 0o777) == "0o600"
    told.clear()
    open_database(path, tell=told.append).close()
    open_database(tmp_path / "new.sqlite", tell=told.append).close()
    assert told == []


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for it nothing is begun, and the message says how much is needed."""
    path = tmp_path / "perfd.sqlite"
    make_old(path, [typical(n) for n in range(1000)]).close()
    before = path.read_bytes()

    class Usage(NamedTuple):
        total: int = 10**12
        used: int = 10**12
        free: int = 1 << 20

    monkeypatch.setattr(schema.shutil, "disk_usage", lambda _: Usage())
    with pytest.raises(StoreError, match=r"perfd.sqlite must be upgraded, which needs .* KiB in .* 1 MiB are free"):
        open_database(path)
    assert (path.read_bytes(), [*tmp_path.glob("*version*")]) == (before, [])


CHILD = """
import sys
from pathlib import Path
from perfd.store.schema import open_database
print("begun", flush=True)
open_database(Path(sys.argv[1])).close()
print("done", flush=True)
"""


def test_killed(tmp_path: Path) -> None:
    """Killed at any moment, it is as before or as after; the next start does it, and nothing is lost."""
    old = tmp_path / "old.sqlite"
    measurements = [typical(n) for n in range(6000)]
    make_old(old, measurements).close()
    began = time.monotonic()
    shutil.copy(old, tmp_path / "whole.sqlite")
    open_database(tmp_path / "whole.sqlite").close()
    whole = time.monotonic() - began
    seed = int(time.time())
    chance, fates = random.Random(seed), set()
    for attempt in range(6):
        path = tmp_path / f"{attempt}.sqlite"
        shutil.copy(old, path)
        command = [sys.executable, "-c", CHILD, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0.0, whole))
            child.send_signal(signal.SIGKILL)
            fates.add(child.stdout.read())
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            assert version in (FIRST, len(load_upgrades())), seed
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), seed
        open_database(path).close()
        with StoreReader(path) as reader:
            assert reader.count() == len(measurements), seed
    assert "" in fates, "none was killed before its end"
