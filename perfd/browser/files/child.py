"""The child process that writes the files of one page load: ``python -m perfd.browser.files.child``.

Pickles on standard input: a ``Job``, its screenshot or None, its frames, None, its requests in tuples, None, its
connections in tuples, None. ``Written`` as JSON on standard output. Standard input stays open as long as Perfd
lives; when it ends, so does this process.
"""

from __future__ import annotations

import os
import pickle
import sys
from itertools import chain
from threading import Thread


def main() -> int:
    """Do the job; the exit code is 0 if it could be done, apart from the troubles that the output tells."""
    os.nice(19)  # before the imports below, which are half of the work
    given = sys.stdin.buffer
    job = pickle.load(given)
    screenshot = pickle.load(given)
    frames, requests, carriers = (list(iter(lambda: pickle.load(given), None)) for _ in range(3))
    Thread(target=_end_with_perfd, daemon=True).start()

    from perfd.browser.files.contents import completed, write_files  # noqa: PLC0415

    written = write_files(completed(job, chain(*requests), chain(*carriers)), screenshot, frames)
    sys.stdout.buffer.write(written.to_json())
    sys.stdout.flush()
    return 0


def _end_with_perfd() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
