"""Files and directories for tor, and keys: private, written whole, and quoted where a torrc names them."""

from __future__ import annotations

import os
from pathlib import Path

from perfd.whole import whole


def quoted(value: str | Path) -> str:
    """``value`` as a quoted string of a torrc, in which spaces and ``#`` are harmless.

    Bytes that are not ASCII are octal escapes, so that a path is the same whatever its encoding, or if it has none.
    """
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in os.fsencode(value)
    )
    return f'"{"".join(escaped)}"'


def make_private(directory: Path) -> None:
    """Make ``directory`` if it is missing, and readable by its owner only, as tor demands."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


def write_whole(path: Path, text: str) -> None:
    """Replace the file ``path`` in one step, so that nobody reads half of it."""
    with whole(path, sync=False) as file:
        file.write(text.encode())


def read_key(path: Path) -> str | None:
    """The text of the file with a key, which only its owner can read from now on; None if there is none.

    What is not ASCII gives an empty text. Raises ``OSError``.
    """
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""


def write_key(path: Path, key: str) -> None:
    """Write the file with a key in one step; only its owner can ever read it. Raises ``OSError``."""
    make_private(path.parent)
    with whole(path, 0o600) as file:
        file.write(f"{key}\n".encode("ascii"))
