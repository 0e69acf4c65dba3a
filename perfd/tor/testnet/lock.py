"""One process at a time starts, stops or owns a private network."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from perfd.tor.testnet.relays import TestnetError


class InUseError(TestnetError):
    """Another process starts, stops or owns the network."""


class NetworkLock:
    """The lock on the network in ``directory``, which the system takes back however its holder ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[str] | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._file is not None

    def take(self) -> None:
        """Hold it, if it is not ours already. Raises ``InUseError`` if it is another's, and ``TestnetError``."""
        if self._file is not None:
            return
        path = self._directory / "lock"
        try:
            file = path.open("a+", encoding="ascii")
        except OSError as error:
            raise TestnetError(f"{path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Not truncated before the lock is ours: who holds it has written its process id.
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            raise InUseError(f"the private network in {self._directory} is in use by process {holder}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Hold it no more."""
        if self._file is not None:
            self._file.close()
            self._file = None
