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
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.store import checkpoint
from tests.support.strategies import typical

DATABASE = ("perfd.sqlite", "perfd.sqlite-wal", "perfd.sqlite-shm")


class Replaced(TestInstance):
    """An instance whose database has a directory of its own, and places to move files to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, SOCKS_CONFIG.replace("[server]", "database = sqlite:///data/perfd.sqlite\n[server]")
        )
        self.data = directory / "data"
        self.data.mkdir()
        self.places: list[Path] = []

    def health(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.get("/health")[1])
        return report

    def stored(self) -> dict[str, int]:
        """In how many databases each measurement is."""
        found: dict[str, int] = {}
        for directory in (*self.places, self.data):
            if (path := directory / "perfd.sqlite").exists():
                with StoreReader(path) as reader:
                    for each in reader.measurements():
                        found[each.id] = found.get(each.id, 0) + 1
        return found

    def logs(self) -> list[Path]:
        """All of them, wherever they are."""
        return [path for each in (*self.places, self.directory) if (path := each / "perfd.log").exists()]

    def logged(self) -> list[Measurement]:
        return [each for path in self.logs() for each in parse_file(path) if isinstance(each, Measurement)]

    def move(self, *names: str) -> None:
        place = self.directory / f"moved-{len(self.places)}"
        place.mkdir()
        self.places.append(place)
        for name in names:
            directory = self.directory if name == "perfd.log" else self.data
            (directory / name).rename(place / name)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Replaced]:
    """It runs, and has measured."""
    made = Replaced(tmp_path)
    made.start()
    made.wait_for_measurements(2, outcome=Outcome.OK)
    wait_for(lambda: len(made.results()) >= 2, "the rows")
    yield made
    made.perfd("stop")


def replace(instance: Replaced) -> None:
    """By a database of this schema, with records of its own."""
    other = instance.directory / "other.sqlite"
    with closing(open_database(other)) as connection:
        insert_many(connection, [typical(n) for n in range(3)])
    instance.move("perfd.sqlite")
    other.rename(instance.data / "perfd.sqlite")


MOVES: dict[str, Callable[[Replaced], object]] = {
    "database alone": lambda it: it.move("perfd.sqlite"),
    "database with its log": lambda it: it.move(*DATABASE),
    "log of the database": lambda it: it.move("perfd.sqlite-wal"),
    "index of the log": lambda it: it.move("perfd.sqlite-shm"),
    "database of this schema": replace,
    "perfd.log": lambda it: it.move("perfd.log"),
    "everything": lambda it: it.move(*DATABASE, "perfd.log"),
}


@pytest.mark.long
def test_moved(instance: Replaced) -> None:
    """Each measurement is in one log and in one database, nothing is told to be unwell, and it is told what was."""
    for count, (name, move) in enumerate(MOVES.items(), 1):
        before = len(instance.logged())
        move(instance)
        wait_for(lambda before=before: len(instance.logged()) >= before + 2, f"two more measurements after {name}")
        file = "log" if name == "perfd.log" else "database"
        health = wait_for(lambda file=file: (it := instance.health())[f"{file}_replaced"] and it, "the report")
        assert (health["healthy"], health[file]) == (True, "ok"), name
        told = "".join(path.read_text() for path in instance.logs()).count(" while Perfd ran; it ")
        assert told == count + (name == "everything"), name
    status = instance.perfd("status").stdout
    assert "database: ok; it was deleted, moved or replaced at " in status
    assert "log: ok; it was deleted, moved or replaced at " in status
    assert instance.perfd("stop").returncode == 0
    logged = instance.logged()
    slots = [each.slot for each in logged]
    assert slots == [logged[0].slot + n for n in range(len(logged)) if logged[0].slot is not None]
    stored = instance.stored()
    assert {each.id: stored.get(each.id, 0) for each in logged} == dict.fromkeys((each.id for each in logged), 1)


def test_deleted(instance: Replaced) -> None:
    """Of the measurements after a deletion none is missing, and the log has all of them."""
    for count, names in enumerate((("perfd.sqlite",), DATABASE), 1):
        before = {each.id for each in instance.logged()}
        for name in names:
            (instance.data / name).unlink()
        instance.wait_for_measurements(len(before) + 3)
        wait_for(instance.results, "results")
        assert instance.log.read_text().count("was deleted or moved while Perfd ran") == count
    assert instance.perfd("stop").returncode == 0
    logged = {each.id for each in instance.logged()}
    assert before < logged
    assert set(instance.stored()) >= logged - before


def vanish(instance: Replaced) -> str:
    """The whole directory is deleted."""
    shutil.rmtree(instance.data)
    return f"there is no directory {instance.data}"


def rubbish(instance: Replaced) -> str:
    """A file that is no database takes the place."""
    other = instance.directory / "rubbish"
    other.write_bytes(os.urandom(100_000))
    other.rename(instance.data / "perfd.sqlite")
    return f"{instance.data / 'perfd.sqlite'} is not a database"


def overwrite(instance: Replaced) -> str:
    """The same in place."""
    checkpoint(instance.data / "perfd.sqlite")
    (instance.data / "perfd.sqlite").write_bytes(os.urandom(100_000))
    return str(instance.data / "perfd.sqlite")


@pytest.mark.parametrize(
    "trouble", [vanish, *(pytest.param(each, marks=pytest.mark.long) for each in (rubbish, overwrite))]
)
def test_held(instance: Replaced, trouble: Callable[[Replaced], str]) -> None:
    """While there can be no database that is told, and records are held; when there can, all of them are in it."""
    before = {each.id for each in instance.logged()}
    text = trouble(instance)
    health = wait_for(lambda: (it := instance.health())["database"] != "ok" and it, "the report")
    assert (health["healthy"], text in health["database"]) == (False, True)
    assert text in instance.perfd("status").stdout
    assert text in instance.log.read_text()
    instance.wait_for_measurements(len(before) + 2)
    while instance.data.exists():  # the daemon may make a file there meanwhile
        shutil.rmtree(instance.data, ignore_errors=True)
    instance.data.mkdir()
    wait_for(lambda: instance.health()["database"] == "ok", "its end")
    assert instance.perfd("stop").returncode == 0
    assert set(instance.stored()) >= {each.id for each in instance.logged()} - before
