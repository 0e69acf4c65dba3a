"""Files and directories that a tor reads: private, written whole, and quoted where a torrc names them."""

from __future__ import annotations

import os
from pathlib import Path


def quoted(value: str | Path) -> str:
    """``value`` as a quoted string of a torrc, in which spaces and ``#`` are harmless."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def make_private(directory: Path) -> None:
    """Make ``directory`` if it is missing, and readable by its owner only, as tor demands."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


def write_whole(path: Path, text: str) -> None:
    """Replace the file ``path`` in one step, so that nobody reads half of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
