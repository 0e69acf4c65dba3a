"""Files that appear, or are replaced, when they are whole.

What is being written stands beside what it will be, under a name that nobody else has, and goes if it fails.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_SCRATCH = re.compile(r"\..*\.[0-9a-f]{16}\.new")


def scratch_name(path: Path) -> Path:
    """A free name beside ``path``, hidden in listings."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.new")


def is_scratch(name: str) -> bool:
    """Whether a file of this name is left over from a process that was killed as it wrote."""
    return _SCRATCH.fullmatch(name) is not None


@contextmanager
def whole(path: Path, mode: int = 0o666, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write what will be the file ``path`` when the block ends well.

    It has ``mode``, without what the umask forbids. ``sync`` waits until the disk has it, so that a crash of the
    machine leaves the one or the other, whole. Raises OSError.
    """
    scratch = scratch_name(path)
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
