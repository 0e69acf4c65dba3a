"""``/results`` over HTTP out of a database of a million measurements: one day, and all of them.

The day has a target; the long answer shows that memory does not grow with it.
Run from the checkout: python -m bench.web
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.compare import median_interval
from bench.server import free_port, memory, running
from bench.store import BATCHES, DAY, SLOTS, runs
from bench.verdict import verdict
from perfd.store.database import prepare_for_bulk
from perfd.store.inserts import insert_many
from perfd.store.schema import open_database
from tests.support.strategies import typical

QUERIES = 21
LONG = 100_000
PIECE = 2**20

SERVE = """
import sys, time
from pathlib import Path
from twisted.internet import reactor
from perfd.store.reader import AsyncReader
from perfd.store.worker import ThreadWorker
from perfd.web.results.answers import Access, PublicDatabase
from perfd.web.results.records import result_resources
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
reader = AsyncReader(ThreadWorker(reactor, "reader", 2), Path(sys.argv[2]))
reader.start()
pages = result_resources(PublicDatabase(reader, Access("all")))
site = make_site(pages, reactor=reactor, stamps=ServerStamps(time.monotonic))
reactor.listenTCP(int(sys.argv[1]), site, interface="127.0.0.1")
reactor.run()
"""


def fill(path: Path) -> None:
    """Make the database."""
    with closing(open_database(path)) as connection:
        prepare_for_bulk(connection)
        for n in range(BATCHES):
            insert_many(connection, runs(range(n * SLOTS, (n + 1) * SLOTS)))


def ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> tuple[float, int, bytes]:
    """Seconds until the last byte, bytes, and the first piece of the body, which is all of a short one."""
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    if response.status not in (200, 304):
        raise RuntimeError(response.read().decode())
    first = response.read(PIECE)
    size = len(first)
    while piece := response.read(PIECE):
        size += len(piece)
    return time.perf_counter() - began, size, first


def days(connection: http.client.HTTPConnection) -> None:
    """Print how long a day of results takes."""
    middle = typical(BATCHES * SLOTS // 2).start
    for what, query in (("one experiment", "experiment=download-50k&"), ("all experiments", "")):
        path = f"/results?{query}since={middle}&until={middle + DAY}&limit=1000"
        answers = [ask(connection, path, {}) for _ in range(QUERIES)]
        found = len(json.loads(answers[0][2])["results"])
        times = [seconds * 1e3 for seconds, _, _ in answers]
        print(
            f"/results of one day of {what} ({found}), ms: {verdict(median_interval(times), '<= 50')}, "
            f"first {times[0]:.3g}, slowest {max(times):.3g}"
        )
        packed = [ask(connection, path, {"Accept-Encoding": "gzip"}) for _ in range(QUERIES)]
        print(
            f"  with gzip {statistics.median(seconds for seconds, _, _ in packed) * 1e3:.3g} ms, "
            f"{packed[0][1] / 1024:.0f} instead of {answers[0][1] / 1024:.0f} KiB"
        )


def long(connection: http.client.HTTPConnection, pid: int) -> None:
    """Print how fast a long answer is, and the memory that it takes."""
    before = memory(pid, "VmHWM")
    seconds, size, _ = ask(connection, f"/results?limit={LONG}", {})
    print(
        f"/results of {LONG:,}: {LONG / seconds / 1e3:.3g} thousand/s, {size / 1e6:.0f} MB; "
        f"memory {before:.1f} MiB before, {memory(pid, 'VmHWM'):.1f} MiB at most"
    )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "perfd.sqlite"
        fill(path)
        port = free_port()
        with (
            running([sys.executable, "-c", SERVE, str(port), str(path)], port) as pid,
            closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection,
        ):
            days(connection)
            long(connection, pid)


if __name__ == "__main__":
    main()
