"""The cost of ``perfd analyze``: 100,000 measurements of all kinds with all plots, and their statistics alone.

Prints seconds, and the largest memory of any process of it. Run from the checkout: python -m bench.analyze
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from zipfile import ZipFile

import attrs

from bench.verdict import verdict
from perfd.record import Measurement, Outcome
from perfd.reports.report import report
from perfd.reports.runs import BOOTSTRAP_STEPS, FIELDS, ONION_STEPS, PAGE_STEPS, RTT_FIGURES, RunReader
from perfd.store.database import transaction
from perfd.store.inserts import insert_many
from perfd.store.page_files import DIRECTORY, FILMSTRIP, file_of
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from tests.support.page_loads import png

COUNT = 100_000
START = 1_790_000_000.0
RELAYS = 1_000

FLAGS = "Fast+Guard+HSDir+Running+Stable+V2Dir+Valid"
SOCKETS = {"STAMPS": "kernel"} | {
    f"{end}TCP{key}": value
    for end in ("SERVER", "CLIENT")
    for key, value in (("RTT", 0.002), ("RTTVAR", 0.0032), ("MINRTT", 7e-06), ("RETRANSMITS", 0), ("CWND", 14))
}
"""What the extra of a record over tor is like; it costs time to look for anything in it."""


SHARES = {"download": 0.65, "onion": 0.15, "page": 0.1, "rtt": 0.05, "boot": 0.05}
"""Of all measurements, by experiment."""

FILMED = 20
"""Loads of each tor on either side of the median that have pictures."""


def measurement(chance: Random, n: int) -> Measurement:
    """A run of any experiment by one of two tors; two in a hundred fail."""
    start = START + 60 * n
    (experiment,) = chance.choices([*SHARES], [*SHARES.values()])
    is_ok = chance.random() > 0.02
    path = tuple(f"${chance.randrange(RELAYS):040X}" for _ in range(3))
    made = Measurement(
        id=f"{n:032x}",
        source="bench",
        experiment=experiment,
        start=start,
        tor=("alpha", "beta")[n % 2],
        server="onion" if experiment == "onion" else "public",
        filesize=0,
        outcome=Outcome.OK if is_ok else Outcome.FAILED,
        errorcode=None if is_ok else "TOR/END/MISC",
        path=path,
        buildtimes=(0.05 + chance.random() / 10, 0.2, 0.3),
        guard=path[0],
        extra={
            **SOCKETS,
            "PATHNICKNAMES": ",".join(f"relay{fingerprint[-4:]}" for fingerprint in path),
            "PATHWEIGHTS": ",".join(str(1_000 + int(fingerprint[1:], 16)) for fingerprint in path),
            "PATHFLAGS": ",".join([FLAGS] * 3),
            "CONFLUXREAD": "555319,560409",
            "CONSENSUS": start // 3600 * 3600,
            "CONSENSUSPARAMS": "e3b0c44298fc",
        },
    )
    first = 0.3 + chance.lognormvariate(-1, 0.5)
    last = first + chance.lognormvariate(0, 0.4)
    if experiment == "page":
        return page(made, first, last) if is_ok else attrs.evolve(made, type="pageload")
    made = download(made, first, last)
    if experiment in ("onion", "boot"):
        return stepped(made, first)
    return round_trips(made, first, last) if experiment == "rtt" else made


def download(made: Measurement, first: float, last: float) -> Measurement:
    """Of 1 MiB."""
    start, is_ok = made.start, made.outcome is Outcome.OK
    return attrs.evolve(
        made,
        filesize=2**20,
        socket=start,
        connect=start + 0.001,
        request=start + 0.002,
        response=start + first / 2,
        datarequest=start + first / 2 + 0.001,
        serverrequest=start + first * 0.7,
        serverresponse=start + first * 0.71,
        dataresponse=start + first if is_ok else None,
        datacomplete=start + last if is_ok else None,
        dataperc={p: start + first + (last - first) * p / 100 for p in range(0, 101, 10)} if is_ok else {},
    )


def stepped(made: Measurement, first: float) -> Measurement:
    """With the steps on the way to an onion service, or of a bootstrap."""
    names = ONION_STEPS if made.experiment == "onion" else BOOTSTRAP_STEPS
    steps = {name: made.start + first * (place + 1) / 20 for place, name in enumerate(names)}
    kind = "download" if made.experiment == "onion" else "bootstrap"
    return attrs.evolve(made, type=kind, extra={**made.extra, **steps})


def round_trips(made: Measurement, first: float, last: float) -> Measurement:
    """Idle, and under loads with their rates."""
    figures = {
        key: 0.1 + first / 5 if "IDLE" in key else 1e6 * last if "RATE" in key else last for key in RTT_FIGURES
    }
    medians = {"RTTIDLEMEDIAN": 0.1 + first / 5, "RTTLOADMEDIAN": 0.1 + last / 5}
    return attrs.evolve(made, type="rtt", extra={**made.extra, **figures, **medians})


def page(made: Measurement, first: float, last: float) -> Measurement:
    """A page load."""
    moments = {key: made.start + took for key, took in zip(PAGE_STEPS, (first, last, 1.5 * last), strict=True)}
    seen: dict[str, str | float] = {"SPEEDINDEX": 1500 * first, "FILMSTRIP": 3, "BROWSER": "firefox"}
    return attrs.evolve(made, type="pageload", extra={**made.extra, **moments, **seen})


def give_pictures(loads: Iterable[Measurement], directory: Path) -> None:
    """To those next to the median of each tor."""
    pictures = [png(rows, (1280, 720)) for rows in (0, 200, 700)]
    by_tor: dict[str | None, list[tuple[float, Measurement]]] = {}
    for each in loads:
        if each.type == "pageload" and "LOAD" in each.extra:
            by_tor.setdefault(each.tor, []).append((float(each.extra["LOAD"]) - each.start, each))
    for some in by_tor.values():
        some.sort(key=lambda pair: pair[0])
        for took, each in some[len(some) // 2 - FILMED : len(some) // 2 + FILMED]:
            path = file_of(directory, each.start, each.id, FILMSTRIP)
            path.parent.mkdir(parents=True, exist_ok=True)
            with ZipFile(path, "w") as archive:
                for number, (share, picture) in enumerate(zip((0.1, 0.5, 1), pictures, strict=True), 1):
                    archive.writestr(f"{number:04}-{round(share * took * 1000):06}ms.png", picture)


def main() -> None:
    """Make the database, and print what the command costs."""
    chance = Random(11)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "perfd.conf").write_text("[perfd]\nsource = bench\nnetwork = socks\n", encoding="utf-8")
        database = directory / "perfd.sqlite"
        made = [measurement(chance, n) for n in range(COUNT)]
        with closing(open_database(database)) as connection, transaction(connection):
            insert_many(connection, made)
        give_pictures(made, directory / DIRECTORY)
        del made
        begun = time.perf_counter()
        command = [sys.executable, "-m", "perfd", "analyze", "--config", place, "--json"]
        subprocess.run([*command, "--plots", str(directory / "plots")], check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begun
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        charts = len(list((directory / "plots").glob("*.png")))
        print(
            f"{COUNT:,} measurements, {charts} charts: {verdict(took, '<= 20')} s, {verdict(memory, '<= 500')} MiB"
        )
        with StoreReader(database) as reader:
            runs = [*map(RunReader().run, reader.rows(FIELDS))]
        begun = time.perf_counter()
        report(runs, (), ()).as_dict()
        print(f"statistics of {COUNT:,} runs in memory: {verdict(time.perf_counter() - begun, '<= 2')} s")


if __name__ == "__main__":
    main()
