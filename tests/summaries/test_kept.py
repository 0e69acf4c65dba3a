"""Summaries are always what the measurements say, whatever is done to these, by whom, and whenever it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.analysis.quantiles import quartiles
from perfd.processes.modules import module_environment
from perfd.record import Measurement, Outcome
from perfd.reports.runs import FIELDS, RunReader
from perfd.store.filters import Filter
from perfd.store.hours import stale_hours
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import load_upgrades, open_database
from perfd.summaries.hour import HOUR, MOST_VALUES, Hour, hours_of
from perfd.summaries.kept import read_hours, rebuild, summarize
from tests.support.strategies import measurements, typical

BEGIN = 1_700_000_000.0 // HOUR * HOUR
END = BEGIN + 8 * HOUR


EXTRA = {"COUNT": st.integers(1, 9), "OPTIMISTIC": st.integers(0, 1), "ARM": st.sampled_from(["plain", "other"])}


def recent(**fixed: Any) -> st.SearchStrategy[Measurement]:
    """Measurements of eight hours, which have few kinds."""
    few = {
        "start": st.integers(0, 8 * 3600 - 1).map(lambda seconds: BEGIN + seconds),
        "experiment": st.sampled_from("ab"),
        "source": st.just("example"),
        "type": st.sampled_from(["download", "request"]),
        "filesize": st.sampled_from([51200, 5 * 2**20]),
        "tor": st.none() | st.sampled_from("xy"),
        "server": st.just("public"),
        "extra": st.fixed_dictionaries({}, optional=EXTRA),
        "id": st.uuids().map(lambda each: each.hex),
    }
    return measurements(**{**few, **fixed})


def of_measurements(path: Path, experiment: str | None = None) -> list[Hour]:
    """What the measurements themselves say."""
    read = RunReader()
    with StoreReader(path) as reader:
        wanted = Filter(since=BEGIN, until=END, experiment=experiment, requests=False)
        return hours_of(map(read.run, reader.rows(FIELDS, wanted)))


def plain(hours: list[Hour]) -> list[Any]:
    """Something that can be compared, in an order of its own."""
    values = [
        {
            **attrs.asdict(hour, recurse=False),
            "outcomes": dict(hour.outcomes),
            "errors": dict(hour.errors),
            "samples": {name: list(each) for name, each in hour.samples.items()},
        }
        for hour in hours
    ]
    return sorted(values, key=repr)


STEPS = st.lists(
    st.tuples(st.just("add"), st.lists(recent(), max_size=6))
    | st.tuples(st.just("delete"), st.integers(0, 7))
    | st.tuples(st.just("change"), st.integers(0, 7))
    | st.tuples(st.just("summarize"), st.integers(0, 9) | st.none()),
    max_size=12,
)


@given(STEPS, st.sampled_from([None, "a"]))
def test_equal_to_the_measurements(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], experiment: str | None
) -> None:
    """After any additions, deletions and changes, and with any part of the hours summarized."""
    path = tmp_path_factory.mktemp("kept") / "db.sqlite"
    with closing(open_database(path)) as connection:
        for step, what in steps:
            since = BEGIN + (what if isinstance(what, int) else 0) * HOUR
            if step == "add":
                insert_many(connection, what)
            elif step == "delete":
                connection.execute("DELETE FROM measurements WHERE start BETWEEN ? AND ?", (since, since + 2000))
            elif step == "change":
                sql = "UPDATE measurements SET start = start + 1800 WHERE start BETWEEN ? AND ?"
                connection.execute(sql, (since, since + 1799))
            else:
                summarize(path, END, what)
    with StoreReader(path) as reader:
        assert plain(read_hours(reader, BEGIN, END, experiment)) == plain(of_measurements(path, experiment))
        assert plain(read_hours(reader, BEGIN, BEGIN + HOUR)) == plain(
            [hour for hour in of_measurements(path) if hour.start == BEGIN]
        )


def many(count: int, every: float = 60.0) -> list[Measurement]:
    """Runs that end after 1, 2 ... milliseconds."""
    return [
        typical(
            n, start=BEGIN + n * every, dataresponse=None, datacomplete=BEGIN + n * every + n / 1000, dataperc={}
        )
        for n in range(count)
    ]


def test_rows_of_summaries_are_read(tmp_path: Path) -> None:
    """An hour that is summarized is not read again; the one that goes on is not summarized."""
    path = tmp_path / "db.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, many(150))
    assert summarize(path, BEGIN + 2.5 * HOUR) == 0
    with StoreReader(path) as reader:
        before = plain(read_hours(reader, BEGIN, BEGIN + 3 * HOUR))
        assert reader.stale_hours(0, 2**40) == [int(BEGIN / HOUR) + 2]
        assert read_hours(reader, BEGIN, BEGIN + 3 * HOUR, most_computed=0)[-1].hour == int(BEGIN / HOUR) + 1
    with closing(open_database(path)) as connection:
        connection.execute("DROP TRIGGER measurement_deleted")
        connection.execute("DELETE FROM measurements WHERE start < ?", (BEGIN + 2 * HOUR,))
    with StoreReader(path) as reader:
        assert plain(read_hours(reader, BEGIN, BEGIN + 3 * HOUR)) == before
    told: list[tuple[int, int]] = []
    rebuild(path, END, lambda done, of: told.append((done, of)))
    assert told == [(1, 1)]
    with StoreReader(path) as reader:
        assert plain(read_hours(reader, BEGIN, END)) == plain(of_measurements(path))


@pytest.mark.parametrize(("most", "read"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3), (None, 3)])
def test_most_computed(tmp_path: Path, most: int | None, read: int) -> None:
    """Of three hours without a summary the last are computed."""
    path = tmp_path / "db.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, many(150))
    with StoreReader(path) as reader:
        found = read_hours(reader, BEGIN, END, most_computed=most)
    assert [hour.start for hour in found] == [BEGIN + n * HOUR for n in range(3 - read, 3)]


def test_read_while_others_write(tmp_path: Path) -> None:
    """What is read is of one time, even if all summaries are forgotten meanwhile."""
    path = tmp_path / "db.sqlite"

    class Disturbed(StoreReader):
        def stale_hours(self, first: int, last: int) -> list[int]:
            found = super().stale_hours(first, last)
            rebuild(path, 0.0, lambda done, of: None)
            return found

    with closing(open_database(path)) as connection:
        insert_many(connection, many(150))
    summarize(path, END)
    with Disturbed(path) as reader:
        first, second = (plain(read_hours(reader, BEGIN, END)) for _ in range(2))
    assert first == second == plain(of_measurements(path))


def test_most_values(tmp_path: Path) -> None:
    """Of very many values in an hour the quartiles stay what they are, to a thousandth of the ranks."""
    runs = many(3000, every=1.0)
    path = tmp_path / "db.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, runs)
    summarize(path, END)
    with StoreReader(path) as reader:
        (hour,) = read_hours(reader, BEGIN, END)
    assert hour.outcomes == {Outcome.OK.value: 3000}
    values = hour.samples["complete"]
    assert len(values) == MOST_VALUES
    assert (values[0], round(values[-1], 6)) == (0.0, 2.999)
    found, exact = quartiles(values), quartiles([n / 1000 for n in range(3000)])
    assert all(abs(a - b) <= 3 / MOST_VALUES for a, b in zip(found, exact, strict=True))


def test_killed(tmp_path: Path) -> None:
    """kill -9 in the middle leaves nothing half done."""
    path = tmp_path / "db.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, many(4000))
    code = (
        "import sys; from pathlib import Path; from perfd.summaries.kept import summarize\n"
        "summarize(Path(sys.argv[1]), 2e9, tell=lambda *_: (print('step', flush=True), sys.stdin.readline()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=module_environment(os.environ),
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"step\n"
        child.send_signal(signal.SIGKILL)
    with StoreReader(path) as reader:
        left = reader.stale_hours(0, 2**40)
        assert len(left) == 4000 // 60 + 1 - 24
        whole = read_hours(reader, BEGIN, BEGIN + 100 * HOUR)
    assert sum(sum(hour.outcomes.values()) for hour in whole) == 4000


def test_upgrade_to_arms(tmp_path: Path) -> None:
    """Hours of comparisons that an older version summed up are so no more; all others stay."""
    path = tmp_path / "db.sqlite"
    with closing(open_database(path, load_upgrades()[:14])) as connection:
        arms = [{"ARM": "plain"}, {"ARM": "plain"}, {}, {"A": float("inf")}]  # JSON that SQLite cannot read
        insert_many(
            connection, [typical(n, start=BEGIN + n // 2 * HOUR, extra=extra) for n, extra in enumerate(arms)]
        )
        connection.execute("DELETE FROM stale_hours")
    with closing(open_database(path)) as connection:
        assert stale_hours(connection) == [BEGIN / HOUR]
    with StoreReader(path) as reader:
        assert [hour.arm for hour in read_hours(reader, BEGIN, END)] == ["plain"]
