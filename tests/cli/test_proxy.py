"""``perfd proxy`` as its user meets it: a process, curl through it, a log, a signal."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import TestInstance, free_port, wait_for

Start = Callable[..., "subprocess.Popen[str]"]

BODY = b"x" * 100_000


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A web server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def instance(tmp_path: Path) -> TestInstance:
    return TestInstance(tmp_path)


@pytest.fixture
def start(instance: TestInstance) -> Iterator[Start]:
    """Starts the command, and returns when it listens; what still runs after the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(*options: str, listen: str) -> subprocess.Popen[str]:
        process = _start(instance, *options, listen=listen)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def _start(instance: TestInstance, *options: str, listen: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "perfd", "proxy", "--listen", listen, *options],
        cwd=instance.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "the proxy listens on" in line:
            break
    else:
        process.wait()
        raise AssertionError("it did not listen")
    return process


def curl(proxy: str, url: str) -> int:
    done = subprocess.run(
        ["curl", "-sS", "-o", os.devnull, "--max-time", "30", "--socks5-hostname", proxy, url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_log(instance: TestInstance, start: Start, url: str, number: int) -> None:
    """A line for each connection, those that failed too; a signal ends it cleanly, with the last line written."""
    listen, log = f"127.0.0.1:{free_port()}", instance.directory / "proxy.log"
    process = start("--log", str(log), listen=listen)
    assert curl(listen, url) == 0
    assert curl(listen, f"http://127.0.0.1:{free_port()}/") == 97
    wait_for(lambda: log.read_text().count("\n") == 2, "two lines")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    fine, refused = [json.loads(line) for line in log.read_text().splitlines()]
    assert (fine["host"], fine["code"], fine["errorcode"]) == ("127.0.0.1", 0, None)
    assert fine["readbytes"] > len(BODY)
    assert fine["start"] < fine["response"] <= fine["replied"] < fine["dataresponse"] <= fine["datacomplete"]
    assert (refused["code"], refused["errorcode"]) == (5, "TOR/CONNECTION_REFUSED")


@pytest.mark.parametrize(
    ("scheme", "version", "code", "username"),
    [("", 5, 0, None), ("socks5h://me:secret@", 5, 0, "me"), ("socks4a://me@", 4, 90, "me")],
)
def test_in_front_of_another(
    start: Start, url: str, scheme: str, version: int, code: int, username: str | None
) -> None:
    """Any SOCKS port can be behind it: here, that of another proxy. The log is standard output by default."""
    first, second = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    behind = start(listen=first)
    process = start("--socks", scheme + first, "--optimistic", listen=second)
    assert curl(second, url) == 0
    assert process.stdout is not None
    assert behind.stdout is not None
    record = json.loads(process.stdout.readline())
    assert (record["optimistic"], record["code"], record["circ_id"]) == (True, code, None)
    assert record["username"] == username
    assert json.loads(behind.stdout.readline())["version"] == version
    for each in (process, behind):
        each.send_signal(signal.SIGTERM)
        each.communicate(timeout=60)
        assert each.returncode == 0


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--listen", "0.0.0.0:9150"], 2, "0.0.0.0:9150 is not a loopback address"),
        (["--listen", "example.com:9150"], 2, "is not a loopback address"),
        (["--socks", "127.0.0.1:1", "--control", "127.0.0.1:2"], 2, "cannot be given together with"),
        (["--log", "nowhere/proxy.log"], 1, "nowhere/proxy.log: cannot be written: No such file or directory"),
        (["--tor", "beta"], 1, "no tor is named 'beta'; there is default"),
    ],
)
def test_mistakes(instance: TestInstance, options: list[str], code: int, complaint: str) -> None:
    """Each is told in one line, and nothing is started."""
    done = instance.perfd("proxy", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use(instance: TestInstance, start: Start) -> None:
    """A port that somebody else has."""
    listen = f"127.0.0.1:{free_port()}"
    process = start(listen=listen)
    done = instance.perfd("proxy", "--socks", "127.0.0.1:1", "--listen", listen)
    assert done.returncode == 1
    assert f"cannot listen on {listen}: " in done.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
