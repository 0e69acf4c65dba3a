"""The web server against nginx with sendfile, in random order: a 1 GiB download, and 50 KiB requests.

nginx sends files of the same sizes out of memory (tmpfs, if there is one); Perfd makes its random bytes meanwhile.
Prints medians, ratios with their intervals, and the memory that Perfd's server took. Run from the checkout:
python -m bench.server
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.compare import Comparison
from bench.verdict import verdict

LARGE = 2**30
SMALL = 51200
BLOCKS = 4
EACH = 4  # runs of either in a block
WRK = ["--threads", "1", "--connections", "32", "--duration", "2s"]

NGINX_CONF = """
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; root .; }}
}}
"""

SERVE = """
import sys, time
from twisted.internet import reactor
from perfd.web.targets.random import random_resources
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
site = make_site(random_resources(2**30), reactor=reactor, stamps=ServerStamps(time.monotonic))
reactor.listenTCP(int(sys.argv[1]), site, interface="127.0.0.1")
reactor.run()
"""


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server, from when it listens on ``port`` until the end of the block; gives its process id."""
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{command[0]} does not listen")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def nginx() -> Iterator[dict[int, str]]:
    """nginx with a file of each size; gives their URLs."""
    program = shutil.which("nginx", path=os.environ["PATH"] + os.pathsep + "/usr/sbin") or "nginx"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        port = free_port()
        Path(directory, "nginx.conf").write_text(NGINX_CONF.format(port=port))
        piece = os.urandom(2**20)
        with Path(directory, str(LARGE)).open("wb") as large:
            for _ in range(LARGE // len(piece)):
                large.write(piece)
        Path(directory, str(SMALL)).write_bytes(piece[:SMALL])
        with running([program, "-e", "stderr", "-p", directory, "-c", "nginx.conf"], port):
            yield {size: f"http://127.0.0.1:{port}/{size}" for size in (LARGE, SMALL)}


@contextlib.contextmanager
def perfd() -> Iterator[tuple[dict[int, str], int]]:
    """Perfd's web server alone; gives its URLs and its process id."""
    port = free_port()
    with running([sys.executable, "-c", SERVE, str(port)], port) as pid:
        yield {size: f"http://127.0.0.1:{port}/random/{size}" for size in (LARGE, SMALL)}, pid


def download(url: str) -> float:
    """Bytes a second of one download with curl."""
    command = ["curl", "--silent", "--fail", "--output", "/dev/null", "--write-out", "%{speed_download}", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def load(url: str) -> float:
    """Requests a second with wrk."""
    output = subprocess.run(["wrk", *WRK, url], check=True, capture_output=True, text=True).stdout
    match = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if match is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    return float(match.group(1))


def memory(pid: int, key: str) -> float:
    """MiB of the process: ``VmRSS`` now, ``VmHWM`` at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


def show(what: str, unit: str, scale: float, target: str, comparison: Comparison) -> None:
    """Print the medians, and the ratio."""
    speeds = (f"{way} {comparison.median('speed', way) / scale:.2f} {unit}" for way in ("perfd", "nginx"))
    print(f"{what}: {', '.join(speeds)}")
    print(f"  perfd / nginx: {verdict(comparison.ratio('speed', 'perfd', 'nginx'), target)}")


def main() -> None:
    """Measure and print."""
    with nginx() as their_urls, perfd() as (our_urls, pid):
        before = memory(pid, "VmRSS")
        for size, measure, what, unit, scale, target in (
            (LARGE, download, "1 GiB with curl", "GB/s", 1e9, ">= 0.5"),
            (SMALL, load, "50 KiB with wrk, 32 connections", "thousand/s", 1e3, ">= 0.15"),
        ):
            urls = {"perfd": our_urls[size], "nginx": their_urls[size]}
            comparison = Comparison(*urls)
            for _ in range(BLOCKS):
                for way in comparison.block(EACH):
                    comparison.add(way, speed=measure(urls[way]))
            show(what, unit, scale, target, comparison)
        print(f"memory of perfd's server: {before:.1f} MiB before, {memory(pid, 'VmHWM'):.1f} MiB at most")


if __name__ == "__main__":
    main()
