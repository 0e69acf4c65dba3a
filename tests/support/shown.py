"""An instance with all that pages show: every kind of chart and table, ordinary and odd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import attrs

from perfd.browser.files.contents import Carrier, Job, write_files
from perfd.browser.files.har_matching import EntryTor
from perfd.browser.records import Frame, PageRequest
from perfd.record import (
    FIELDS,
    Attach,
    Circuit,
    Event,
    Hop,
    Kind,
    Measurement,
    Note,
    Outcome,
    StoredComparison,
    Stream,
    TorEvent,
)
from perfd.store.database import prepare_for_bulk
from perfd.store.inserts import insert_many
from perfd.store.rows import CIRCUITS, COMPARISONS, CURVES, EVENTS, MEASUREMENTS, NOTES, STREAMS
from perfd.store.schema import open_database
from perfd.summaries.kept import summarize
from tests.support.curves import arrival, circuit
from tests.support.page_loads import page_load, png
from tests.support.pages import NOW, recent

LONG = "experiment-" + "x" * 189
"""A name of 200 characters."""

DOWNLOAD = f"{1:032x}"
LOAD = f"{2:032x}"
UPLOAD = f"{3:032x}"
ROUND_TRIP = f"{4:032x}"
CIRCUIT = "session-c101"
COMPARISON = "guards"

NICKNAMES = ("Unnamed", "moria1", "ATwentyLetterName123", "exit", "TorExitFinland", "tiny", "relay7")
RELAYS = [f"${n:040X}" for n in range(21)]
DAY = 288  # runs, five minutes apart

FLAGS = ("Fast+Guard+HSDir+Running+Stable+V2Dir+Valid", "Fast+Running+Stable+Valid", "Exit+Fast+Running+Valid")
ONION = (
    *("HSDESCREQUESTED", "HSDESCRECEIVED", "HSRENDBUILT", "HSRENDESTABLISHED", "HSINTROBUILT", "HSINTROACK"),
    "HSRENDJOINED",
)


def make_instance(directory: Path) -> Path:
    """Fill ``directory`` with a database and the files of a page load. Returns the database's path."""
    path = directory / "perfd.sqlite"
    chance = Random(12)
    kinds = (downloads, uploads, round_trips, onions, loads, compared)
    runs = [run for kind in kinds for run in kind(chance)]
    runs += [recent(n, experiment=LONG, **odd(n)) for n in range(40)]
    runs += [recent(n, experiment="failing", **failed(n)) for n in range(60)]
    special = {DOWNLOAD, LOAD, UPLOAD, ROUND_TRIP}
    runs = [run if run.id in special else attrs.evolve(run, id=f"{n:032x}") for n, run in enumerate(runs, 1000)]
    with closing(open_database(path)) as database:
        insert_many(database, runs)
        with database:
            for table, record in (*of_tor(), *besides()):
                database.execute(table.insert, table.row(record))
    summarize(path, NOW)
    (directory / "har").mkdir()
    write_load(directory / "har")
    return path


def fill_with_a_million(path: Path) -> None:
    """A database of a million measurements of two experiments: 5,000 that are recent, and copies that are older."""
    names = ("download-50k", "other")
    recent_ones = [recent(n, id=f"{n:032x}", experiment=names[n % 2], extra={}) for n in range(5000)]
    times = [
        field.name
        for field in FIELDS
        if field.kind is Kind.TIME and field.name in MEASUREMENTS.columns and field.name != "slot"
    ]
    others = [f'"{name}"' for name in MEASUREMENTS.columns if name not in (*times, "id", "slot", "dataperc")]
    moved = [f'"{name}" - :shift' for name in times]
    sql = (
        f"INSERT INTO measurements (id, {', '.join(times)}, {', '.join(others)}) "
        f"SELECT printf('%x-', :copy) || id, {', '.join(moved)}, {', '.join(others)} FROM measurements LIMIT 5000"
    )
    with closing(open_database(path)) as database:
        prepare_for_bulk(database)
        insert_many(database, recent_ones)
        for copy in range(1, 200):
            with database:
                database.execute(sql, {"copy": copy, "shift": copy * 5000 * 300.0})
    summarize(path, NOW)


def shifted(run: Measurement, seconds: float, slower: float = 1.0, **changes: Any) -> Measurement:
    """The run so much earlier, its steps so many times as long."""
    times = {
        name: run.start - seconds + (value - run.start) * slower
        for name, value in attrs.asdict(run, recurse=False).items()
        if isinstance(value, float) and value > 1e8 and name != "slot"
    }
    perc = {n: run.start - seconds + (at - run.start) * slower for n, at in run.dataperc.items()}
    return attrs.evolve(run, **{**times, "slot": None, "dataperc": perc, "id": "", **changes})


def path_of(chance: Random) -> dict[str, Any]:
    """A path, and what is known of its relays."""
    chosen = [chance.randrange(3), 3 + chance.randrange(8), 11 + chance.randrange(10)]
    return {
        "path": tuple(RELAYS[n] for n in chosen),
        "guard": RELAYS[chosen[0]],
        "buildtimes": tuple(sorted(chance.lognormvariate(-2, 0.5) * (n + 1) for n in range(3))),
        "extra": {
            "PATHNICKNAMES": ",".join(NICKNAMES[n % len(NICKNAMES)] for n in chosen),
            "PATHWEIGHTS": ",".join(str(1000 * (n + 3) ** 2) for n in chosen),
            "PATHFLAGS": ",".join(FLAGS),
            "PATHVERSIONS": "0.4.9.11,0.4.8.21,0.4.9.3-alpha",
            "PATHCOUNTRIES": "de,us,fi",
            "PATHCGO": "1,0,1",
        },
    }


def downloads(chance: Random) -> Iterator[Measurement]:
    """Ten days in two ways, with some failures, a new version of tor, and a day on which nothing was measured."""
    for n in range(10 * DAY):
        run = recent(n, tor="alpha" if n % 2 else "default", torversion="0.4.9.11" if n < 1000 else "0.4.8.21")
        if 4 * DAY < n < 5 * DAY:
            continue
        of_path = path_of(chance)
        slower = chance.lognormvariate(0.0, 0.35) * (1.6 if of_path["guard"] == RELAYS[1] else 1.0)
        ended = failed(n) if n > 1 and chance.random() < 0.02 else {}
        special = {"id": DOWNLOAD, "circ_id": 101} if n == 1 else {}
        yield shifted(run, chance.random(), slower, **of_path, **ended, **special)


def failed(n: int) -> dict[str, Any]:
    """A run that did not end well."""
    code = ("TOR/TIMEOUT", "TOR/END/MISC", "PERFD/STALL", "PERFD/CLOSED")[n % 4]
    outcome = Outcome.TIMEOUT if n % 4 == 2 else Outcome.FAILED
    return {"outcome": outcome, "errorcode": code, "reason": f"it took {n} s", "datacomplete": None, "id": ""}


def odd(n: int) -> dict[str, Any]:
    """What is skipped, and texts that have no place where they could be broken."""
    if n % 3:
        return {"tor": "y" * 60, "filesize": 5 << 20, "id": ""}
    skipped = {"outcome": Outcome.SKIPPED, "errorcode": "PERFD/NOTREADY", "reason": "w" * 300}
    return {**skipped, "extra": {"COUNT": n + 1}, "id": ""}


def uploads(chance: Random) -> Iterator[Measurement]:
    """Of 1 MiB."""
    for n in range(200):
        run = recent(n * 5, experiment="upload-1m", type="upload", filesize=1 << 20)
        yield shifted(run, 20.0, chance.lognormvariate(0.3, 0.3), id=UPLOAD if n == 0 else "")


def round_trips(chance: Random) -> Iterator[Measurement]:
    """Idle and loaded, with each probe."""
    for n in range(150):
        idle, load = chance.lognormvariate(-1.4, 0.2), chance.lognormvariate(-0.7, 0.4)
        extra = {
            "RTTIDLEMEDIAN": idle,
            "RTTLOADMEDIAN": load,
            "RTTLOADDOWNRATE": 1e6 * chance.random(),
            "OWDUPIDLEMEDIAN": idle / 2,
            "OWDDOWNIDLEMEDIAN": idle / 2,
            "RTTIDLEMS": ",".join(f"{1000 * chance.lognormvariate(-1.4, 0.2):.1f}" for _ in range(20)),
            "RTTLOADMS": ",".join(f"{1000 * chance.lognormvariate(-0.7, 0.4):.1f}" for _ in range(20)),
        }
        record = ROUND_TRIP if n == 0 else ""
        yield recent(n * 6, experiment="rtt", type="rtt", filesize=0, id=record, extra=extra)


def onions(chance: Random) -> Iterator[Measurement]:
    """To an onion service; some fail on the way."""
    for n in range(120):
        run = shifted(recent(n * 7, experiment="onion-50k", server="onion"), 40.0, 3.0)
        at, extra = run.start + 0.02, {}
        for step in ONION:
            at += chance.lognormvariate(-1.6, 0.5)
            extra[step] = at
        if n % 20 == 3:
            reached = dict(list(extra.items())[: n % 7])
            yield attrs.evolve(run, extra=reached, dataresponse=None, **failed(n))
        else:
            yield attrs.evolve(run, extra=extra, response=at + 0.1, dataresponse=at + 0.2, datacomplete=at + 0.8)


def loads(chance: Random) -> Iterator[Measurement]:
    """Page loads; the one at the median has all its files."""
    for n in range(81):
        took = 2.0 if n == 0 else 2.0 + (n - 40.5) / 30
        run = recent(n * 4, experiment="page", type="pageload", id=LOAD if n == 0 else "", filesize=2451624)
        steps = {"FIRSTCONTENTFULPAINT": took / 3, "LOAD": took, "FULLYLOADED": took + 0.4 + chance.random()}
        files = {"FILMSTRIP": 9, "SCREENSHOT": 1, "HAR": 1} if n == 0 else {}
        told = {"SPEEDINDEX": 500.0 * took, "REQUESTS": 24, "BROWSER": "default", "PAGE": "1-canonical-3origins"}
        extra = {**{key: run.start + at for key, at in steps.items()}, **told, **files}
        yield attrs.evolve(run, extra=extra)


def compared(chance: Random) -> Iterator[Measurement]:
    """Twenty blocks of two arms."""
    for n in range(240):
        arm = "ab"[n % 2]
        extra = {"COMPARISON": COMPARISON, "ARM": arm, "BLOCK": n // 12}
        run = recent(n + 10, experiment="compared", extra=extra)
        yield shifted(run, 100.0, chance.lognormvariate(0.1 * (arm == "b"), 0.3))


def of_tor() -> Iterator[tuple[Any, Any]]:
    """What tor told of ``DOWNLOAD``, and events of its own."""
    begun = recent(1).start
    for number, nickname in ((101, "moria1"), (102, "ATwentyLetterName123")):
        names = enumerate((nickname, "tiny", "exit"))
        yield (
            CIRCUITS,
            Circuit(
                id=f"session-c{number}",
                source="example",
                tor="default",
                circ_id=number,
                launch=begun - 10,
                built=begun - 8 + number / 500,
                status="BUILT",
                purpose="CONFLUX_LINKED",
                path=tuple(Hop(RELAYS[n], name, begun - 9 + 0.3 * n + number / 500) for n, name in names),
                conflux_id="D" * 32,
                conflux_rtt=0.1 * (number - 99),
                cc_cwnd=100 + number,
                cc_min_rtt=0.09,
                events=tuple(Event(begun - 10 + n / 5, f"CIRC {number} EXTENDED {'x' * 30 * n}") for n in range(4)),
            ),
        )
    words = ("NEW", "SENTCONNECT", "SUCCEEDED", "CLOSED")
    yield (
        STREAMS,
        Stream(
            id="session-s9",
            source="example",
            tor="default",
            stream_id=9,
            new=begun,
            status="CLOSED",
            target="192.0.2.1:8080",
            measurement=DOWNLOAD,
            circuit=CIRCUIT,
            attaches=(Attach(101, begun),),
            events=tuple(
                Event(begun + n / 4, f"STREAM 9 {word} 101 192.0.2.1:8080") for n, word in enumerate(words)
            ),
        ),
    )
    for n in range(60):
        text = f"NOTICE BOOTSTRAP PROGRESS={n} {'y' * n}"
        yield EVENTS, TorEvent(NOW - 60 * n, "example", "default", "STATUS_CLIENT", text)


def besides() -> Iterator[tuple[Any, Any]]:
    """Curves, notes, and a comparison."""
    begun = recent(1).start
    for curve in (arrival(DOWNLOAD, begun), circuit(DOWNLOAD, 101, begun), circuit(DOWNLOAD, 102, begun)):
        yield CURVES, curve
    long = "a note that is as long as notes may be: " + "z" * 160
    for days, text in ((2.2, "moved to another host"), (2.15, long), (40.0, "a new uplink")):
        yield NOTES, Note(source="example", at=NOW - 86400 * days, text=text)
    arms = [["a", None, {}], ["b", "ConfluxEnabled 0", None, {}]]
    design = {"arms": arms, "block": 6, "blocks": None, "primary": "complete", "margin": 0.03}
    made = StoredComparison(id=COMPARISON, source="example", begun=NOW - 86400, seed=5, design=json.dumps(design))
    yield COMPARISONS, made


def write_load(directory: Path) -> None:
    """The HAR document and the pictures of ``LOAD``."""
    begun = recent(0).start
    requests = tuple(
        PageRequest(
            url=f"http://site.example/part-{n}{'-with-a-long-name' * (n % 4)}.{('css', 'js', 'png')[n % 3]}",
            started=begun + 0.05 * n,
            request_start=begun + 0.05 * n + 0.02,
            response_start=begun + 0.05 * n + 0.2,
            response_end=begun + 0.06 * n + 0.3,
            status=404 if n == 7 else 200,
            is_navigation=n == 0,
        )
        for n in range(24)
    )
    pictures = tuple(Frame(begun + 0.2 * n, png(n * 60, (640, 480))) for n in range(9))
    load = page_load(
        start=begun,
        navigation_start=begun,
        load=begun + 2.0,
        end=begun + 4.0,
        requests=requests,
        first_contentful_paint=begun + 0.7,
        title="A page",
    )
    entry = EntryTor(
        connection=1,
        measurement=LOAD,
        local_port=40001,
        stream_id=9,
        circ_id=101,
        path=tuple(RELAYS[:3]),
        reply=0,
        times={},
    )
    carrier = Carrier(host="site.example", port=80, opened=begun, closed=begun + 4, entry=entry)
    job = Job(directory=directory, measurement=LOAD, load=load, carriers=(carrier,))
    written = write_files(job, png(480, (1280, 800)), pictures)
    assert not written.troubles, written.troubles
