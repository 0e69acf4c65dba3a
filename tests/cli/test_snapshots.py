"""Each table of the command line, as it is at 40, 60, 80 and 120 columns: tests/data/tables.

After a change that is meant, `REMAKE_TABLES=1` in front of the test writes the files anew, to be read and kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from perfd.cli.command import main
from perfd.cli.measure import TablePrinter
from perfd.cli.tables import Display
from perfd.cli.watch import View
from perfd.config import parse_config
from perfd.logfile.line import render
from perfd.record import Outcome
from tests.support.places import DATA
from tests.support.stored import Stored
from tests.support.strategies import typical
from tests.support.told import START, tell

TABLES = DATA / "tables"
WIDTHS = (40, 60, 80, 120)
SERIES = "ab" * 16

COMMANDS = {
    "results": ("results", "--limit", "6"),
    "series": ("results", "--series", SERIES),
    "show": ("show", f"{0:032x}"),
    "show-failed": ("show", "failed"),
    "circuits": ("circuits",),
    "streams": ("streams",),
    "events": ("events",),
    "note": ("note", "--list"),
    "analyze": ("analyze",),
    "compare": ("compare", "--a", "tor=alpha", "--b", "tor=beta", "--experiment", "other"),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with some of everything."""
    found = Stored(tmp_path_factory.mktemp("tables"))
    tell(found)
    series = {"REQUESTS": 2, "REQUESTSOK": 1, "CIRCUITS": 2, "CIRCUITWAITMAX": 1.5, "FAILURES": "PERFD/STALL:1"}
    requests = [
        typical(
            n,
            id=f"{SERIES}-{n:04}",
            type="request",
            circ_id=5 + n,
            extra={"SERIES": SERIES, "REQUESTNUMBER": n, "GROUP": 0, "CIRCUITWAIT": 0.25, "ATTACHEDTO": f"{5 + n}"},
            **more,
        )
        for n, more in enumerate(({}, _failed("PERFD/STALL", "no news of the other side")))
    ]
    runs = [typical(n, experiment="other", tor=("alpha", "beta")[n % 2], **_later(n)) for n in range(10, 50)]
    found.add([typical(3, id=SERIES, experiment="series", type="series", extra=series), *requests, *runs])
    for at, text in (("2023-11-14T23:00", "moved to another host"), ("2023-11-15T01:00", "another cable, " * 6)):
        assert found.perfd("note", text.rstrip(", "), "--at", at)[0] == 0
    return found.directory


def _failed(errorcode: str, reason: str) -> dict[str, Any]:
    return {"outcome": Outcome.TIMEOUT, "errorcode": errorcode, "reason": reason, "datacomplete": None}


def _later(n: int) -> dict[str, Any]:
    """One of five fails; the others take longer over the second tor."""
    if n % 5 == 0:
        return _failed("TOR/END/TIMEOUT", "the stream ended")
    return {"datacomplete": round(START + 300 * n + 1.2 + n % 3 / 10 + n % 2 / 4, 6)}


def check(name: str, shown: Callable[[int], str]) -> None:
    """Compare what is shown at each width with the file ``name``, or write it."""
    found = {width: shown(width) for width in WIDTHS}
    text = "".join(f"== {width} columns\n{table}" for width, table in found.items())
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    file = TABLES / f"{name}.txt"
    if "REMAKE_TABLES" in os.environ:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
    for width, table in found.items():
        assert too_long(table, width) == [], f"longer than {width}"


def too_long(shown: str, width: int) -> list[str]:
    """The lines that a terminal would break, but for single words, which nothing breaks."""
    return [line for line in shown.splitlines() if cell_len(line) > width and len(line.split()) > 1]


@pytest.mark.parametrize("name", COMMANDS)
def test_command(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has no room stands below, or is named; nothing is cut."""
    monkeypatch.chdir(directory)

    def shown(width: int) -> str:
        def of_terminal(**_: bool) -> Display:
            return Display(Console(width=width, force_terminal=False, soft_wrap=True), width)

        monkeypatch.setattr(Display, "of_terminal", of_terminal)
        with contextlib.suppress(SystemExit):
            main([*COMMANDS[name]])
        return capsys.readouterr().out

    check(name, shown)


@pytest.mark.parametrize("width", WIDTHS)
def test_config(
    width: int, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All options, of which there are more with each version, so that it is kept in no file."""
    monkeypatch.chdir(directory)
    display = Display(Console(width=width, force_terminal=False, soft_wrap=True), width)
    monkeypatch.setattr(Display, "of_terminal", lambda **_: display)
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert "keep-curves" in out
    assert too_long(out, width) == []


RUNS = (
    typical(0),
    typical(1, **_failed("TOR/END/RESOURCELIMIT", "the exit has no room for another connection")),
)


def test_measure() -> None:
    """The table that grows."""
    config = parse_config("[experiment:e]\nsize = 50 KiB\n", Path("perfd.conf"))

    def shown(width: int) -> str:
        display = Display(Console(width=width), width)
        printer = TablePrinter(config, 5, display)
        printer.measurements += RUNS
        return "".join(f"{line.plain}\n" for line in printer.lines(width, 40))

    check("measure", shown)


def test_watch() -> None:
    """What `perfd run` shows."""

    def shown(width: int) -> str:
        view = View(Console(width=width), ["page for a browser: http://127.0.0.1:8080/"], lambda: START)
        tors = [{"name": "default", "state": "tor default is bootstrapping: 45 %", "version": "0.4.9.11"}]
        slots = [{"name": "download-50k", "next_slot": "2023-11-14T22:13:25Z"}]
        view.health = {"tors": tors, "experiments": slots, "database": "ok", "log": "ok"}
        for each in RUNS:
            assert view.add(f"2023-11-14 22:13:20+0000 [perfd.x,default] {render(each)}") is None
        return "".join(f"{line.plain}\n" for line in view.lines(width, 40))

    check("watch", shown)
