"""Files that perfd.conf names: they may stand where others can put something else in their place."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_named(path: Path, most: int | None = None) -> str:
    """The text of a regular file, of it at most so many bytes. Raises OSError, and ValueError for what is none.

    Nothing is waited for, as for the writer of a pipe. Root does not follow the links of others.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    if os.geteuid() == 0 and path.lstat().st_uid != 0:
        flags |= os.O_NOFOLLOW
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        return file.read(-1 if most is None else most).decode("utf-8")
