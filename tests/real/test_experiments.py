"""A daemon with experiments of all types over a real tor on the private network, and what shows their results."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from perfd.logfile.line import parse
from perfd.record import Measurement, Outcome
from tests.support.instance import TestInstance, processes_in, wait_for

pytestmark = pytest.mark.tor

# Without Conflux a stream has one circuit: with it, it is attached to one leg of a set and uses all of them.
CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
[tor]
bootstrap-timeout = 120 s
torrc = ConfluxEnabled 0
[experiment:series]
type = series
size = 20 KiB
requests = 6
groups = 2
interval = 15 s
timeout = 60 s
[experiment:one]
size = 200 KiB
parallel = 3
interval = 15 s
offset = 1 s
timeout = 60 s
[experiment:each]
size = 200 KiB
parallel = 3
parallel-circuits = each
interval = 15 s
offset = 2 s
timeout = 60 s
[experiment:rtt]
type = rtt
size = 1 MiB
rate = 20
duration = 1 s
interval = 15 s
offset = 3 s
timeout = 60 s
[experiment:pair]
size = 20 KiB
optimistic = both
interval = 15 s
offset = 4 s
timeout = 60 s
[experiment:direct]
size = 20 KiB
tor = none
interval = 5 s
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, testnet: Any) -> Iterator[TestInstance]:
    """An instance on the private network of this test run, which measures."""
    directory = tmp_path_factory.mktemp("experiments")
    made = TestInstance(directory, CONFIG.replace("{testnet}", str(testnet.directory)))
    made.start()
    yield made
    made.perfd("stop")
    for pid in processes_in(directory):
        os.kill(pid, signal.SIGKILL)


def success(instance: TestInstance, experiment: str, kind: str) -> list[Measurement]:
    """The first successes of an experiment, which are in the database too."""
    found = instance.wait_for_measurements(1, 240.0, experiment=experiment, type=kind, outcome=Outcome.OK)
    for each in found:
        wait_for(lambda each=each: instance.get(f"/results/{each.id}")[0] == 200, f"the result {each.id}")
    return found


def circuits(measured: Measurement) -> list[str]:
    return str(measured.extra["STREAMCIRCS"]).split(",")


def test_series(instance: TestInstance) -> None:
    """Streams of a group share circuits, those of two groups never; the command shows which."""
    series = success(instance, "series", "series")[0]
    requests = sorted((m for m in instance.logged() if m.extra.get("SERIES") == series.id), key=lambda m: m.id)
    assert [m.id for m in requests] == [f"{series.id}-{n:04}" for n in range(6)]
    used = [{m.circ_id for m in requests if m.extra["GROUP"] == group} for group in range(2)]
    assert not used[0] & used[1]
    assert None not in used[0] | used[1]
    circuits = len(used[0] | used[1])
    assert (series.extra["CIRCUITS"], series.extra["REUSED"]) == (circuits, 6 - circuits)
    assert series.extra["ATTACHES"] >= 6  # type: ignore[operator]
    assert series.extra["CIRCUITWAITMAX"] >= series.extra["CIRCUITWAITMEDIAN"] >= 0  # type: ignore[operator]
    shown = json.loads(command(instance, "results", "--series", series.id, "--json"))
    assert shown["series"]["id"] == series.id
    assert [each["circ_id"] for each in shown["requests"]] == [m.circ_id for m in requests]
    for each in shown["requests"]:
        (stream,) = each["streams"]
        assert stream["attaches"][-1]["circ_id"] == each["circ_id"]
    carried = {use["circ_id"]: use["requests"] for use in shown["circuits"]}
    for number, request in enumerate(requests):
        assert number in carried[request.circ_id]
    for use in shown["circuits"]:
        request = requests[use["requests"][-1]]
        if request.circ_id == use["circ_id"]:
            assert [hop.partition("~")[0] for hop in use["path"]] == list(request.path or ())
    assert f"Series {series.id} of series" in command(instance, "results", "--series", series.id)
    status, body = instance.get(f"/results?series={series.id}")
    assert (status, len(json.loads(body)["results"])) == (200, 6)
    assert "request" not in {each["type"] for each in instance.results()}


def command(instance: TestInstance, *arguments: str) -> str:
    """What a command prints that works."""
    done = instance.perfd(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_parallel(instance: TestInstance) -> None:
    """Streams that may share a circuit do, and those that must not do not."""
    one, each = success(instance, "one", "download")[0], success(instance, "each", "download")[0]
    assert len(set(circuits(one))) == 1
    assert len(set(circuits(each))) == 3
    for measured in (one, each):
        assert "" not in circuits(measured)
        assert measured.payloadbytes == 3 * 204800
        assert 1 / 3 <= measured.extra["JAIN"] <= 1  # type: ignore[operator]
        assert measured.extra["THROUGHPUT"] > 0  # type: ignore[operator]
        assert len(set(str(measured.extra["STREAMIDS"]).split(","))) == 3


def test_rtt(instance: TestInstance) -> None:
    """The download is on the circuit whose round-trip time is measured."""
    measured = success(instance, "rtt", "rtt")[0]
    assert measured.circ_id is not None
    assert measured.extra["LOADCIRC"] == measured.circ_id
    assert measured.extra["RTTIDLECOUNT"] > 0  # type: ignore[operator]
    assert measured.extra["RTTIDLEMIN"] > 0  # type: ignore[operator]
    assert measured.extra["LOADBYTES"] > 0  # type: ignore[operator]
    assert measured.extra["LOADSTREAM"] != measured.used_by


def test_pair(instance: TestInstance) -> None:
    """Two records with the same PAIR, on the same circuit; no Conflux."""
    success(instance, "pair", "download")

    def whole_pairs() -> list[list[Measurement]]:
        found: dict[Any, list[Measurement]] = {}
        for each in success(instance, "pair", "download"):
            found.setdefault(each.extra["PAIR"], []).append(each)
        return [pair for pair in found.values() if len(pair) == 2]

    first, second = wait_for(whole_pairs, "a pair of successes", 240.0)[0]
    assert {first.extra["OPTIMISTIC"], second.extra["OPTIMISTIC"]} == {0, 1}
    assert first.slot == second.slot
    assert first.circ_id == second.circ_id
    assert (first.conflux, second.conflux) == (False, False)
    for each in (first, second):
        assert each.request is not None
        assert each.response is not None
        assert each.datarequest is not None
        assert (each.datarequest < each.response) == bool(each.extra["OPTIMISTIC"])


def test_direct(instance: TestInstance) -> None:
    """The baseline needs no tor and knows none."""
    measured = success(instance, "direct", "download")[0]
    assert (measured.tor, measured.torversion, measured.circ_id, measured.response) == ("none", None, None, None)
    assert measured.serverrequest is not None


def test_records(instance: TestInstance) -> None:
    """What is served is what was logged, for each type; health counts runs."""
    for experiment, kind in (("series", "series"), ("series", "request"), ("one", "download"), ("rtt", "rtt")):
        measured = success(instance, experiment, kind)[0]
        status, body = instance.get(f"/results/{measured.id}", accept="text/plain")
        assert (status, parse(body.decode().rstrip("\n"))) == (200, measured)
        status, body = instance.get(f"/results/{measured.id}")
        assert json.loads(body)["extra"] == dict(measured.extra)
    status, body = instance.get("/health")
    counted = {
        each["name"]: sum(variant["counts"].get("ok", 0) for variant in each["variants"])
        for each in json.loads(body)["experiments"]
    }
    series = [m for m in instance.logged() if m.type == "series" and m.outcome is Outcome.OK]
    assert 0 < counted["series"] <= len(series)
    exported = command(instance, "export", "--format", "json").splitlines()
    assert {json.loads(line)["type"] for line in exported} == {"series", "request", "download", "rtt"}
