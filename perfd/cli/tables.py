"""Tables for people: columns without borders, as wide as the terminal is; without one, for other programs.

Where there is no room, what is wordy goes below its row, then the columns that matter least are left out (and
named), and at last each row becomes a paragraph. Nothing is cut: an error code or a name is whole or not there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import attrs
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
"""Between two columns."""

INDENT = "    "
"""Before what goes below its row."""

PROSE = 20
"""The fewest characters in which prose is worth a column of its own."""

STYLES = {"failed": "bold red", "timeout": "bold red", "skipped": "yellow", "cancelled": "yellow"}
"""How cells look that are these words."""

Rows = Sequence[Sequence[str]]


@attrs.frozen
class Column:
    """A column, and what may become of it."""

    heading: str
    number: bool = False  # stands at the right of its column
    rank: int = 0  # the higher, the sooner it is left out; 0: never
    prose: bool = False  # may be wrapped, or stand below its row
    of: str = ""  # the column that it belongs to, named where it is left out


@attrs.frozen
class Table:
    """What is shown under a title."""

    title: str
    columns: Sequence[Column]
    rows: Rows


@attrs.frozen
class Display:
    """How tables are shown: as wide as ``width``, or, if that is None, as wide as they are."""

    console: Console
    width: int | None
    paged: bool = False

    @classmethod
    def of_terminal(cls, *, plain: bool = False, color: bool = True) -> Display:
        """That of standard output. What is no terminal, and ``plain``, gets neither colours nor line breaks."""
        console = Console(no_color=not color or None, force_terminal=False if plain else None, soft_wrap=True)
        if plain or not console.is_terminal:
            return cls(console, None)
        return cls(console, console.width, paged=True)

    def time(self, epoch: float | None) -> str:
        """A time in UTC, without the year where people read it; nothing for None."""
        if epoch is None:
            return ""
        form = "%Y-%m-%d %H:%M:%S" if self.width is None else "%m-%d %H:%M:%S"
        return datetime.fromtimestamp(epoch, UTC).strftime(form)

    def show(self, tables: Iterable[Table], notes: Sequence[str] = ()) -> None:
        """Print them, through a pager where they are longer than the terminal."""
        lines: list[Text] = []
        for table in tables:
            lines += [*lay_out(table, self.width), Text()]
        lines += [Text(line) for note in notes for line in self.broken(note)]
        if self.paged and len(lines) >= self.console.height and self._page(lines):
            return
        for line in lines:
            self.console.print(line)

    def broken(self, sentence: str) -> list[str]:
        """The lines of a sentence: no longer than the terminal is wide, if there is one."""
        return [sentence] if self.width is None else wrapped(sentence, self.width)

    def show_line(self, line: Text) -> None:
        """Print a line that belongs to no table; what has no room in it is indented below."""
        for part in self.parts(line):
            self.console.print(part)

    def parts(self, line: Text) -> list[Text]:
        """Such a line as it is printed."""
        return [line] if self.width is None else _parts(line, self.width)

    def show_rows(self, table: Table) -> None:
        """Print the rows alone, as further ones of a table that was shown."""
        headings = 1 + len(wrapped(table.title, self.width)) if self.width else 2
        for line in lay_out(table, self.width)[headings:]:
            self.console.print(line)

    def _page(self, lines: Sequence[Text]) -> bool:
        """Whether there was a pager."""
        command = os.environ.get("PAGER", "less")
        if not command.strip() or shutil.which(command.split()[0]) is None or not sys.stdin.isatty():
            return False
        with self.console.capture() as captured:
            for line in lines:
                self.console.print(line)
        environment = {"LESS": "FRX", **os.environ}
        text = captured.get().encode(self.console.encoding, "replace")
        # It may be left before the end.
        with suppress(BrokenPipeError, KeyboardInterrupt):
            subprocess.run(command, shell=True, input=text, env=environment, check=False)
        return True


def lay_out(table: Table, width: int | None) -> list[Text]:
    """The lines of a table that is at most ``width`` wide, unless a single word is wider."""
    rows = [[printable(cell) for cell in row] for row in table.rows]
    if width is None:
        return [Text(table.title), *_grid(table.columns, rows, _widths(table.columns, rows))]
    columns, rows = _filled(table.columns, rows)
    title = [Text(line, style="bold") for line in wrapped(table.title, width)]
    left_out: list[str] = []
    while not _fits(columns, rows, width):
        weakest = max(columns, key=lambda column: column.rank)
        if weakest.rank == 0:
            return [*title, *_paragraphs(columns, rows, width), *_left_out(left_out, width)]
        left_out.append(f"{weakest.heading} ({weakest.of})" if weakest.of else weakest.heading)
        at = columns.index(weakest)
        columns = [*columns[:at], *columns[at + 1 :]]
        rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    return [*title, *_fitted(columns, rows, width), *_left_out(left_out, width)]


def printable(text: str) -> str:
    """``text``, which strangers may have written, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _filled(columns: Sequence[Column], rows: Rows) -> tuple[list[Column], list[list[str]]]:
    """Without columns that are empty in all rows."""
    kept = [n for n in range(len(columns)) if not rows or any(row[n] for row in rows)]
    return [columns[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _widths(columns: Sequence[Column], rows: Rows) -> list[int]:
    cells = ([column.heading, *(row[n] for row in rows)] for n, column in enumerate(columns))
    return [max(map(cell_len, column)) for column in cells]


def _fits(columns: Sequence[Column], rows: Rows, width: int) -> bool:
    """Whether all that is no prose fits into a line."""
    widths = [each for column, each in zip(columns, _widths(columns, rows), strict=True) if not column.prose]
    return sum(widths) + len(GAP) * (len(widths) - 1) <= width


def _fitted(columns: Sequence[Column], rows: Rows, width: int) -> list[Text]:
    """With prose in the room that is left, or below its row."""
    widths = _widths(columns, rows)
    if sum(widths) + len(GAP) * (len(widths) - 1) <= width:
        return _grid(columns, rows, widths)
    prose = [n for n, column in enumerate(columns) if column.prose]
    room = width - sum(each + len(GAP) for n, each in enumerate(widths) if n not in prose)
    if len(prose) == 1 and prose[0] == len(columns) - 1 and room >= PROSE:
        return _grid(columns, rows, [*widths[:-1], room], width)
    kept = [n for n in range(len(columns)) if n not in prose]
    lines = _grid([columns[n] for n in kept], [[row[n] for n in kept] for row in rows], [widths[n] for n in kept])
    found = lines[:1]
    for line, row in zip(lines[1:], rows, strict=True):
        found.append(line)
        for n in prose:
            found += [Text(part) for part in wrapped(row[n], width, INDENT)]
    return found


def _grid(columns: Sequence[Column], rows: Rows, widths: Sequence[int], width: int = 0) -> list[Text]:
    """The headings, and a line for each row, or several where its last cell is wrapped.

    A last cell with a word that is too long for its column stands below its row, in lines of ``width``.
    """
    lines = [_line([column.heading for column in columns], columns, widths, heading=True)]
    for row in rows:
        if width and max(map(cell_len, row[-1].split()), default=0) > widths[-1]:
            lines.append(_line([*row[:-1], ""], columns, widths))
            lines += [Text(part) for part in wrapped(row[-1], width, INDENT)]
            continue
        last = wrapped(row[-1], widths[-1]) if columns[-1].prose and cell_len(row[-1]) > widths[-1] else [row[-1]]
        lines.append(_line([*row[:-1], last[0]], columns, widths))
        before = sum(width + len(GAP) for width in widths[:-1])
        lines += [Text(" " * before + part) for part in last[1:]]
    return lines


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, heading: bool = False) -> Text:
    line = Text()
    for n, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        space = " " * (width - cell_len(cell))
        line.append(GAP if n else "")
        line.append(space if column.number else "")
        line.append(cell, style="dim" if heading else STYLES.get(cell))
        line.append("" if column.number else space)
    line.rstrip()
    return line


def _paragraphs(columns: Sequence[Column], rows: Rows, width: int) -> list[Text]:
    """Each row as its first cell, and below it the others with their headings, as many in a line as fit."""
    lines: list[Text] = []
    for row in rows:
        lines += [Text(part, style="bold") for part in wrapped(row[0], width)]
        line = Text()
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if not cell:
                continue
            pair = Text(f"{column.heading} ", style="dim").append(cell, style=STYLES.get(cell, "not dim"))
            if line and line.cell_len + len(", ") + pair.cell_len > width:
                lines.append(line)
                line = Text()
            if not line and len(INDENT) + pair.cell_len > width:
                lines += [Text(part) for part in wrapped(pair.plain, width, INDENT)]
            else:
                line = line.append(", ").append(pair) if line else Text(INDENT).append(pair)
        lines += [line] if line else []
    return lines


def _left_out(headings: Sequence[str], width: int) -> list[Text]:
    named = dict.fromkeys(filter(None, headings))
    if not named:
        return []
    text = f"(no room for: {', '.join(named)})"
    return [Text(line, style="dim") for line in wrapped(text, width)]


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """``text`` in lines of at most ``width`` cells; a word that is longer has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return lines or ([""] if not indent else [])


def _parts(line: Text, width: int) -> list[Text]:
    """``line`` in lines as those of ``wrapped``, with its styles; all but the first are indented."""
    breaks: list[int] = []
    column = 0
    for word in re.finditer(r"\s*\S+\s*", line.plain):  # the first with the spaces before it
        if column and column + cell_len(word[0].rstrip()) > width:
            breaks.append(word.start())
            column = len(INDENT)
        column += cell_len(word[0])
    first, *others = line.divide(breaks)
    parts = [first, *(Text(INDENT).append_text(each) for each in others)]
    for part in parts:
        part.rstrip()
    return parts
