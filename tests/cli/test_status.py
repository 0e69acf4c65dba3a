"""``perfd status --csv``."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.instance import Instance, InstanceLock

VARIANT = {"tor": "alpha", "server": "public", "healthy": True, "last_success": None, "last_outcome": None}
HEALTH = {
    "healthy": False,
    "database": "ok",
    "log": "the disk is full",
    "public_address": None,
    "tors": [{"name": "alpha", "healthy": True, "state": "ready", "version": "0.4.9"}],
    "experiments": [
        {"name": "five", "next_slot": "2026-11-27T09:00:00Z", "variants": [{**VARIANT, "failures": 2}]}
    ],
    "comparisons": [{"name": "c", "state": "ok"}, {"name": "d", "state": "tor d-1 is starting"}],
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """An instance whose lock is held, and something that answers with HEALTH in the place of its web server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (tmp_path / "perfd.conf").write_text(f"[perfd]\nnetwork = socks\n[server]\nlisten = 127.0.0.1:{port}\n")
        body = json.dumps(HEALTH).encode()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 503 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        instance = Instance(tmp_path)
        lock = InstanceLock(instance.lock_file)
        lock.write_state("")
        try:
            yield tmp_path
        finally:
            lock.release()
            thread.join(10)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_parts(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each part, which says whether it is healthy; the exit code is that of all."""
    assert main(["status", "--csv", "--config", str(running)]) == 1
    daemon, tor, experiment, going, waiting, *files = rows(capsys.readouterr().out)
    assert (daemon["part"], daemon["name"], daemon["healthy"]) == ("daemon", str(os.getpid()), "false")
    assert (tor["part"], tor["name"], tor["state"]) == ("tor", "alpha", "ready")
    assert (experiment["name"], experiment["tor"], experiment["failures"]) == ("five", "alpha", "2")
    assert experiment["next_slot"] == "2026-11-27T09:00:00Z"
    assert [(each["name"], each["state"]) for each in (going, waiting)] == [
        ("c", "ok"),
        ("d", "tor d-1 is starting"),
    ]
    assert [(file["part"], file["healthy"], file["state"]) for file in files] == [
        ("database", "true", "ok"),
        ("log", "false", "the disk is full"),
    ]


def test_lines(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As text a comparison has a line if something keeps it from going on."""
    assert main(["status", "--config", str(running)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if "comparison" in line] == [
        "comparison d: waits, since tor d-1 is starting"
    ]


def test_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The headings, and the exit code of LSB."""
    (tmp_path / "perfd.conf").write_text("")
    assert main(["status", "--csv", "--config", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert (rows(out), out.partition(",")[0], err) == ([], "part", "perfd: perfd is not running\n")
