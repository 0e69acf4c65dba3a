"""Tables at the widths that terminals have."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from perfd.cli.tables import STYLES, Column, Display, Table, lay_out

COLUMNS = (
    Column("start"),
    Column("experiment"),
    Column("size", number=True, rank=2),
    Column("server", rank=1),
    Column("outcome"),
    Column("first byte", number=True),
    Column("what happened", prose=True),
)
ROWS = (
    ("11-26 20:38:20", "download-50k", "50 KiB", "public", "ok", "0.032 s", ""),
    (
        "11-26 20:38:30",
        "wrong",
        "2 MiB",
        "onion",
        "timeout",
        "",
        "PERFD/TIMEOUT 762470 of 2 MiB before the end",
    ),
)
TABLE = Table("The latest measurements", COLUMNS, ROWS)

SHOWN = {
    120: """\
The latest measurements
start           experiment      size  server  outcome  first byte  what happened
11-26 20:38:20  download-50k  50 KiB  public  ok          0.032 s
11-26 20:38:30  wrong          2 MiB  onion   timeout              PERFD/TIMEOUT 762470 of 2 MiB before the end
""",
    80: """\
The latest measurements
start           experiment      size  server  outcome  first byte
11-26 20:38:20  download-50k  50 KiB  public  ok          0.032 s
11-26 20:38:30  wrong          2 MiB  onion   timeout
    PERFD/TIMEOUT 762470 of 2 MiB before the end
""",
    60: """\
The latest measurements
start           experiment    server  outcome  first byte
11-26 20:38:20  download-50k  public  ok          0.032 s
11-26 20:38:30  wrong         onion   timeout
    PERFD/TIMEOUT 762470 of 2 MiB before the end
(no room for: size)
""",
    40: """\
The latest measurements
11-26 20:38:20
    experiment download-50k, outcome ok
    first byte 0.032 s
11-26 20:38:30
    experiment wrong, outcome timeout
    what happened PERFD/TIMEOUT 762470
    of 2 MiB before the end
(no room for: size, server)
""",
}


def plain(table: Table, width: int | None) -> str:
    return "".join(f"{line.plain}\n" for line in lay_out(table, width))


@pytest.mark.parametrize("width", SHOWN)
def test_widths(width: int) -> None:
    """Columns that matter less go, prose goes below its row, and at last rows become paragraphs."""
    assert plain(TABLE, width) == SHOWN[width]


def test_one_long_word() -> None:
    """What is too long for the last column stands below its row, and the other rows stay in one line."""
    columns = (Column("key"), Column("value", prose=True))
    text = plain(Table("T", columns, [("SOURCE", "example"), ("DIGEST", "0123456789" * 4), ("TYPE", "x")]), 42)
    assert text == f"T\nkey     value\nSOURCE  example\nDIGEST\n    {'0123456789' * 4}\nTYPE    x\n"


def test_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said below tables, and lines without a table, are broken between words."""
    display = Display(Console(width=24, force_terminal=False, soft_wrap=True), 24)
    display.show([], ["47 runs, of which none has failed at all."])
    line = Text("09:26:45  upload  ")
    line.append("failed", style="red").append("  PERFD/TIMEOUT in the end")
    display.show_line(line)
    display.show_line(Text("  disk: 2.42 GiB after a month"))
    assert capsys.readouterr().out.splitlines() == [
        *("47 runs, of which none", "has failed at all."),
        *("09:26:45  upload  failed", "    PERFD/TIMEOUT in the", "    end"),
        *("  disk: 2.42 GiB after a", "    month"),
    ]


def test_of_what() -> None:
    """Of columns with the same heading the one is named that is left out."""
    columns = (Column("name"), Column("median"), Column("quartiles", rank=1, of="median"))
    assert "(no room for: quartiles (median))" in plain(Table("T", columns, [("x" * 20, "1.0", "2" * 20)]), 40)


def test_no_terminal() -> None:
    """All columns, also those that are empty: other programs count them."""
    text = plain(
        Table("T", (Column("a"), Column("b", number=True), Column("c")), [("x", "1", ""), ("yy", "22", "")]), None
    )
    assert text == "T\na    b  c\nx    1\nyy  22\n"


def test_wide_characters() -> None:
    """What takes two cells of a terminal is counted as two."""
    lines = plain(Table("T", (Column("name"), Column("n", number=True)), [("測量", "1"), ("abc", "22")]), 80)
    assert lines == "T\nname   n\n測量   1\nabc   22\n"


def test_control_characters() -> None:
    """Nothing in the database can send any to the terminal, and nothing is taken for markup."""
    text = plain(Table("T", (Column("a"),), [("evil \x1b[2J [bold]text\u202e",)]), 80)
    assert "evil ?[2J [bold]text?" in text


words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=30)
cells = st.lists(words, max_size=5).map(" ".join)


@example([("0" * 16, "0", "0 0 0000000\u2e80 0000000000", "0")], 43)  # a character of two cells
@given(st.lists(st.tuples(words, cells, cells, cells), min_size=1, max_size=4), st.integers(20, 150))
def test_nothing_is_cut(rows: Sequence[Sequence[str]], width: int) -> None:
    """Each word of what is shown is whole, and no line is longer than the terminal unless a word is."""
    columns = (Column("one"), Column("two", number=True, rank=1), Column("three"), Column("four", prose=True))
    lines = [line.plain for line in lay_out(Table("T", columns, rows), width)]
    shown = "\n".join(lines).split()
    for row in rows:
        for cell in (row[0], row[2], row[3]):
            for word in cell.split():
                assert any(word in each for each in shown), (word, lines)
    longest = max(cell_len(word) for row in rows for cell in row for word in cell.split())
    assert max(map(cell_len, lines)) <= max(width, longest + 16)


def show(**console: object) -> str:
    out = io.StringIO()
    Display(Console(file=out, soft_wrap=True, **console), 80).show([TABLE])  # type: ignore[arg-type]
    return out.getvalue()


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is coloured and in words; NO_COLOR and a terminal that has none are respected."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mtimeout\x1b[0m" in show(force_terminal=True, color_system="standard")
    assert set(STYLES) == {"failed", "timeout", "skipped", "cancelled"}
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[1;31m" not in show(force_terminal=True, color_system="standard")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in show(force_terminal=True)


def test_plain_and_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options do where there is a terminal."""
    monkeypatch.setattr(Console, "is_terminal", property(lambda console: console._force_terminal is not False))
    assert Display.of_terminal(plain=True).width is None
    assert Display.of_terminal(color=False).console.no_color
    assert Display.of_terminal().paged


CHILD = """
import sys
from perfd.cli.tables import Column, Display, Table
from rich.console import Console
from rich.text import Text
rows = [(f"row{n}", "\\u6e2c") for n in range(100)]
Display(Console(force_terminal=True, width=80, height=24, soft_wrap=True), 80, paged=True).show(
    [Table("T", (Column("a"), Column("b")), rows)])
"""


@pytest.mark.parametrize(("pager", "first"), [("cat", "T"), ("head -n 1", "T"), ("no-such-pager", "T"), ("", "T")])
def test_pager(pager: str, first: str) -> None:
    """Long output goes through $PAGER, which may end early or not be there; latin-1 gives no traceback."""
    controller, terminal = os.openpty()
    environment = {**os.environ, "PAGER": pager, "PYTHONIOENCODING": "latin-1:replace", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            stdin=terminal,
            capture_output=True,
            env=environment,
            check=False,
            timeout=60,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    lines = done.stdout.decode("latin-1").splitlines()
    assert (done.returncode, done.stderr, lines[0].replace("\x1b[1m", "").replace("\x1b[0m", "")) == (0, b"", first)
    assert len(lines) == (1 if pager.startswith("head") else 103)
