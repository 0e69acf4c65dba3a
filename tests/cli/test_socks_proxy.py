"""The first local try: ``twistd -n socks``, which speaks SOCKS 4 only, and ``network = socks`` in front of it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import SOCKS_CONFIG, TestInstance, free_port, running, wait_for


@pytest.fixture(scope="module")
def twistd_socks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real ``twistd -n socks``."""
    port = free_port()
    command = TestInstance.twistd_command("-n", "--pidfile=", "socks", "--interface=127.0.0.1", f"--port={port}")
    directory = tmp_path_factory.mktemp("socks")
    with running(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: accepts(port), "twistd -n socks")
        yield port


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def instance(directory: Path, proxy: str) -> TestInstance:
    return TestInstance(directory, SOCKS_CONFIG.replace("[server]", f"socks-proxy = {proxy}\n[server]"))


@pytest.mark.parametrize("form", ["socks4://127.0.0.1:{}", "socks4a://me@127.0.0.1:{}"])
def test_measures(tmp_path: Path, twistd_socks: int, form: str) -> None:
    """Runs through it are good, in every line of perfd.log."""
    daemon = instance(tmp_path, form.format(twistd_socks))
    daemon.start()
    try:
        runs = daemon.wait_for_measurements(2, outcome="ok")
    finally:
        assert daemon.perfd("stop").returncode == 0
    for run in runs:
        assert (run.payloadbytes, run.negotiate) == (51200, None)
        assert run.endpointproxy.endswith(f"127.0.0.1:{twistd_socks}")
        assert run.start <= run.socket <= run.connect <= run.request <= run.response <= run.datarequest


@pytest.mark.long
def test_told_within_seconds(tmp_path: Path, twistd_socks: int) -> None:
    """Without the version each run says within seconds what to write; so does one through what is no proxy."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port, remedy in (
            (twistd_socks, f"speaks SOCKS 4, not 5: write socks4://127.0.0.1:{twistd_socks}"),
            (mute.getsockname()[1], "does not answer as a SOCKS proxy"),
        ):
            begun = time.monotonic()
            measure = ("measure", "--json", "--count", "1", "--timeout", "60s")
            done = instance(tmp_path, f"127.0.0.1:{port}").perfd(*measure)
            assert time.monotonic() - begun < 20
            (record,) = map(json.loads, done.stdout.splitlines())
            assert (record["outcome"], record["errorcode"]) == ("failed", "PERFD/SOCKS")
            assert remedy in record["reason"]
