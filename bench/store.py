"""The database: writing a million measurements, reading one day of them as JSON, and what a day adds to the disk.

The floor of writing is plain SQLite that inserts ready-made rows into the same tables.
Run from the checkout: python -m bench.store
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from bench.compare import Comparison, median_interval
from bench.verdict import verdict
from perfd.formats.imported import measurement_id
from perfd.logfile.line import render
from perfd.record import PARTIALS, Attach, Circuit, Event, Hop, Measurement, Stream, new_id
from perfd.store.database import prepare_for_bulk, transaction
from perfd.store.filters import Filter
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, MEASUREMENTS, STREAMS, Row, Table
from perfd.store.schema import open_database
from tests.support.strategies import typical

BATCHES, SLOTS = 200, 4000
"""200 times what the default set measures in 4,000 slots of five minutes (two weeks): a million measurements."""

BLOCKS = 20
INSERTS = 30
"""Single measurements in a block, with the triggers of summaries and without."""

TRIGGERS = ("measurement_added", "measurement_changed", "measurement_deleted")

UPGRADES = 3
"""How often each; one takes a minute."""

DAY = 86400.0
SLOTS_A_DAY = 288
CIRCUITS_A_DAY = 4000
QUERIES = 11
MIB = 2**20

DEFAULT_SET = {"download-50k": (51200, 1), "download-1m": (MIB, 6), "download-5m": (5 * MIB, 12)}
"""The default experiments: the bytes, and the slots of five minutes between two runs."""


def run(slot: int, experiment: str, size: int) -> Measurement:
    """A measurement with all that Perfd knows of one, under an id as imports give it."""
    start = typical(slot).start
    return typical(
        slot,
        id=measurement_id("example", size, f"{start:.2f}", None),
        experiment=experiment,
        filesize=size,
        payloadbytes=size,
        partial={received: round(start + 0.7 + received / size, 6) for received in PARTIALS if received <= size},
    )


def runs(slots: range) -> list[Measurement]:
    """What the default set measures in ``slots``."""
    return [
        run(slot, name, size) for slot in slots for name, (size, every) in DEFAULT_SET.items() if slot % every == 0
    ]


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """How long ``function`` takes, and how long the processor works for it."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def fill(path: Path) -> None:
    """Make the database and print how fast that was, in blocks of ours and the floor in random order."""
    comparison = Comparison("insert_many", "floor")
    batches = iter(range(BATCHES))
    with closing(open_database(path)) as connection:
        prepare_for_bulk(connection)
        for _ in range(BLOCKS):
            for way in comparison.block(BATCHES // BLOCKS // 2):
                n = next(batches)
                batch = runs(range(n * SLOTS, (n + 1) * SLOTS))
                work: Callable[[], object]
                if way == "insert_many":
                    work = partial(insert_many, connection, batch)
                else:
                    work = partial(insert_rows, connection, MEASUREMENTS, list(map(MEASUREMENTS.row, batch)))
                wall, processor = seconds(work)
                comparison.add(way, wall=wall / len(batch), processor=processor / len(batch))
    wall, processor = (comparison.median(name, "insert_many") for name in ("wall", "processor"))
    print(f"insert_many, thousand measurements/s: {0.001 / wall:.3g} (an import must reach 20, reading included)")
    ratio = comparison.ratio("wall", "insert_many", "floor")
    print(f"  a second of processor time: {0.001 / processor:.3g}; time / floor: {ratio}")


def mark(directory: Path) -> None:
    """Print by how much it slows the writer down that the hour of a measurement is marked as stale."""
    comparison = Comparison("marked", "plain")
    slots = iter(range(2 * BLOCKS * INSERTS))
    with ExitStack() as stack:
        connections = {
            way: stack.enter_context(closing(open_database(directory / f"{way}.sqlite")))
            for way in ("marked", "plain")
        }
        for trigger in TRIGGERS:
            connections["plain"].execute(f"DROP TRIGGER {trigger}")
        for _ in range(BLOCKS):
            for way in comparison.block(INSERTS):
                measurement = run(next(slots), "download-50k", 51200)
                wall, _ = seconds(partial(insert_many, connections[way], [measurement]))
                comparison.add(way, wall=wall)
    whole = comparison.median("wall", "plain") * 1e6
    found = comparison.difference("wall", "marked", "plain").scaled(1e6)
    print(f"adding one measurement, microseconds: {whole:.3g}; marking its hour besides: {found}")


def insert_rows(connection: sqlite3.Connection, table: Table[Any], rows: Iterable[Row]) -> None:
    """Nothing but SQLite's own work, if the rows are ready made."""
    with transaction(connection):
        connection.executemany(table.insert, rows)


def read_days(path: Path) -> None:
    """Print how long one day takes, from opening the database to the JSON text."""
    middle = typical(BATCHES * SLOTS // 2).start
    for what, wanted in (("one experiment", Filter(experiment="download-50k")), ("all experiments", Filter())):
        day = attrs.evolve(wanted, since=middle, until=middle + DAY)
        times = [seconds(partial(as_json, path, day))[0] * 1e3 for _ in range(QUERIES)]
        found = len(json.loads(as_json(path, day))["results"])
        print(
            f"one day of {what} ({found}) as JSON, ms: {verdict(median_interval(times), '<= 50')}, "
            f"first {times[0]:.3g}"
        )


def as_json(path: Path, wanted: Filter) -> str:
    """What ``/results`` answers."""
    with StoreReader(path) as reader:
        return json.dumps({"results": [m.as_dict() for m in reader.measurements(wanted)], "next": None})


def circuit(n: int) -> tuple[Circuit, Stream]:
    """A circuit of the default set's day and the stream on it."""
    at = typical().start + n * DAY / CIRCUITS_A_DAY
    events = tuple(Event(round(at + k / 3, 6), f"CIRC_MINOR {k}") for k in range(8))
    identity = new_id()
    return Circuit(
        id=identity,
        source="example",
        tor="default",
        circ_id=n,
        launch=at,
        built=at + 0.345678,
        end=at + 600.123456,
        status="CLOSED",
        purpose="CONFLUX_LINKED",
        build_flags=("NEED_CAPACITY",),
        path=tuple(Hop(f"${letter * 40}", f"nickname{letter}", at + 0.123456) for letter in "ABC"),
        failure_local="FINISHED",
        timeout=1500,
        quantile=0.8,
        cbt_set=True,
        conflux_id="D" * 64,
        cc_cwnd=124,
        cc_rtt=0.123456,
        cc_min_rtt=0.123456,
        events=events,
    ), Stream(
        id=new_id(),
        source="example",
        tor="default",
        stream_id=n,
        new=at,
        end=at + 1.234567,
        status="CLOSED",
        target="192.0.2.1:8080",
        source_addr="127.0.0.1:43221",
        measurement=new_id(),
        circuit=identity,
        attaches=(Attach(n, at + 0.123456),),
        failure_local="DONE",
        events=events[:5],
    )


def add_a_day(path: Path) -> None:
    """Print what 24 hours of the default set add to the disk."""
    before = path.stat().st_size
    day = runs(range(BATCHES * SLOTS, BATCHES * SLOTS + SLOTS_A_DAY))
    circuits, streams = zip(*map(circuit, range(CIRCUITS_A_DAY)), strict=True)
    with closing(open_database(path)) as connection:
        insert_many(connection, day)
        insert_rows(connection, CIRCUITS, map(CIRCUITS.row, circuits))
        insert_rows(connection, STREAMS, map(STREAMS.row, streams))
    database = (path.stat().st_size - before) / MIB
    log = sum(len(render(measurement)) + 80 for measurement in day) / MIB  # 80: date, time, system
    print(
        f"24 h of the default set ({len(day)} measurements, {CIRCUITS_A_DAY} circuits with a stream each), MiB: "
        f"{verdict(database + log, '<= 20')}, {database:.3g} in the database and {log:.3g} in perfd.log"
    )


def upgrade(path: Path) -> None:
    """Print how long the upgrade from the version of 0.1.0 takes, beside plain SQLite that copies the file."""
    comparison = Comparison("upgrade", "copy")
    for way in comparison.block(UPGRADES):
        with closing(open_database(path)) as connection:
            _downgrade(connection)
            if way == "copy":
                taken, _ = seconds(partial(connection.execute, f"VACUUM INTO '{path}.copy'"))
                path.with_name(f"{path.name}.copy").unlink()
        if way == "upgrade":
            taken, _ = seconds(lambda: open_database(path).close())
        comparison.add(way, wall=taken)
    found = comparison.median("wall", "upgrade")
    print(f"upgrade of a million measurements from version 3, its copy included, s: {found:.3g}")
    ratio = comparison.ratio("wall", "upgrade", "copy")
    print(f"  plain SQLite copies the file in, s: {comparison.median('wall', 'copy'):.3g}; time / copy: {ratio}")


def _downgrade(connection: sqlite3.Connection) -> None:
    """Take away all that came after version 3."""
    for index in ("outcome", "errorcode", "guard", "comparison"):
        connection.execute(f"DROP INDEX IF EXISTS measurements_by_{index}")
    columns = {
        "circuits": ("suspect", "filtered_out", "current_guards"),
        "measurements": ("links",),
    }
    for table, names in columns.items():
        for name in names:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    for table in ("documents", "comparisons", "notes", "hours", "stale_hours"):
        connection.execute(f"DROP TABLE {table}")
    for trigger in TRIGGERS:
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("PRAGMA user_version = 3")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        mark(Path(directory))
        path = Path(directory) / "perfd.sqlite"
        fill(path)
        size = path.stat().st_size / MIB
        print(f"database of a million measurements: {size:,.0f} MiB")
        read_days(path)
        add_a_day(path)
        upgrade(path)


if __name__ == "__main__":
    main()
