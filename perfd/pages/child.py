"""The process that makes pages: ``python -m perfd.pages.child DATABASE VERSION``.

It reads requests on standard input, each a pickle behind its length, and writes answers to standard output, each a
head in JSON behind its length, then the page and the page in gzip. Only Perfd itself writes to it. When standard
input ends, so does this process. Between two pages it summarizes some hours that are stale, so that the next one
is made sooner.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sqlite3
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

OK = 200

LENGTH = struct.Struct("!I")
"""What stands before each request and each head."""


def main(arguments: list[str]) -> int:
    """Make pages until nobody asks any more; ``arguments`` are the database and the version of its schema."""
    os.nice(10)  # before the imports below: measurements come first
    from perfd.pages.kept import KeptPages  # noqa: PLC0415
    from perfd.pages.make import make  # noqa: PLC0415
    from perfd.store.database import StoreError  # noqa: PLC0415
    from perfd.summaries.kept import AT_ONCE, summarize  # noqa: PLC0415

    gc.disable()  # it would look through thousands of hours again and again while somebody waits
    database, version = Path(arguments[0]), int(arguments[1])
    kept = KeptPages()
    while (given := _read(sys.stdin.buffer)) is not None:
        made = make(pickle.loads(given), database, version, kept)
        head = {
            "status": made.status,
            "policy": made.policy,
            "refresh": made.refresh,
            "tag": made.tag,
            "sizes": [len(made.body), len(made.packed)],
        }
        text = json.dumps(head).encode()
        sys.stdout.buffer.write(b"".join((LENGTH.pack(len(text)), text, made.body, made.packed)))
        sys.stdout.buffer.flush()
        gc.collect()
        if made.status == OK:
            with suppress(StoreError, sqlite3.Error):  # a disk that is full, a database that is only read
                summarize(database, time.time(), AT_ONCE)
    return 0


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    return source.read(size)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
