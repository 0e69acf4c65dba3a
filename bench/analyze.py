"""The cost of ``perfd analyze``: 100,000 measurements with all plots, and their statistics alone.

Prints seconds, and the largest memory of any process of it. Run from the checkout: python -m bench.analyze
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from random import Random

from bench.verdict import verdict
from perfd.record import Measurement, Outcome
from perfd.reports.report import report
from perfd.reports.runs import FIELDS, RunReader
from perfd.store.database import transaction
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database

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


def measurement(chance: Random, n: int) -> Measurement:
    """A download of 1 MiB by one of two tors; two in a hundred fail."""
    start = START + 60 * n
    first = 0.3 + chance.lognormvariate(-1, 0.5)
    last = first + chance.lognormvariate(0, 0.4)
    is_ok = chance.random() > 0.02
    path = tuple(f"${chance.randrange(RELAYS):040X}" for _ in range(3))
    return Measurement(
        id=f"{n:032x}",
        source="bench",
        experiment="download",
        start=start,
        tor=("alpha", "beta")[n % 2],
        server="public",
        filesize=2**20,
        outcome=Outcome.OK if is_ok else Outcome.FAILED,
        errorcode=None if is_ok else "TOR/END/MISC",
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
        path=path,
        buildtimes=(0.05 + chance.random() / 10, 0.2, 0.3),
        guard=path[0],
        extra={
            **SOCKETS,
            "RTTIDLEMEDIAN": 0.1 + first / 5,
            "RTTLOADMEDIAN": 0.1 + last / 5,
            "PATHNICKNAMES": ",".join(f"relay{fingerprint[-4:]}" for fingerprint in path),
            "PATHWEIGHTS": ",".join(str(1_000 + int(fingerprint[1:], 16)) for fingerprint in path),
            "PATHFLAGS": ",".join([FLAGS] * 3),
            "CONFLUXREAD": "555319,560409",
            "CONSENSUS": start // 3600 * 3600,
            "CONSENSUSPARAMS": "e3b0c44298fc",
        },
    )


def main() -> None:
    """Make the database, and print what the command costs."""
    chance = Random(11)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "perfd.conf").write_text("[perfd]\nsource = bench\nnetwork = socks\n", encoding="utf-8")
        database = directory / "perfd.sqlite"
        with closing(open_database(database)) as connection, transaction(connection):
            insert_many(connection, (measurement(chance, n) for n in range(COUNT)))
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
