"""Clients without a control port, measured by a daemon: a tor, ``twistd -n socks``, Dante, a stand-in for Arti."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from perfd.record import Outcome
from tests.support import fake_arti
from tests.support.instance import TestInstance, free_port, is_alive, processes_in, wait_for

pytestmark = pytest.mark.tor

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
[client:arti]
kind = arti
command = {python} {fake}
version-command = {python} {fake} --version
[client:bare]
command = tor -f bare.torrc
version-command = tor --version
socks = socks5://127.0.0.1:{bare}
[client:twisted]
command = {twistd} -n --pidfile= socks --interface=127.0.0.1 --port={twisted}
socks = socks4://127.0.0.1:{twisted}
isolation = none
{dante_section}
[experiment:small]
tor = default, arti, bare, twisted{dante}
size = 10 KiB
interval = 4 s
"""

DANTE = """
[client:dante]
command = danted -f danted.conf
socks = socks5://127.0.0.1:{port}
"""

DANTED = """
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


def leaders(directory: Path) -> list[int]:
    """The clients themselves, which lead a group each."""
    return [pid for pid in processes_in(directory) if os.getpgid(pid) == pid]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_clients(tmp_path: Path, testnet: Any) -> None:
    """Each is measured with all stamps and no key of tor's, launched again when it ends, and gone with Perfd."""
    ports = {name: free_port() for name in ("bare", "twisted", "dante")}
    has_dante = shutil.which("danted", path=f"{os.environ['PATH']}:/usr/sbin") is not None
    values = {
        "testnet": testnet.directory,
        "python": sys.executable,
        "twistd": TestInstance.twistd_command()[0],
        "fake": fake_arti.__file__,
        "dante": ", dante" if has_dante else "",
        "dante_section": DANTE.format(port=ports["dante"]) if has_dante else "",
        "bare": ports["bare"],
        "twisted": ports["twisted"],
        "port": "{port}",
    }
    instance = TestInstance(tmp_path, CONFIG.format(**values))
    torrc = [f"SocksPort 127.0.0.1:{ports['bare']}", f"DataDirectory {tmp_path}/bare", *testnet.client_options]
    (tmp_path / "bare.torrc").write_text("\n".join(torrc) + "\n")
    (tmp_path / "danted.conf").write_text(DANTED.format(port=ports["dante"]))
    clients = ["arti", "bare", "twisted", *(["dante"] if has_dante else [])]
    versions = {"arti": "2.5.1", "bare": None, "twisted": None, "dante": None}
    instance.start()
    try:
        for client in clients:
            run = instance.wait_for_measurements(2, tor=client, outcome=Outcome.OK)[-1]
            assert (run.torversion, run.circ_id, run.path, run.buildtimes) == (None,) * 4, run
            assert run.extra["CLIENT"] == ("arti" if client == "arti" else "socks")
            assert run.extra.get("CLIENTVERSION") == versions[client] or client == "bare"
            stamps = [run.start, run.socket, run.connect, run.request, run.response, run.datarequest]
            assert None not in (*stamps, run.datacomplete, run.servercomplete)
            assert stamps == sorted(stamps)  # type: ignore[type-var]
        keys = (tmp_path / "clients" / "arti" / "keys").read_text().splitlines()
        assert len(set(keys)) >= 3
        health = json.loads(instance.get("/health")[1])
        states = {tor["name"]: tor["state"] for tor in health["tors"]}
        assert states == dict.fromkeys(["default", *clients], "ready")
        metrics = instance.get("/metrics")[1].decode()
        assert 'perfd_tor_ready{tor="arti"} 1.0' in metrics
        assert 'bootstrap_percent{tor="arti"}' not in metrics
        (first,) = leaders(tmp_path / "clients" / "arti" / "arti.toml")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: leaders(tmp_path / "clients" / "arti" / "arti.toml") not in ([], [first]), "another Arti")
        count = len(instance.wait_for_measurements(1, tor="arti", outcome=Outcome.OK))
        instance.wait_for_measurements(count + 1, tor="arti", outcome=Outcome.OK)
        ours = [pid for name in clients for pid in programs(name, ports, tmp_path)]
        assert len(ours) >= len(clients)
        instance.kill()
        wait_for(lambda: not [pid for pid in ours if is_alive(pid)], "the end of all clients")
    finally:
        instance.perfd("stop")
        for pid in processes_in(tmp_path):
            os.kill(pid, signal.SIGKILL)


def programs(name: str, ports: dict[str, int], directory: Path) -> list[int]:
    """The processes of a client, but not those between them and Perfd."""
    words = {"arti": "arti.toml", "bare": "bare.torrc", "dante": "danted.conf"}
    words["twisted"] = f"--port={ports['twisted']}"
    found = [pid for pid in processes_in(Path(words[name])) if os.getpgid(pid) == pid]
    return [pid for pid in found if os.readlink(f"/proc/{pid}/cwd") == str(directory)]
