"""Charts as pictures: PNG, SVG or PDF by matplotlib, each with the CSV of what it shows.

matplotlib takes a third of a second to be imported and holds the interpreter while it draws, so this runs in a
process of its own, or two: ``write`` starts them, ``main`` is such a process.
"""

from __future__ import annotations

import csv
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from perfd.charts.model import Chart, Table
from perfd.extras import how_to_get
from perfd.processes.modules import module_command, module_environment

AT_ONCE = 2
"""Processes that draw at a time."""

FORMATS = ("png", "svg", "pdf")


class NoMatplotlibError(Exception):
    """matplotlib is not installed."""


class DrawingError(Exception):
    """The process that draws has failed; says how."""


def check() -> None:
    """Raise NoMatplotlibError if there is no matplotlib."""
    if find_spec("matplotlib") is None:
        raise NoMatplotlibError(f"plots need matplotlib: {how_to_get('plots')}")


def write(charts: Sequence[Chart], directory: Path, form: str) -> list[Path]:
    """Draw charts into ``directory``, which is made; the files. Waits for the processes that draw.

    Raises NoMatplotlibError, DrawingError and OSError.
    """
    check()
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        parts = [charts[n::AT_ONCE] for n in range(AT_ONCE)]
        list(threads.map(lambda part: _draw(part, directory, form), [part for part in parts if part]))
    return [directory / f"{chart.name}.{ending}" for chart in charts for ending in (form, "csv")]


def _draw(charts: Sequence[Chart], directory: Path, form: str) -> None:
    """In a process of its own; returns when all are there."""
    command = module_command("perfd.charts.files", str(directory), form)
    charted = pickle.dumps(list(charts))
    done = subprocess.run(command, input=charted, env=module_environment(), capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DrawingError(f"the plots could not be drawn: {last or f'exit code {done.returncode}'}")


def write_csv(table: Table, path: Path) -> None:
    """The numbers, with the headings in the first line; what is missing is empty."""
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(table.headings)
        writer.writerows(table.rows)


def main(arguments: Sequence[str]) -> None:
    """Draw the charts on standard input; ``arguments`` are the directory and the format."""
    from perfd.charts.drawing import draw  # noqa: PLC0415 - who only writes CSV needs no matplotlib

    directory, form = Path(arguments[0]), arguments[1]
    for chart in pickle.load(sys.stdin.buffer):
        draw(chart, directory / f"{chart.name}.{form}")
        write_csv(chart.table, directory / f"{chart.name}.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
