"""Pages for people: how long they take to make of a million measurements, and what their readers cost measurements.

Run from the checkout: python -m bench.pages
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from random import Random
from subprocess import Popen

from bench._held import Piece, read_pieces
from bench.compare import SEED, Comparison, median_interval
from bench.daemon import Daemon
from bench.store import BATCHES, DEFAULT_SET, SLOTS, runs
from bench.verdict import verdict
from perfd.pages.make import make
from perfd.pages.records import DaemonState, Made, PageRequest, View
from perfd.record import Curve
from perfd.store.database import prepare_for_bulk
from perfd.store.inserts import insert_many
from perfd.store.rows import CURVES as TABLE
from perfd.store.schema import open_database
from perfd.summaries.kept import summarize
from tests.support.pages import state
from tests.support.strategies import typical

CURVES = 1000
"""Runs with an arrival curve of 200 points."""

LAST_RUNS = "SELECT id, start FROM measurements WHERE experiment = 'download-50k' ORDER BY start DESC LIMIT ?"

TIMES = 15
"""How often each page is made."""

READERS = 100
"""Who reload a page each second."""

BLOCKS = 6
SECONDS = 15.0
"""Of a block, once with readers and once without."""

EXPERIMENT = """
[experiment:e{n}]
size = 50 KiB
interval = 1 s
timeout = 10 s
"""

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n"
    "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
)

YEAR = "/experiments/download-50k?period=year"


def fill(path: Path) -> float:
    """A million measurements, summarized, of which the last have curves. Returns the time of the last one."""
    with closing(open_database(path)) as connection:
        prepare_for_bulk(connection)
        for batch in range(BATCHES):
            insert_many(connection, runs(range(batch * SLOTS, (batch + 1) * SLOTS)))
        with connection:
            for number, start in connection.execute(LAST_RUNS, (CURVES,)):
                connection.execute(TABLE.insert, TABLE.row(arrival(number, start)))
    now = typical(BATCHES * SLOTS).start
    begun = time.process_time()
    summarize(path, now)
    print(f"summarizing a million measurements for the first time: {time.process_time() - begun:.0f} s")
    return now


def arrival(measurement: str, start: float) -> Curve:
    """How a payload came, as the daemon keeps it."""
    return Curve(
        id=f"{measurement}-arrival",
        source="example",
        measurement=measurement,
        at=start,
        name="arrival",
        columns=("seconds", "payload"),
        samples=tuple((0.7 + n / 400, 256 * n) for n in range(201)),
    )


def page(name: str, path: Path, told: DaemonState, /, **arguments: str) -> Made:
    """A page, made here."""
    request = PageRequest(name=name, view=View(f"/{name}"), arguments=arguments, state=told)
    return make(request, path)


def times_of(path: Path, now: float) -> None:
    """How long pages take, and how long they are."""
    told = state(DEFAULT_SET, now=now, files=path.parent / "har")
    for name, arguments, most_ms, most_kib in (
        ("overview", {}, 50, 100),
        ("experiment", {"name": "download-50k", "period": "year"}, 150, None),
    ):
        took = []
        gc.disable()  # as in the process that makes them
        for _ in range(TIMES):
            begun = time.process_time()
            made = page(name, path, told, **arguments)
            took.append(1000 * (time.process_time() - begun))
            gc.collect()
        gc.enable()
        assert made.status == 200
        print(
            f"{name} of a million measurements, ms of processor: {verdict(median_interval(took), f'<= {most_ms}')}"
        )
        sizes = f"{len(made.body) / 1024:.0f} KiB, {len(made.packed) / 1024:.1f} in gzip"
        print(f"  {sizes}" + ("" if most_kib is None else f"; {verdict(len(made.body) / 1024, f'<= {most_kib}')}"))


async def read(port: int, path: str, wait: float, seconds: float) -> int:
    """One reader, who begins after ``wait`` seconds. Returns how many pages were had."""
    end, count = time.monotonic() + seconds, 0
    await asyncio.sleep(wait)
    while time.monotonic() < end:
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.format(path=path).encode())
        answer = await reader.read()
        writer.close()
        count += answer.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - begun)))
    return count


async def read_all(port: int, seconds: float) -> None:
    """All readers, who know nothing of each other; one of ten has the year of an experiment before them."""
    chance = Random(SEED)
    paths = [YEAR if n % 10 == 0 else "/" for n in range(READERS)]
    counts = await asyncio.gather(*(read(port, path, chance.random(), seconds) for path in paths))
    print(f"  {sum(counts)} pages in {seconds:.0f} s", file=sys.stderr)


def disturbed(directory: Path) -> None:
    """Measurements with readers and without them, in blocks one after the other, and what holds the reactor.

    The daemon's database is the one of a million measurements.
    """
    comparison = Comparison("alone", "with readers")
    experiments = "".join(EXPERIMENT.format(n=n) for n in range(4))
    pieces = directory / "pieces"
    periods: dict[str, list[tuple[float, float]]] = {"alone": [], "with readers": []}
    with Daemon(directory, experiments, twistd=(sys.executable, "-m", "bench._held", str(pieces))) as daemon:
        while daemon.done() < 40:
            time.sleep(1.0)
        for _ in range(BLOCKS):
            for way in comparison.block(1):
                begun = time.time()
                if way == "alone":
                    time.sleep(SECONDS)
                else:
                    with Popen([sys.executable, "-m", "bench.pages", str(daemon.port)]) as child:
                        child.wait()
                periods[way].append((begun, time.time()))
                for first, complete in results(daemon.port, *periods[way][-1]):
                    comparison.add(way, first=first, complete=complete)
    for name in ("first", "complete"):
        ratio = comparison.ratio(name, "with readers", "alone")
        print(f"{READERS} readers who reload each second: time to {name}, times: {verdict(ratio, '<= 1.03')}")
        later = comparison.difference(name, "with readers", "alone").scaled(1000)
        print(f"  alone {1000 * comparison.median(name, 'alone'):.3g} ms; later by, in ms: {later}")
    found = read_pieces(pieces)
    for way, parts in periods.items():
        those = [each for each in found if any(begun <= each.ended <= end for begun, end in parts)]
        longest = max(those, key=lambda each: each.processor, default=Piece(0.0, 0.0, 0.0, "nobody"))
        said = verdict(1000 * longest.processor, "<= 5")
        count = sum(each.processor > 0.005 for each in those)
        print(f"reactor held {way}, longest in ms of processor: {said}, by {longest.whose}; {count} times > 5 ms")


def results(port: int, since: float, until: float) -> list[tuple[float, float]]:
    """The seconds to the first and to the last byte of what went well."""
    address = f"http://127.0.0.1:{port}/results?outcome=ok&limit=10000&since={since:.6f}&until={until:.6f}"
    with urllib.request.urlopen(address, timeout=30) as response:
        found = [each for each in json.load(response)["results"] if each["experiment"].startswith("e")]
    return [(each["dataresponse"] - each["start"], each["datacomplete"] - each["start"]) for each in found]


def main() -> None:
    """Both."""
    if len(sys.argv) > 1:
        asyncio.run(read_all(int(sys.argv[1]), SECONDS))
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "perfd.sqlite"
        times_of(path, fill(path))
        disturbed(Path(directory))


if __name__ == "__main__":
    main()
