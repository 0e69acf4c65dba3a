"""Pages that are kept: as long as nothing of what they show has changed, by whomever, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from perfd.pages.kept import LONGEST, MOST, KeptPages
from perfd.pages.layout import Page
from perfd.pages.records import PageRequest, View
from perfd.record import Note
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import NOTES
from perfd.store.schema import open_database
from tests.support.pages import NOW, recent, state

FILE = (1, 2)


class Counting:
    """Makes pages, and counts them."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._kept = KeptPages()

    def make(self, reader: StoreReader, request: PageRequest) -> Page:
        self.count += 1
        return Page(f"{self.count}", "", [])

    def ask(self, request: PageRequest, file: tuple[int, int] = FILE) -> str:
        with StoreReader(self._path) as reader:
            return self._kept.page(reader, request, file, self.make).title


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a run of each of two experiments."""
    found = tmp_path / "perfd.sqlite"
    with closing(open_database(found)) as connection:
        insert_many(connection, [recent(1, experiment="a"), recent(2, experiment="b")])
    return found


def asked(name: str = "experiment", now: float = NOW, theme: str = "", **arguments: str) -> PageRequest:
    view = View(f"/{name}", arguments, theme)
    if name == "experiment":
        arguments = {"name": "a", **arguments}
    return PageRequest(name=name, view=view, arguments=arguments, state=state(["a", "b"], now=now))


def change(path: Path, sql: str) -> Callable[[], None]:
    def work() -> None:
        with closing(open_database(path)) as connection, connection:
            connection.execute(sql)

    return work


def test_until_something_changes(path: Path) -> None:
    """Each change of its own measurements, and a note, make a page anew; those of others do not."""
    pages = Counting(path)

    def add(number: int, experiment: str) -> None:
        with closing(open_database(path)) as connection:
            insert_many(connection, [recent(number, experiment=experiment)])

    def note() -> None:
        with closing(open_database(path)) as connection, connection:
            connection.execute(NOTES.insert, NOTES.row(Note(source="example", at=NOW, text="moved")))

    assert pages.ask(asked()) == "1"
    for work, made in (
        (lambda: None, 1),
        (lambda: add(3, "b"), 1),
        (lambda: add(4, "a"), 2),
        (lambda: add(4, "a"), 2),  # it is there already
        (change(path, "UPDATE measurements SET reason = 'x' WHERE experiment = 'a'"), 3),
        (change(path, "UPDATE measurements SET reason = 'x' WHERE experiment = 'b'"), 3),
        (change(path, f"DELETE FROM measurements WHERE id = '{4:032x}'"), 4),
        (change(path, "UPDATE measurements SET experiment = 'a' WHERE experiment = 'b'"), 5),
        (note, 6),
    ):
        work()
        pages.ask(asked())
        assert pages.count == made


def test_of_all(path: Path) -> None:
    """A page of all experiments changes with each of them; what shows the daemon's state is never kept."""
    pages = Counting(path)
    for made, name, experiment in (
        (1, "relays", "a"),
        (2, "relays", "b"),
        (3, "overview", "-"),
        (4, "overview", "-"),
    ):
        pages.ask(asked(name))
        pages.ask(asked(name)) if name == "relays" else None
        assert pages.count == made
        change(path, f"UPDATE measurements SET reason = 'x' WHERE experiment = '{experiment}'")()


def test_each_request_its_own(path: Path) -> None:
    """Other arguments, colours, another configuration and another database are other pages."""
    pages = Counting(path)
    plain = asked()
    slower = attrs.evolve(plain.state.experiments[0], interval=600.0)
    others = [
        plain,
        asked(period="day"),
        asked(theme="dark"),
        attrs.evolve(plain, state=attrs.evolve(plain.state, experiments=(slower,))),
    ]
    for _ in range(2):
        assert [pages.ask(request) for request in others] == ["1", "2", "3", "4"]
    assert pages.ask(plain, (1, 3)) == "5"


@pytest.mark.parametrize(("period", "life"), [("day", 864.0), ("year", LONGEST)])
def test_not_for_ever(path: Path, period: str, life: float) -> None:
    """What falls out of the period is seen to; a clock that is set back makes pages anew."""
    pages = Counting(path)
    for now, made in ((NOW, 1), (NOW + life - 1, 1), (NOW + life, 2), (NOW, 3)):
        pages.ask(asked(now=now, period=period))
        assert pages.count == made


def test_most(path: Path) -> None:
    """There is room for so many; what was not asked for the longest goes."""
    pages = Counting(path)
    requests = [asked(number=str(n)) for n in range(MOST + 1)]
    for request in requests[:MOST]:
        pages.ask(request)
    pages.ask(requests[0])
    pages.ask(requests[MOST])
    assert pages.ask(requests[0]) == "1"
    assert pages.ask(requests[1]) == str(MOST + 2)
