"""What the command lines of several commands have in common."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perfd.cli.output import complain, in_words
from perfd.cli.times import parse_time
from perfd.instance import CONFIG_FILE
from perfd.store.parameters import EXCLUDING, Parameter

if TYPE_CHECKING:
    from perfd.cli.csv_output import CSV
    from perfd.cli.tables import Display

T = TypeVar("T")

TIMES = ("since", "until")
"""What is a time, which the command line understands in more forms than HTTP."""

PAGING = ("limit", "after", "count")
"""What the commands have in a way of their own."""


@attrs.frozen
class Given:
    """A filter with its value, and as it was written."""

    name: str
    value: Any
    text: str


def argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """``read`` for argparse, which shows a ValueError's message only if it is an ArgumentTypeError."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``: which instance."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(CONFIG_FILE),
        metavar="FILE",
        help="perfd.conf, or the directory it is in",
    )


def display_options(parser: argparse.ArgumentParser, json: str = "a JSON object per line") -> None:
    """Add how results are shown: ``--json``, gives what ``json`` says; ``--csv``, ``--plain``, ``--no-color``."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--json", action="store_true", help=json)
    ways.add_argument("--csv", action="store_true", help="as CSV, with a column for each key")
    parser.add_argument(
        "--plain", action="store_true", help="as where there is no terminal: no colours, no pager, whole lines"
    )
    parser.add_argument("--no-color", action="store_true", help="no colours; NO_COLOR=1 does the same")


def display(options: argparse.Namespace) -> Display | CSV | None:
    """How they are shown: as tables, as CSV, or, if it is None, as JSON."""
    if options.json:
        return None
    if options.csv:
        from perfd.cli.csv_output import CSV  # noqa: PLC0415

        return CSV()
    from perfd.cli.tables import Display  # noqa: PLC0415 - --help must not wait for it

    return Display.of_terminal(plain=options.plain, color=not options.no_color)


def filter_options(parser: argparse.ArgumentParser, asked: Sequence[Parameter]) -> None:
    """Add an option for each thing that may be asked of records, but for paging."""
    group = parser.add_argument_group("filters", _FILTERS if any(each.is_of_relays for each in asked) else None)
    for parameter in asked:
        if parameter.name in PAGING:
            continue
        words = f"{{{','.join(parameter.words)}}}" if parameter.words else parameter.name.upper()
        doc = parameter.doc.replace("`", "") + ("; also 1h, yesterday, 2026-11" if parameter.name in TIMES else "")
        group.add_argument(
            f"--{parameter.name}",
            dest=parameter.name,
            type=argument(reading(parameter)),
            metavar=words,
            help=argparse.SUPPRESS if parameter.name.startswith(EXCLUDING) else doc,
        )


_FILTERS = (
    "Several values have commas between. With not- in front of its name (--not-exit) a filter is for what is left "
    "out. @FILE stands for a list of fingerprints in a file, which may have comments behind #."
)


def reading(parameter: Parameter) -> Callable[[str], Any]:
    """How the command line reads a parameter: as HTTP does, but for times and files."""
    if parameter.name in TIMES:
        return lambda text: parse_time(text, time.time(), parameter.read)
    if parameter.is_of_relays:
        return lambda text: parameter.read(_in_file(text))
    return parameter.read


def _in_file(text: str) -> str:
    """The list that is in the file, if ``text`` is @FILE. Raises ValueError if that cannot be read."""
    if not text.startswith("@"):
        return text
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{text[1:]} cannot be read: {error}") from None
    found = [word for line in lines for word in line.partition("#")[0].replace(",", " ").split()]
    if not found:
        raise ValueError(f"{text[1:]} has no fingerprints")
    return ",".join(found)


def guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """``command``, with errors of the database and the disk as messages and exit code 1."""

    def run(options: argparse.Namespace) -> int:
        import sqlite3  # noqa: PLC0415

        from perfd.formats.table import MissingLibraryError  # noqa: PLC0415
        from perfd.store.database import StoreError  # noqa: PLC0415

        try:
            return command(options)
        except BrokenPipeError:
            raise  # the command line's own business
        except (StoreError, MissingLibraryError) as error:
            message = str(error)
        except sqlite3.Error as error:
            message = f"the database: {error}"
        except OSError as error:
            message = in_words(error)
        complain(message)
        return 1

    return run


def pair(text: str) -> tuple[str, str]:
    """The name and the value of ``OPTION=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is not OPTION=VALUE")
    return name.strip(), value.strip()


def count(text: str) -> int:
    """A number from 1."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)
