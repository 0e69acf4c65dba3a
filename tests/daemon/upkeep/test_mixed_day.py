"""A day of mixed experiments, published: every field that readers compute is that of the database, in every run."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from perfd.daemon.upkeep.archive import Archive
from perfd.formats import published
from perfd.record import Measurement, Outcome
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from tests.support import analysis_rules, readers
from tests.support.mixed_day import DAY, MixedDay
from tests.support.stored import Stored

SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3)))

TGEN = {
    "PERFD/RESET": "TGEN/READ",
    "PERFD/CLOSED": "TGEN/READ",
    "PERFD/STATUS": "TGEN/HEADER",
    "PERFD/INTERNAL": "TGEN/MISC",
    "PERFD/STALL": "TGEN/STALLOUT",
    "PERFD/TIMEOUT": "TGEN/TIMEOUT",
}
"""What Perfd's errors are called in documents."""


class Published:
    """The day, in a real database and published from it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.day = MixedDay.of(seed)
        self.stored = Stored(directory / "instance")
        self.stored.add(self.day.measurements, self.day.circuits, self.day.streams)
        archive = directory / "archive"
        said: list[str] = []
        with StoreReader(self.stored.database) as reader:
            Archive(archive, "example", said.append).publish(reader, DAY + 86400.0)
            wanted = Filter(since=DAY, until=DAY + 86400.0, oldest_first=True)
            self.database = [m for m in reader.measurements(wanted) if m.extra["KIND"] == "plain"]
        self.said = "\n".join(said)
        name = "2023-11-15.onionperf.analysis.json.xz"
        self.document: dict[str, Any] = json.loads(lzma.decompress((archive / name).read_bytes()))
        self.runs = readers.of_document(self.document)
        texts = [path.read_text() for path in sorted(archive.glob("example-*-2023-11-15.tpf"))]
        self.lines = [run for text in texts for run in readers.of_lines(text)]


@pytest.fixture(scope="module", params=SEEDS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("day"), request.param)


def known(m: Measurement, *, is_document: bool) -> dict[str, Any]:
    """What readers should find of a run, by the database."""
    expected: dict[str, Any] = {
        "START": m.start,
        "FILESIZE": m.filesize,
        "DIDTIMEOUT": published.is_error(m),
        "READBYTES": m.readbytes,
        "WRITEBYTES": m.writebytes,
        **{key: getattr(m, key.lower()) for key in readers.STEPS},
        **{key: getattr(m, name) for key, name in readers.CIRCUIT.items()},
        **{f"ENDPOINT{end}": getattr(m, f"endpoint{end.lower()}") for end in ("LOCAL", "PROXY", "REMOTE")},
        **{f"HOSTNAME{end}": getattr(m, f"hostname{end.lower()}") for end in ("LOCAL", "REMOTE")},
        "ERRORCODE": TGEN.get(m.errorcode or "", m.errorcode) if is_document else m.errorcode,
    }
    if m.outcome is Outcome.OK or not is_document:  # documents have the progress of successes only
        expected |= {f"DATAPERC{n}": at for n, at in m.dataperc.items()}
        expected |= {f"PARTIAL{n}": at for n, at in m.partial.items()}
    return {key: value for key, value in expected.items() if value is not None}


def test_is_mixed(found: Published) -> None:
    """The day has everything that it should have."""
    runs = found.database
    assert [m.id for m in runs] == [m.id for m in found.day.published]
    assert {m.tor for m in runs} == {"alpha", "beta", "gamma", "delta", "epsilon"}
    assert {m.server for m in runs} == {"public", "onion"}
    assert {m.outcome for m in runs} == {Outcome.OK, Outcome.FAILED, Outcome.TIMEOUT}
    assert {m.conflux for m in runs} == {True, False}
    assert len(runs) > 350
    assert any((m.end or 0.0) > DAY + 86400.0 for m in runs)
    for what in (published.SKIPPED, published.CANCELLED, published.NOT_PLAIN):
        assert f" {what} left out" in found.said


def test_document_follows_the_schema(found: Published) -> None:
    """OnionPerf's schema 3.1, and what metrics-lib and tornettools demand."""
    analysis_rules.check(found.document)


def check(run: dict[str, Any], wanted: dict[str, Any], slack: float) -> None:
    """The same keys, and the same values to ``slack`` seconds."""
    assert run.keys() == wanted.keys()
    for key, value in wanted.items():
        assert (
            run[key] == pytest.approx(value, abs=slack) if isinstance(value, float | tuple) else run[key] == value
        ), key


def test_every_field_of_every_run_of_the_document(found: Published) -> None:
    """As the database has it; only a number that two tors have used is another one for the second."""
    assert len(found.runs) == len(found.database)
    for each, m in zip(found.runs, found.database, strict=True):
        run = dict(each)
        wanted = known(m, is_document=True)
        for key in ("USED_BY", "CIRC_ID"):
            assert isinstance(run.pop(key), int)
            del wanted[key]
        paths = run.pop("PATH"), wanted.pop("PATH")
        assert paths[0] == paths[1]
        check(run, wanted, 1.5e-6)


def test_every_field_of_every_line(found: Published) -> None:
    """As the database has it, to the millisecond. A line has its circuit's numbers as tor had them."""
    assert len(found.lines) == len(found.database)
    # The times of several runs may be the same there, and ports come round again; not both at once.
    runs = {(f"{m.start:.3f}", m.endpointlocal): m for m in found.database}
    for each in found.lines:
        line = dict(each)
        m = runs.pop((f"{line['START']:.3f}", line["ENDPOINTLOCAL"]))
        wanted = known(m, is_document=False)
        paths = line.pop("PATH"), wanted.pop("PATH")
        assert paths[0] == paths[1]
        check(line, wanted, 0.000_51)


def test_counts(found: Published) -> None:
    """A reader of metrics-web's SQL finds the same requests, timeouts and failures in both, for each server."""
    for server in ("public", "onion"):
        of_database = [m for m in found.database if m.server == server]
        counts = []
        for runs in (found.runs, found.lines):
            of_server = [run for run in runs if (".onion:" in run["ENDPOINTREMOTE"]) is (server == "onion")]
            complete = [run for run in of_server if not run["DIDTIMEOUT"] and "DATACOMPLETE" in run]
            failures = sum(run["READBYTES"] < run["FILESIZE"] for run in complete)
            counts.append((len(of_server), len(of_server) - len(complete), failures))
        errors = sum(m.outcome is not Outcome.OK for m in of_database)
        assert counts == [(len(of_database), errors, 0)] * 2


def test_build_times(found: Published) -> None:
    """tornettools takes those of all circuits: each that was built has its own, one that tor gave up has none."""
    (source,) = found.document["data"].values()
    times = {
        (c["unix_ts_start"], c["path"][-1][0][:41]): c.get("buildtime_seconds")
        for c in source["tor"]["circuits"].values()
    }
    checked = 0
    for circuit in found.day.circuits:
        if circuit.launch is None or not DAY <= circuit.launch < DAY + 86400.0:
            continue
        hop = circuit.path[-1]
        has = times[(circuit.launch, hop.fingerprint)]
        if circuit.failure_local:
            assert has is None
        else:
            assert has == pytest.approx((hop.built or 0.0) - circuit.launch, abs=1.5e-6)
        checked += 1
    assert checked > 350
