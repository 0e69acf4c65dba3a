"""What the system tells of other processes: whether they are there, and whether it tells more."""

from __future__ import annotations

import os


def has_proc() -> bool:
    """Whether there is /proc (proc(5)), which some containers have not."""
    return os.path.isdir("/proc/self")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, be it another user's or a zombie."""
    if pid <= 0:  # for kill that would be a group of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
