"""A picture of a real terminal: runs commands in a pseudo terminal and draws what stands there at the end.

    python docs/terminal_picture.py docs/terminal.png --columns 96 "perfd measure --size 1MiB --count 5"

Needs pyte and firefox-esr; ``make picture`` makes the README's. What is shown is what the commands wrote.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyte

PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14171f; }}
pre {{ margin: 0; padding: 20px 24px; font: 15px/1.2 "DejaVu Sans Mono", monospace; color: #d7dae0; }}
.prompt {{ color: #8fa3bf; }}
</style><pre>{text}</pre>"""

COLOURS = {"green": "#7fd88f", "red": "#ff8a80", "brown": "#e6c07b", "blue": "#82b1ff", "cyan": "#7fdbe0"}


def shown(command: str, columns: int, rows: int = 60) -> Iterator[str]:
    """The lines, as HTML, that the command leaves on a terminal of this size."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": str(rows)}
    near, far = pty.openpty()
    # Standard error is for progress, which is gone in the end: what it leaves would only disturb the picture.
    with subprocess.Popen(
        ["sh", "-c", command], stdin=far, stdout=far, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(far)
        while True:
            try:
                data = os.read(near, 65536)
            except OSError:  # EIO: the last process has closed its end
                break
            if not data:
                break
            stream.feed(data)
    os.close(near)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    lines = ["".join(map(cell, (screen.buffer[row][column] for column in range(columns)))) for row in range(rows)]
    while lines and not lines[-1].strip():
        lines.pop()
    yield from (line.rstrip() for line in lines)


def cell(char: pyte.screens.Char) -> str:
    """One character of the terminal as HTML."""
    text = html.escape(char.data)
    style = [f"color: {COLOURS[char.fg]}"] if char.fg in COLOURS else []
    style += ["font-weight: bold"] if char.bold else []
    style += ["font-style: italic"] if char.italics else []
    return f'<span style="{"; ".join(style)}">{text}</span>' if style and text.strip() else text


def main(arguments: Sequence[str]) -> None:
    """Run the commands, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--columns", type=int, default=96)
    options = parser.parse_args(arguments)
    lines: list[str] = []
    for command in options.commands:
        lines += [f'<span class="prompt">$</span> {html.escape(command)}', *shown(command, options.columns), ""]
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "terminal.html"
        page.write_text(PAGE.format(text="\n".join(lines[:-1])), encoding="utf-8")
        height = 40 + round(15 * 1.2 * (len(lines) - 1))
        width = 48 + round(9.03 * options.columns)
        picture = ("--headless", f"--window-size={width},{height}", "--screenshot", str(options.output.absolute()))
        subprocess.run(
            ["firefox-esr", "--profile", directory, *picture, page.as_uri()], check=True, capture_output=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
