"""Files of a running daemon that somebody deletes, moves or replaces: every record is in one of them afterwards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perfd.logfile.line import parse_file
from perfd.record import Measurement, Outcome
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from perfd.store.writer import insert_many
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.store import checkpoint
from tests.support.strategies import typical

DATABASE = ("perfd.sqlite", "perfd.sqlite-wal", "perfd.sqlite-shm")


class Replaced(TestInstance):
    """An instance whose database has a directory of its own, and a place to move files to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, SOCKS_CONFIG.replace("[server]", "database = sqlite:///data/perfd.sqlite\n[server]")
        )
        self.data = directory / "data"
        self.data.mkdir()
        self.moved = directory / "moved"
        self.moved.mkdir()

    def health(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.get("/health")[1])
        return report

    def stored(self) -> dict[str, int]:
        """In how many databases each measurement is."""
        found: dict[str, int] = {}
        for path in (self.data / "perfd.sqlite", self.moved / "perfd.sqlite"):
            if path.exists():
                with StoreReader(path) as reader:
                    for each in reader.measurements():
                        found[each.id] = found.get(each.id, 0) + 1
        return found

    def all_logged(self) -> list[Measurement]:
        """Those in the logs, wherever they are."""
        paths = [path for path in (self.moved / "perfd.log", self.log) if path.exists()]
        return [each for path in paths for each in parse_file(path) if isinstance(each, Measurement)]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Replaced]:
    """It runs, and has measured."""
    made = Replaced(tmp_path)
    made.start()
    made.wait_for_measurements(2, outcome=Outcome.OK)
    wait_for(lambda: len(made.results()) >= 2, "the rows")
    yield made
    made.perfd("stop")


def move(instance: Replaced, *names: str) -> None:
    for name in names:
        directory = instance.directory if name == "perfd.log" else instance.data
        (directory / name).rename(instance.moved / name)


def replace(instance: Replaced) -> None:
    """By a database of this schema, with records of its own."""
    other = instance.directory / "other.sqlite"
    with closing(open_database(other)) as connection:
        insert_many(connection, [typical(n) for n in range(3)])
    move(instance, "perfd.sqlite")
    other.rename(instance.data / "perfd.sqlite")


MOVES: dict[str, Callable[[Replaced], object]] = {
    "database alone": lambda it: move(it, "perfd.sqlite"),
    "database with its log": lambda it: move(it, *DATABASE),
    "log of the database": lambda it: move(it, "perfd.sqlite-wal"),
    "index of the log": lambda it: move(it, "perfd.sqlite-shm"),
    "database of this schema": replace,
    "perfd.log": lambda it: move(it, "perfd.log"),
    "everything": lambda it: move(it, *DATABASE, "perfd.log"),
}


@pytest.mark.parametrize("name", MOVES)
def test_moved(instance: Replaced, name: str) -> None:
    """Each measurement is in one log and in one database, nothing is told to be unwell, and it is told what was."""
    before = len(instance.all_logged())
    MOVES[name](instance)
    wait_for(lambda: len(instance.all_logged()) >= before + 3, "three more measurements")
    file = "log" if name == "perfd.log" else "database"
    health = wait_for(lambda: (it := instance.health())[f"{file}_replaced"] and it, "the report")
    assert (health["healthy"], health[file]) == (True, "ok")
    assert f"{file}: ok; it was deleted, moved or replaced at " in instance.perfd("status").stdout
    assert " while Perfd ran; it " in instance.log.read_text()
    assert instance.perfd("stop").returncode == 0
    logged = instance.all_logged()
    slots = [each.slot for each in logged]
    assert slots == [logged[0].slot + n for n in range(len(logged)) if logged[0].slot is not None]
    stored = instance.stored()
    assert {each.id: stored.get(each.id, 0) for each in logged} == dict.fromkeys((each.id for each in logged), 1)


@pytest.mark.parametrize("names", [("data/perfd.sqlite",), tuple(f"data/{name}" for name in DATABASE)])
def test_deleted(instance: Replaced, names: tuple[str, ...]) -> None:
    """Of the measurements after the deletion none is missing, and the log has all of them."""
    before = {each.id for each in instance.logged()}
    for name in names:
        (instance.directory / name).unlink()
    instance.wait_for_measurements(len(before) + 3)
    assert instance.perfd("stop").returncode == 0
    logged = {each.id for each in instance.logged()}
    assert before < logged
    assert set(instance.stored()) >= logged - before
    assert "was deleted or moved while Perfd ran" in instance.log.read_text()


def test_directory_vanished(instance: Replaced) -> None:
    """Records are held while there is no directory, which is told, and written when there is one."""
    before = {each.id for each in instance.logged()}
    shutil.rmtree(instance.data)
    health = wait_for(lambda: (it := instance.health())["database"] != "ok" and it, "the report")
    assert (health["healthy"], "there is no directory" in health["database"]) == (False, True)
    assert "there is no directory" in instance.perfd("status").stdout
    instance.wait_for_measurements(len(before) + 3)
    instance.data.mkdir()
    wait_for(lambda: instance.health()["database"] == "ok", "its end")
    assert instance.perfd("stop").returncode == 0
    logged = {each.id for each in instance.logged()}
    assert set(instance.stored()) >= logged - before


@pytest.mark.parametrize("in_place", [False, True])
def test_rubbish(instance: Replaced, in_place: bool) -> None:
    """A file that is no database is told, and records are held until it goes."""
    before = {each.id for each in instance.logged()}
    path = instance.data / "perfd.sqlite"
    checkpoint(path)
    if in_place:
        path.write_bytes(os.urandom(100_000))
    else:
        (instance.directory / "rubbish").write_bytes(os.urandom(100_000))
        (instance.directory / "rubbish").rename(path)
    health = wait_for(lambda: (it := instance.health())["database"] != "ok" and it, "the report")
    assert (health["healthy"], str(path) in health["database"]) == (False, True)
    assert str(path) in instance.log.read_text()
    instance.wait_for_measurements(len(before) + 3)
    path.unlink()
    wait_for(lambda: instance.health()["database"] == "ok", "its end")
    assert instance.perfd("stop").returncode == 0
    assert set(instance.stored()) >= {each.id for each in instance.logged()} - before
