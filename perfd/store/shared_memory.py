"""The file by which SQLite's connections share what is in the write-ahead log (``-shm``), on a disk that is full.

SQLite maps it into memory. A page of it for which the disk has no room when it is first written to ends the process
at once (SIGBUS, mmap(2)). When the first connection is opened, the file is made anew, with one byte written in each
page. So there must be room for all of that before, and where a page has several blocks, for the other blocks after.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

ROOM = 4 << 20
"""Bytes that the disk must have left before the file is made: others may take some meanwhile."""

SIZE = 256 << 10
"""Bytes of the file that are given blocks: for a log of 128 MiB (walformat, "The WAL-Index File Format")."""

PATIENCE = 30.0
"""Seconds for that."""

_ALLOCATE = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOFOLLOW)
os.posix_fallocate(descriptor, 0, int(sys.argv[2]))
"""


def shared_file(path: Path) -> Path:
    """That of the database ``path``."""
    return path.with_name(f"{path.name}-shm")


def has_room(path: Path) -> bool:
    """Whether the file of the database ``path`` can be made; where the system does not say, it is tried."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return True
    return found.f_bavail * found.f_frsize >= ROOM


def is_whole(path: Path) -> bool:
    """Whether the file is there, as somebody who has the database open needs it, and has all its blocks."""
    try:
        found = shared_file(path).stat()
    except OSError:
        return False
    return 0 < found.st_size <= found.st_blocks * 512


def allocate(path: Path) -> bool:
    """Have the disk give the file all its blocks, where pages can lack some; False if it has none left.

    By a process of its own: one that has the file open, and closes it, loses SQLite's locks on it (fcntl(2)).
    """
    command = [sys.executable, "-I", "-S", "-c", _ALLOCATE, str(shared_file(path)), str(SIZE)]
    try:
        if os.statvfs(path.parent).f_frsize >= mmap.PAGESIZE:
            return True
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True  # it cannot be helped
    return done.returncode == 0
