"""Instances with a database and no daemon, for the tests of what works on the database alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from perfd.cli.command import main
from perfd.config import Config, parse_config
from perfd.record import Circuit, Curve, Measurement, Stream, TorEvent
from perfd.store.database import transaction
from perfd.store.filters import Filter
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, CURVES, EVENTS, STREAMS
from perfd.store.schema import open_database

CONFIG = "[perfd]\nsource = example\nnetwork = socks\n"


class Stored:
    """An instance in ``directory``, whose database has what ``add`` was given."""

    def __init__(self, directory: Path, config: str = CONFIG) -> None:
        self.directory = directory
        self.database = directory / "perfd.sqlite"
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(config)

    def configure(self, text: str) -> None:
        (self.directory / "perfd.conf").write_text(text)

    @property
    def config(self) -> Config:
        path = self.directory / "perfd.conf"
        return parse_config(path.read_text(), path)

    def add(
        self,
        measurements: Iterable[Measurement] = (),
        circuits: Iterable[Circuit] = (),
        streams: Iterable[Stream] = (),
        events: Iterable[TorEvent] = (),
        curves: Iterable[Curve] = (),
    ) -> None:
        with closing(open_database(self.database)) as connection, transaction(connection):
            insert_many(connection, measurements)
            connection.executemany(CIRCUITS.insert, map(CIRCUITS.row, circuits))
            connection.executemany(STREAMS.insert, map(STREAMS.row, streams))
            connection.executemany(EVENTS.insert, map(EVENTS.row, events))
            connection.executemany(CURVES.insert, map(CURVES.row, curves))

    def measurements(self) -> list[Measurement]:
        """All, the oldest first."""
        with StoreReader(self.database) as reader:
            return reader.measurements(Filter(oldest_first=True))

    def circuits(self) -> list[Circuit]:
        with StoreReader(self.database) as reader:
            return reader.circuits()

    def streams(self) -> list[Stream]:
        with StoreReader(self.database) as reader:
            return reader.streams()

    def perfd(self, command: str, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([command, "--config", str(self.directory), *map(str, arguments)])
        return code, out.getvalue(), err.getvalue()
