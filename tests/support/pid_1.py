"""Programs that are PID 1 of a namespace of their own, and the processes that are left to them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_unshare() -> bool:
    """Whether a program can be PID 1 here."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True, timeout=60).returncode == 0


def zombies_of(pid: int) -> list[int]:
    """The children of a process that have ended and were not reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if (state, parent) == ("Z", str(pid)):
            found.append(int(path.parent.name))
    return found


def children_of(pid: int) -> list[int]:
    """The ids of its children, as this process sees them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid):
            found.append(int(path.parent.name))
    return found
