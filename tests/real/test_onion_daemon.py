"""Our web server as an onion service, several tors in one service, and how circuits are shared; with a real tor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perfd.record import Error, Outcome
from tests.support.instance import TestInstance, free_port, processes_in, wait_for

pytestmark = pytest.mark.tor

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
results = local
onion-tor = a
onion-auth = yes
onion-pow = yes
onion-metrics = 3 s
[tor]
torrc = MaxCircuitDirtiness 10 seconds
[tor:a]
conflux-ux = latency
torrc = MaxCircuitDirtiness 10 seconds
    MetricsPort 127.0.0.1:{metrics}
    MetricsPortPolicy accept 127.0.0.1
[tor:b]
torrc = MaxCircuitDirtiness 10 seconds
    ConfluxEnabled 0
[experiment:both]
interval = 3 s
timeout = 20 s
tor = a, b
server = public, onion
[experiment:fresh]
interval = 8 s
timeout = 20 s
tor = a
server = onion
fresh-descriptor = yes
[experiment:reuse]
interval = 2 s
timeout = 20 s
tor = b
circuit = reuse
[experiment:learnt]
interval = 5 s
timeout = 4 s
tor = b
skip-until-cbt = yes
"""


@pytest.fixture
def instance(tmp_path: Path, testnet: Any) -> Iterator[TestInstance]:
    """An instance with two tors on the private network of this test run, started."""
    made = TestInstance(
        tmp_path, CONFIG.replace("{testnet}", str(testnet.directory)).replace("{metrics}", str(free_port()))
    )
    made.start()
    yield made
    made.perfd("stop")
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def curl(url: str, *arguments: str) -> int:
    """The HTTP status that is answered; 0 if nothing is."""
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-m", "60", "--noproxy", "", *arguments, url]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=90)
    return int(done.stdout or 0)


def test_local_results_are_not_for_those_behind_an_exit(instance: TestInstance) -> None:
    """An exit on this machine connects from here too; what is local can be told from that."""
    instance.wait_for_measurements(1, experiment="both", tor="b", server="public", outcome=Outcome.OK)
    ready = re.findall(r"tor b was ready: .*SOCKS port 127.0.0.1:(\d+)", instance.log.read_text())
    through_tor = ("--socks5-hostname", f"stranger:x@127.0.0.1:{ready[-1]}")
    for path in ("results", "health", "metrics"):
        url = f"http://127.0.0.1:{instance.port}/{path}"
        assert curl(url) in (200, 503)
        assert curl(url, "-H", "X-Forwarded-For: 192.0.2.1") == 403
        found = wait_for(lambda url=url: curl(url, *through_tor), "an answer")  # type: ignore[misc]
        assert found == 403, path
    url = f"http://127.0.0.1:{instance.port}/random/100"
    assert wait_for(lambda: curl(url, *through_tor), "an answer") == 200


def test_tors_and_ways(instance: TestInstance) -> None:
    """An experiment runs over each of its tors and ways; its runs are joined, and never overlap on a tor."""
    ways = [(tor, server) for tor in "ab" for server in ("public", "onion")]
    measured = {}
    for tor, server in ways:
        wanted = {"experiment": "both", "tor": tor, "server": server, "outcome": Outcome.OK}
        measured[tor, server] = instance.wait_for_measurements(2, **wanted)[-1]
    for (tor, server), run in measured.items():
        assert run.circ_id is not None
        assert run.used_by is not None
        assert run.path is not None
        assert run.guard == run.path[0]
        assert run.buildtimes is None or len(run.buildtimes) == len(run.path)
        assert run.transport is None  # there are no bridges
        assert run.conflux is (False if tor == "b" or server == "onion" else run.conflux)
        assert (".onion:0.0.0.0:80" in (run.endpointremote or "")) is (server == "onion")
        assert run.serverrequest is not None

    reused = instance.wait_for_measurements(3, experiment="reuse", outcome=Outcome.OK)
    assert len({run.circ_id for run in reused}) < len(reused)
    fresh = instance.wait_for_measurements(2, experiment="both", tor="b", server="public", outcome=Outcome.OK)
    assert len({run.circ_id for run in fresh}) == len(fresh)
    (skipped, *_) = instance.wait_for_measurements(1, experiment="learnt", errorcode=Error.NOCBT)
    assert skipped.outcome is Outcome.SKIPPED

    on_b = sorted((r.start, r.end) for r in instance.logged() if r.tor == "b" and r.socket is not None)
    assert all(end <= start for (_, end), (start, _) in pairwise(on_b))

    (descriptor, *_) = instance.wait_for_measurements(1, experiment="fresh", outcome=Outcome.OK)
    way = descriptor.extra
    assert way["FRESHDESCRIPTOR"] == 1
    assert descriptor.start < way["HSDESCREQUESTED"] < way["HSDESCRECEIVED"] < way["HSRENDJOINED"]
    assert way["HSRENDJOINED"] < descriptor.datacomplete
    assert "HSINTROACK" in measured["b", "onion"].extra
    assert "HSRENDS" not in measured["a", "public"].extra

    sets = [run for run in instance.logged() if run.tor == "a" and run.outcome is Outcome.OK and run.conflux]
    assert sets
    for run in sets:  # what its legs carried is all that came, and its cells
        read, written = (str(run.extra[key]).split(",") for key in ("CONFLUXREAD", "CONFLUXWRITTEN"))
        assert len(read) == len(written) == len(run.conflux_circ_ids or ())
        assert sum(map(int, read)) > (run.payloadbytes or 0)
    torrc = (instance.directory / "tor" / "a" / "torrc").read_text()
    assert "ConfluxClientUX latency" in torrc
    assert "HSPOWEFFORT" not in measured["a", "onion"].extra  # nobody floods the service
    path = measured["a", "onion"].path or ()
    assert measured["a", "onion"].extra["GUARDLAYERS"] == ",".join(["1", "2", *[""] * (len(path) - 2)])
    told = [event["text"] for event in listed(instance, "/events?keyword=HS_METRICS")]
    assert any("rend_circ_build_time_bucket{le=" in text and "intro_established_count=" in text for text in told)

    run = measured["a", "public"]
    (stream,) = listed(instance, f"/results/{run.id}/streams")
    assert (stream["stream_id"], stream["measurement"]) == (run.used_by, run.id)
    assert any(event["keyword"] == "HS_DESC" for event in listed(instance, "/events?limit=1000"))

    onion = (measured["a", "onion"].endpointremote or "").partition(":")[0]
    keys = sorted((instance.directory / "onion").iterdir())
    assert [(key.name, key.stat().st_mode & 0o777) for key in keys] == [("client-key", 0o600), ("key", 0o600)]
    proxy = (measured["b", "public"].endpointproxy or "").partition(":")[2]
    assert fetch(proxy, f"http://{onion}/random/10") == "200"
    assert fetch(proxy, f"http://{onion}/results") == "403"
    assert instance.get("/results")[0] == 200

    assert instance.perfd("restart").returncode == 0
    restarted = time.time()
    circuits = {circuit["id"] for circuit in listed(instance, "/circuits?tor=a&limit=1000")}
    assert stream["circuit"] in circuits  # at the latest when Perfd stopped, all of them are given out
    again = wait_for(
        lambda: [
            run
            for run in instance.logged()
            if run.server == "onion" and run.outcome is Outcome.OK and run.start > restarted
        ],
        "a run over the onion service after the restart",
    )
    assert (again[0].endpointremote or "").partition(":")[0] == onion


def listed(instance: TestInstance, path: str) -> list[dict[str, Any]]:
    """What a page lists."""
    status, body = instance.get(path)
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body)[path.partition("?")[0].rpartition("/")[2]]
    return found


def fetch(proxy: str, url: str) -> str:
    """The status of ``url`` over a SOCKS port."""
    command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    done = subprocess.run(
        [*command, "--max-time", "60", "--socks5-hostname", proxy, url], capture_output=True, text=True, check=False
    )
    return done.stdout
