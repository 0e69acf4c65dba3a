"""``perfd note``: what the operator wants remembered of a time."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from perfd.cli.arguments import argument, config_option, display, display_options, guarded
from perfd.cli.instances import load_as_owner
from perfd.cli.output import complain
from perfd.cli.times import parse_time
from perfd.config import Config
from perfd.store import parameters

if TYPE_CHECKING:
    from perfd.cli.csv_output import CSV
    from perfd.cli.tables import Display

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LONGEST = 200  # characters


def add_command(commands: _Commands) -> None:
    """Add it to those of ``perfd``."""
    parser = commands.add_parser(
        "note",
        help="remember that something changed, such as the host or the network",
        description="Keeps a note of a time in the database. Charts of `perfd analyze` show it, and "
        "`perfd compare` warns where two sets of measurements span it. Perfd itself notes when versions, "
        "perfd.conf or parameters of the consensus change.",
        epilog="example: perfd note 'moved to another host' --at 2026-11-20T12:00",
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", type=argument(_text))
    parser.add_argument("--at", metavar="TIME", type=argument(_time), help="when it was (default: now)")
    parser.add_argument("--list", action="store_true", help="show all notes, the oldest first")
    config_option(parser)
    display_options(parser, "with --list: a JSON object per line")
    parser.set_defaults(command=guarded(_note))


def _text(text: str) -> str:
    if not text.strip() or len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"a note is one line of at most {LONGEST} characters")
    return text.strip()


def _time(text: str) -> float:
    read = next(each.read for each in parameters.WINDOW if each.name == "since")
    return parse_time(text, time.time(), read)


def _note(options: argparse.Namespace) -> int:
    if options.list == (options.text is not None):
        complain("note: give the text of a note, or --list")
        return 2
    config = load_as_owner(options.config, writes=True)
    if options.list:
        _list(config, display(options))
    else:
        _keep(config, options.text, time.time() if options.at is None else options.at)
    return 0


def _keep(config: Config, text: str, at: float) -> None:
    from perfd.record import Note  # noqa: PLC0415 - --help must not wait for it
    from perfd.store.database import database_path, transaction  # noqa: PLC0415
    from perfd.store.rows import NOTES  # noqa: PLC0415
    from perfd.store.schema import open_database  # noqa: PLC0415

    note = Note(source=config.source, at=at, text=text)
    path = database_path(config.database, config.directory)
    with closing(open_database(path)) as connection, transaction(connection):
        connection.execute(NOTES.insert, NOTES.row(note))


def _list(config: Config, shown: Display | CSV | None) -> None:
    import attrs  # noqa: PLC0415

    from perfd.cli.csv_output import CSV  # noqa: PLC0415
    from perfd.cli.results import date  # noqa: PLC0415
    from perfd.cli.tables import Column, Table  # noqa: PLC0415
    from perfd.record import Note  # noqa: PLC0415
    from perfd.store.database import database_path  # noqa: PLC0415
    from perfd.store.filters import NoteFilter  # noqa: PLC0415
    from perfd.store.reader import StoreReader  # noqa: PLC0415

    with StoreReader(database_path(config.database, config.directory)) as reader:
        found = reader.notes(NoteFilter(oldest_first=True))
    if shown is None:
        for note in found:
            sys.stdout.write(json.dumps(attrs.asdict(note)) + "\n")
    elif isinstance(shown, CSV):
        shown.records([attrs.asdict(note) for note in found], [field.name for field in attrs.fields(Note)])
    elif found:
        rows = [(date(note.at), note.text) for note in found]  # with the year: notes are kept for long
        shown.show([Table("Notes", (Column("time (UTC)"), Column("note", prose=True)), rows)])
    else:
        sys.stdout.write("there are no notes\n")
