"""All pages, made of a real database: hostile texts, nothing at all, much of it."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.charts.html import digest
from perfd.pages.make import PAGES, make
from perfd.pages.records import Made, PageRequest, View
from perfd.record import (
    Attach,
    Circuit,
    Event,
    Hop,
    Measurement,
    Note,
    Outcome,
    StoredComparison,
    Stream,
    TorEvent,
)
from perfd.store.filters import Filter
from perfd.store.inserts import insert_many
from perfd.store.parameters import RESULTS
from perfd.store.rows import CIRCUITS, COMPARISONS, CURVES, EVENTS, NOTES, STREAMS
from perfd.store.schema import open_database
from tests.support.curves import arrival, circuit
from tests.support.pages import NOW, Document, recent, state, variant
from tests.support.strategies import TEXTS, measurements

HOSTILE = "<script>alert('1')</script>&\"\x00é" + "w" * 200
RELAY = "$" + "A" * 40
ID = "0" * 31 + "1"
OTHER_ID = "0" * 31 + "2"
CIRCUIT = "circuit-1"


def asked(page: str, /, **arguments: Any) -> PageRequest:
    """A request for a page; its path is that of its name."""
    return PageRequest(name=page, view=View(f"/{page}"), arguments=arguments, state=state(), seconds=20.0)


def arguments_of(name: str) -> Mapping[str, Any]:
    of_one = {"measurement": {"id": ID}, "circuit": {"id": CIRCUIT}}
    return {**of_one, "experiment": {"name": HOSTILE}, "comparison": {"name": HOSTILE}}.get(name, {})


def filled(path: Path, *found: Measurement) -> Path:
    """A database with these measurements, and a circuit, a stream and an event that are hostile."""
    with closing(open_database(path)) as connection:
        insert_many(connection, found)
        hop = Hop(RELAY, HOSTILE[:60], NOW - 9)
        circuit = Circuit(
            id=CIRCUIT,
            source="example",
            tor="default",
            circ_id=7,
            launch=NOW - 10,
            built=NOW - 8,
            status="BUILT",
            path=(hop, attrs.evolve(hop, built=NOW - 8)),
            failure_local=HOSTILE,
            events=(Event(NOW - 9, HOSTILE),),
        )
        stream = Stream(
            id="stream-1",
            source="example",
            tor="default",
            stream_id=3,
            new=NOW - 7,
            status="CLOSED",
            target=HOSTILE,
            measurement=ID,
            circuit=CIRCUIT,
            attaches=(Attach(7, NOW - 7),),
            events=(Event(NOW - 7, HOSTILE),),
        )
        event = TorEvent(NOW - 6, "example", "default", HOSTILE[:40], HOSTILE)
        design = {
            "arms": [[HOSTILE, HOSTILE, None, {}], ["b", "", None, {}]],
            "block": 6,
            "blocks": None,
            "primary": "complete",
            "margin": 0.03,
        }
        made = StoredComparison(id=HOSTILE, source="example", begun=NOW, seed=5, design=json.dumps(design))
        with connection:
            for table, record in ((CIRCUITS, circuit), (STREAMS, stream), (EVENTS, event), (COMPARISONS, made)):
                connection.execute(table.insert, table.row(record))  # type: ignore[attr-defined, arg-type]
    return path


def hostile(n: int) -> Measurement:
    """One whose texts are all hostile."""
    return recent(
        n,
        experiment=HOSTILE,
        tor=HOSTILE,
        outcome=Outcome.FAILED,
        errorcode=HOSTILE[:50],
        reason=HOSTILE,
        path=(RELAY, RELAY),
        extra={"PATHNICKNAMES": HOSTILE.replace(",", "") + ",b", "NOTE": HOSTILE},
    )


def document(made: Made) -> Document:
    """A page that is as all must be: strict, allowed by its own policy, and the same when it is unpacked."""
    assert gzip.decompress(made.packed) == made.body
    found = Document(made.body.decode())
    assert found.all("html")[0]["lang"] == "en"
    assert len(found.all("h1")) == 1
    assert found.all("title") == [{}]
    if found.style:
        assert digest(found.style) in made.policy
    assert "unsafe" not in made.policy
    assert made.policy.startswith("default-src 'none'")
    for attributes in found.all("a") + found.all("link"):
        assert not attributes["href"].startswith(("http:", "//", "javascript:"))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_hostile_texts(tmp_path: Path, name: str) -> None:
    """Whatever texts there are show as texts."""
    path = filled(tmp_path / "db.sqlite", hostile(1), recent(2))
    told = state([HOSTILE, "download-50k"], title=HOSTILE, contact=HOSTILE, description=HOSTILE, source=HOSTILE)
    told.health["tors"][0].update(state=HOSTILE, healthy=False)
    request = attrs.evolve(asked(name, **arguments_of(name)), state=told)
    made = make(request, path)
    assert made.status == 200
    found = document(made)
    assert b"<script" not in made.body
    assert "alert('1')" in found.text


@pytest.mark.parametrize("name", PAGES)
def test_nothing_there(tmp_path: Path, name: str) -> None:
    """An empty database, and none at all."""
    path = tmp_path / "db.sqlite"
    request = attrs.evolve(asked(name, **arguments_of(name)), state=state([]))
    made = make(request, path)
    assert made.status == 503
    assert "Nothing was measured yet" in document(made).text
    open_database(path).close()
    made = make(request, path)
    assert made.status == (404 if arguments_of(name) else 200)
    document(made)


@pytest.mark.parametrize("name", PAGES)
def test_other_databases(tmp_path: Path, name: str) -> None:
    """What is no database, and a query that takes too long."""
    (tmp_path / "none.sqlite").write_bytes(b"x" * 5000)
    assert make(asked(name, **arguments_of(name)), tmp_path / "none.sqlite").status == 503


def test_too_long(tmp_path: Path) -> None:
    """A reader who may only read for so long is told to ask for less."""
    path = filled(tmp_path / "db.sqlite", *(recent(n) for n in range(2000)))
    made = make(attrs.evolve(asked("overview"), seconds=0.0), path)
    assert made.status == 503
    assert "takes too long" in document(made).text


def test_overview(tmp_path: Path) -> None:
    """The medians are those of the runs, the strip has what happened, and what went wrong is told."""
    found = [recent(n) for n in range(2000)]
    found[5] = recent(5, outcome=Outcome.TIMEOUT, datacomplete=None, errorcode="PERFD/STALL", reason="it hung")
    path = filled(tmp_path / "db.sqlite", *found)
    page = document(make(asked("overview"), path))
    took = (found[0].datacomplete or 0) - found[0].start
    assert f"{took:.3g} s" in page.text
    assert "The one experiment is healthy." in page.text
    assert "PERFD/STALL it hung" in page.text
    (strip,) = (each for each in page.all("div") if each.get("class") == "outcomes")
    assert strip["aria-label"].endswith(": 287 ok, 1 timeout")
    parts = [each for each in page.all("i") if each.get("title", "").endswith("timeout")]
    assert [(each["class"], each["title"]) for each in parts] == [("timeout", "5 ok, 1 timeout")]
    assert [each["id"] for each in page.all("figure")] == ["overview-first-byte-time", "overview-throughput-time"]


def test_live(tmp_path: Path) -> None:
    """It is said how old it all is, what comes next, and how to make it stay, or go on if it was paused."""
    path = filled(tmp_path / "db.sqlite", recent(1))
    page = document(make(asked("overview"), path))
    assert "Data as of 2023-11-14 22:13:20 UTC; next run in 30 s; looks again every 60 s, pause ." in page.text
    assert "/overview?pause=1" in [each["href"] for each in page.all("a")]
    paused = attrs.evolve(asked("overview"), view=View("/overview", {}, "dark", is_paused=True))
    page = document(make(paused, path))
    assert "next run in 30 s; paused, go on ." in page.text
    assert {"/overview?theme=dark", "/overview?pause=1&theme=light"} <= {each["href"] for each in page.all("a")}


def test_experiment(tmp_path: Path) -> None:
    """Its numbers are those of the runs of the period; each way of measuring has its own row."""
    found = [recent(n, tor="alpha" if n % 2 else "beta") for n in range(400)]
    found[4] = recent(4, tor="beta", outcome=Outcome.FAILED, errorcode="TOR/TIMEOUT", datacomplete=None)
    path = filled(tmp_path / "db.sqlite", *found)
    page = document(make(asked("experiment", name="download-50k", period="day"), path))
    assert "288 runs in the last day, of which 1 failed: 0.347 % (95 % interval 0.00879 to 1.92)." in page.text
    assert "download-50k [alpha] 144 0 (0 %)" in page.text
    assert "download-50k [beta] 144 1 (0.694 %)" in page.text
    assert "/results?experiment=download-50k&errorcode=TOR%2FTIMEOUT" in [each["href"] for each in page.all("a")]
    names = {each["id"] for each in page.all("figure")}
    assert {"download-50k-complete-cdf", "download-50k-failures", "download-50k-hops"} <= names
    assert len(make(asked("experiment", name="download-50k", period="week"), path).packed) < 100 * 1024


def test_relays(tmp_path: Path) -> None:
    """The one that is slow is found, and no other."""
    relays = [f"${n:040X}" for n in range(12)]
    found = []
    for n in range(600):
        path = (relays[n % 4], relays[4 + n % 3], relays[7 + n % 5])
        plain = recent(n, path=path, extra={})
        slower = 3.0 + n / 1000 if path[0] == relays[1] and n * 7919 % 101 < 40 else n * 31 % 10 / 100
        found.append(attrs.evolve(plain, datacomplete=(plain.datacomplete or 0) + slower))
    page = document(make(asked("relays", period="week"), filled(tmp_path / "db.sqlite", *found)))
    assert page.text.count("Slow more often than chance explains: 1 relay at a place in circuits") == 1
    assert f"/results?guard=%24{1:040X}" in [each["href"] for each in page.all("a")]


def test_onion(tmp_path: Path) -> None:
    """The median of each step, and its share of the whole."""
    steps = ("HSDESCREQUESTED", "HSDESCRECEIVED", "HSRENDBUILT", "HSRENDESTABLISHED", "HSINTROACK", "HSRENDJOINED")
    found = []
    for n in range(20):
        plain = recent(n, server="onion")
        times = {key: plain.start + 0.01 + 0.05 * k for k, key in enumerate(steps)}
        found.append(attrs.evolve(plain, extra=times))
    page = document(make(asked("onion"), filled(tmp_path / "db.sqlite", *found)))
    assert "descriptor 0.05 s 0.05 to 0.05 s" in page.text
    assert "in 20 runs of the last month" in page.text


def test_summary(tmp_path: Path) -> None:
    """The sentence says what is wrong, and since when."""
    path = filled(tmp_path / "db.sqlite", recent(1))
    told = state(["a", "b", "c"])
    told.health["experiments"][1].update(healthy=False, variants=[variant(healthy=False, last=NOW - 2400)])
    told.health["experiments"][2].update(healthy=False, variants=[variant(healthy=False, last=None)])
    told.health["tors"][0].update(healthy=False, state="not reachable")
    told.health["database"] = "no room"
    page = document(make(attrs.evolve(asked("overview"), state=told), path))
    said = "1 of 3 experiments healthy; b has had no success for 40 min, and 1 more. Tor default is not reachable."
    assert f"{said} The database: no room." in page.text


def test_measurement(tmp_path: Path) -> None:
    """Its steps, its relays, what tor told, its neighbours, and all of the record."""
    path = filled(tmp_path / "db.sqlite", recent(0), recent(1), recent(2))
    page = document(make(asked("measurement", id=ID), path))
    assert "alert('1')" in page.text  # what tor told of its stream
    hrefs = [each["href"] for each in page.all("a")]
    assert {f"/results/{2:032x}", f"/results/{0:032x}"} <= set(hrefs)
    (text,) = [text for text in page.texts if text.startswith("{\n")]
    assert json.loads(text) == json.loads(json.dumps(recent(1).as_dict()))
    rows = [each["aria-label"] for each in page.all("div") if each.get("class") == "track"]
    assert any(row.startswith("payload: ") for row in rows)


def test_times_before_the_start(tmp_path: Path) -> None:
    """A file that somebody wrote may say that a run ended before it began."""
    runs = [recent(n, start=NOW - 60 * n) for n in range(1, 5)]
    path = filled(tmp_path / "db.sqlite", *runs)
    for name, arguments in (("overview", {}), ("experiment", {"name": "download-50k"}), ("relays", {})):
        assert make(asked(name, **arguments), path).status == 200
    assert make(asked("experiment", name="download-50k", period="year"), path).status == 200


def test_links(tmp_path: Path) -> None:
    """A circuit leads to its measurements, and the first page to comparisons."""
    path = filled(tmp_path / "db.sqlite", recent(1, circ_id=7))
    (href,) = [
        each["href"]
        for each in document(make(asked("circuit", id=CIRCUIT), path)).all("a")
        if "circuit=7" in each["href"]
    ]
    read = {parameter.name: parameter.read for parameter in RESULTS}
    arguments = {name: read[name](text) for name, text in parse_qsl(urlsplit(href).query)}
    assert f"/results/{ID}" in make(asked("results", **arguments), path).body.decode()
    told = state(comparisons=("a/b",))
    for name in ("overview", "status"):
        page = document(make(attrs.evolve(asked(name), state=told), path))
        assert "/compare/a%2Fb" in [each["href"] for each in page.all("a")]


def test_measured_relay(tmp_path: Path) -> None:
    """The relay of a scan, the proof of work, and the consensus, in words."""
    extra = {"SCANRELAY": RELAY, "SCANNICKNAME": "gamma", "SCANPLACE": "exit", "HSPOWEFFORT": 12}
    extra |= {"CONSENSUS": 1795770960.0, "CONSENSUSPARAMS": "e3b0c44298fc"}
    path = filled(tmp_path / "db.sqlite", recent(1, extra=extra))
    page = document(make(asked("measurement", id=ID), path))
    for words in (f"gamma {RELAY} as exit", "effort 12", ", parameters e3b0c44298fc"):
        assert words in page.text


def test_lists(tmp_path: Path) -> None:
    """Filters stay in the form and in the links, pages follow each other without repeating or leaving out."""
    path = filled(tmp_path / "db.sqlite", *(recent(n, experiment="a" if n % 2 else "b") for n in range(250)))
    seen: list[str] = []
    view = View("/results", {"experiment": "a"}, "dark")
    arguments: dict[str, Any] = {"experiment": "a"}
    read = {parameter.name: parameter.read for parameter in RESULTS}
    for _ in range(3):
        made = make(PageRequest(name="results", view=view, arguments=arguments, state=state()), path)
        page = document(made)
        hrefs = [each["href"] for each in page.all("a")]
        seen += [href for href in hrefs if href.startswith("/results/")]
        older = re.search(r"after=([0-9.]+)%2C([0-9a-f]+)[^\"]*\">Older ones", made.body.decode())
        if older:
            after = ",".join(older.groups())
            view = attrs.evolve(view, arguments={"experiment": "a", "after": after})
            arguments = {"experiment": "a", "after": read["after"](after)}
    assert [href.partition("?")[0] for href in seen] == [f"/results/{n:032x}" for n in range(1, 250, 2)]
    assert all(href.endswith("theme=dark") for href in seen)
    assert not older
    assert {"type": "text", "name": "experiment", "value": "a"} in page.all("input")
    assert {"type": "hidden", "name": "theme", "value": "dark"} in page.all("input")
    assert page.all("html")[0]["data-theme"] == "dark"


def test_many_experiments(tmp_path: Path) -> None:
    """Fifty of them, with long names, are still a short page."""
    names = [f"experiment-{n}-{'x' * 200}" for n in range(50)]
    path = filled(
        tmp_path / "db.sqlite", *(recent(n * 50 + k, experiment=e) for n, e in enumerate(names) for k in range(9))
    )
    made = make(attrs.evolve(asked("overview"), state=state(names)), path)
    assert len(document(made).all("tr")) > 50
    assert len(made.packed) < 30 * 1024


@given(
    st.lists(
        measurements(extra=st.dictionaries(st.sampled_from(["PATHNICKNAMES", "LOAD", "BLOCK"]), TEXTS)), max_size=3
    )
)
def test_any_measurement(tmp_path_factory: pytest.TempPathFactory, found: list[Measurement]) -> None:
    """Whatever is stored has a page."""
    path = tmp_path_factory.mktemp("any") / "db.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, found)
    for each in found:
        assert make(asked("measurement", id=each.id), path).status == 200
    assert make(attrs.evolve(asked("overview"), state=state(["a"], now=NOW)), path).status == 200
    assert make(asked("results"), path).status == 200


def test_filter_of_results_is_that_of_programs() -> None:
    """Requests of series are left out of the table too, unless they are asked for."""
    window = PAGES["results"].__self__.window  # type: ignore[attr-defined]
    assert window() == Filter(requests=False)
    assert window(series="x") == Filter(series="x", requests=True)


def test_by_day(tmp_path: Path) -> None:
    """Distributions of each day, of each way of measuring; their counts are those of the days."""
    path = filled(tmp_path / "db.sqlite", *(recent(n) for n in range(700)))
    page = document(make(asked("experiment", name="download-50k", period="week", by="day"), path))
    days = Counter(datetime.fromtimestamp(recent(n).start, UTC).strftime("%m-%d") for n in range(700))
    for day, count in days.items():
        assert re.search(rf"{day} \(median [0-9.]+ s, n = {count}\)", page.text), day
    assert "by variant" in page.text
    assert "download-50k-days-complete-cdf" in [each.get("id") for each in page.all("figure")]


def test_progress(tmp_path: Path) -> None:
    """How far a payload had come after how long: the median of the runs."""
    path = filled(tmp_path / "db.sqlite", *(recent(n, type="upload") for n in range(20)))
    page = document(make(asked("experiment", name="download-50k", period="day"), path))
    assert "download-50k-progress" in [each.get("id") for each in page.all("figure")]
    run = recent(0)
    assert f"{run.dataperc[50] - run.start:.3g}" in page.text


def test_all_failed(tmp_path: Path) -> None:
    """Where nothing ever went well, each page says so, and none has a line to draw."""
    failed = {"outcome": Outcome.FAILED, "errorcode": "TOR/CONNECTRESET", "datacomplete": None, "dataperc": {}}
    path = filled(tmp_path / "db.sqlite", *(recent(n, **failed) for n in range(300)))
    page = document(make(asked("experiment", name="download-50k", period="day"), path))
    assert "of which 288 failed: 100 %" in page.text
    for by in ("variant", "day"):
        document(make(asked("experiment", name="download-50k", period="year", by=by), path))
    overview = document(make(asked("overview"), path))
    assert "TOR/CONNECTRESET" in overview.text


def test_legs(tmp_path: Path) -> None:
    """The legs of a Conflux set: relays, build times, round trips and windows of both."""
    run = recent(1, id=OTHER_ID, circ_id=7, conflux_id="A" * 8, conflux_circ_ids=("7", "8"), path=(RELAY, RELAY))
    path = filled(tmp_path / "db.sqlite", run)
    with closing(open_database(path)) as connection, connection:
        for number, nickname in ((7, "guard"), (8, "other")):
            leg = Circuit(
                id=f"session-c{number}",
                source="example",
                tor="default",
                circ_id=number,
                launch=NOW - 10,
                built=NOW - 8 - number / 10,
                status="BUILT",
                path=(Hop(RELAY, nickname, NOW - 9), Hop(RELAY, "exit", NOW - 8 - number / 10)),
                conflux_id="A" * 8,
                conflux_rtt=0.1 * number,
                cc_cwnd=100 + number,
            )
            connection.execute(CIRCUITS.insert, CIRCUITS.row(leg))
        carrier = Stream(
            id="session-s1",
            source="example",
            tor="default",
            stream_id=9,
            status="CLOSED",
            measurement=OTHER_ID,
            circuit="session-c7",
        )
        connection.execute(STREAMS.insert, STREAMS.row(carrier))
    page = document(make(asked("measurement", id=OTHER_ID), path))
    assert "7 (linked to the stream) guard exit 1.300 s 700 ms 107 cells" in page.text
    assert "8 other exit 1.200 s 800 ms 108 cells" in page.text
    assert "legs" in [each.get("id") for each in page.all("figure")]


def test_curves_of_a_measurement(tmp_path: Path) -> None:
    """How its payload came is drawn, with its longest silence in words; one leg alone has no chart of legs."""
    path = filled(tmp_path / "db.sqlite", recent(1))
    with closing(open_database(path)) as connection, connection:
        for curve in (arrival(ID), circuit(ID, 7)):
            connection.execute(CURVES.insert, CURVES.row(curve))
    text = document(make(asked("measurement", id=ID), path)).text
    assert "How the payload came" in text
    assert "The longest time without a byte was 1.000 s, after 2 MiB had come." in text
    assert "Windows of the circuits" in text
    assert "What each leg brought" not in text
    with closing(open_database(path)) as connection, connection:
        connection.execute(CURVES.insert, CURVES.row(circuit(ID, 8)))
    assert "What each leg brought" in document(make(asked("measurement", id=ID), path)).text


def test_silences_of_an_experiment(tmp_path: Path) -> None:
    """The longest silences of its runs that went well are one distribution; those of others are not in it."""
    runs = [recent(n, experiment="download-50k") for n in range(3)]
    failed = recent(3, experiment="download-50k", outcome=Outcome.FAILED, errorcode="PERFD/CLOSED")
    other = recent(4, experiment="other")
    path = filled(tmp_path / "db.sqlite", *runs, failed, other)
    request = asked("experiment", name="download-50k")
    assert "Longest time without a byte" not in document(make(request, path)).text
    with closing(open_database(path)) as connection, connection:
        for run in (*runs, failed, other):
            connection.execute(CURVES.insert, CURVES.row(arrival(run.id, run.start)))
    text = document(make(request, path)).text
    assert "Longest time without a byte" in text
    assert "default (median 1 s, n = 3)" in text


@pytest.mark.parametrize("period", ["week", "month"])
def test_marks(tmp_path: Path, period: str) -> None:
    """Notes, and new versions of its tors, are marked on each chart over time, with their texts below it."""
    found = [recent(n, torversion="0.4.9.11" if n < 200 else "0.4.8.1") for n in range(400)]
    found.append(recent(500, tor="other", torversion="0.1"))
    found += [recent(n, tor="other", torversion="0.2", experiment="other") for n in (1, 2)]
    found[4] = recent(4, outcome=Outcome.FAILED, errorcode="TOR/TIMEOUT", torversion="0.4.9.11", datacomplete=None)
    path = filled(tmp_path / "db.sqlite", *found)
    with closing(open_database(path)) as connection, connection:
        for at, text in ((NOW - 7200, HOSTILE), (NOW - 90 * 86400, "long ago")):
            connection.execute(NOTES.insert, NOTES.row(Note(source="example", at=at, text=text)))
    page = document(make(asked("experiment", name="download-50k", period=period), path))
    over_time = [each["id"] for each in page.all("figure") if each["id"].endswith(("-time", "-failures"))]
    assert len(over_time) == len([each for each in page.all("ol") if each.get("class") == "marks"]) == 4
    assert page.text.count("default is 0.4.9.11") == 4
    assert page.text.count(HOSTILE[:40]) == 4
    assert "long ago" not in page.text
    overview = document(make(asked("overview"), path))
    assert overview.text.count("default is 0.4.9.11") == 2


def test_long_periods(tmp_path: Path) -> None:
    """What hours do not have is shown of the newest runs."""
    found = [
        recent(n, type="pageload", extra={"LOAD": recent(n).start + 2.0, "SPEEDINDEX": 1500.0}) for n in range(30)
    ]
    path = filled(tmp_path / "db.sqlite", *found)
    page = document(make(asked("experiment", name="download-50k", period="year"), path))
    names = {each["id"] for each in page.all("figure")}
    assert {f"download-50k-{name}" for name in ("hops", "page-load", "speed-index", "steps-1", "progress")} <= names
    assert "download-50k (median 1.5 s, n = 30)" in page.text


def test_where_onion_runs_fail(tmp_path: Path) -> None:
    """Failures by the step that was not done."""
    run = recent(
        1, server="onion", outcome=Outcome.FAILED, errorcode="TOR/TIMEOUT", dataresponse=None, datacomplete=None
    )
    steps = {"HSDESCREQUESTED": run.start + 0.1, "HSDESCRECEIVED": run.start + 0.2}
    found = [attrs.evolve(run, extra=steps), attrs.evolve(run, id=OTHER_ID, extra={})]
    page = document(make(asked("onion"), filled(tmp_path / "db.sqlite", *found)))
    assert "rendezvous point 1 50 %" in page.text
    assert "descriptor 1 50 %" in page.text
