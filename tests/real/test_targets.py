"""Servers that are not ours, measured by a daemon over a real tor: http, https, another tor's onion service."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from perfd.record import Measurement, Outcome
from tests.support.certificates import certificate_for, pem
from tests.support.instance import TestInstance, processes_in, running, wait_for

pytestmark = pytest.mark.tor

PAYLOAD = os.urandom(300_000)

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
contact = me@example.org
[server]
listen = 127.0.0.1:{port}
[experiment:plain]
urls = list
expect-status = 200, 404
interval = 10 s
pause = 0 s
[experiment:secure]
url = https://127.0.0.1:{tls}/old
redirects = 1
size = {size}
expect-digest = {digest}
interval = 10 s
offset = 1 s
[experiment:onion]
url = http://{onion}/chunks
onion-key = key
fresh-descriptor = yes
interval = 10 s
offset = 2 s
[experiment:repeats]
type = rtt
url = https://127.0.0.1:{tls}/file
rate = 4
pause = 250 ms
duration = 1 s
interval = 10 s
offset = 3 s
"""


class Handler(BaseHTTPRequestHandler):
    """A server as others have it."""

    protocol_version = "HTTP/1.1"
    agents: set[str] = set()

    def do_GET(self) -> None:
        self.agents.add(self.headers["User-Agent"])
        if self.path == "/old":
            self.answer(302, b"", "Location: /file")
        elif self.path == "/chunks":
            pieces = [PAYLOAD[at : at + 7000] for at in range(0, len(PAYLOAD), 7000)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            self.answer(200, framed, "Transfer-Encoding: chunked")
        else:
            self.answer(200 if self.path == "/file" else 404, PAYLOAD)

    def do_HEAD(self) -> None:
        self.answer(200, b"")

    def answer(self, status: int, body: bytes, header: str = "X-A: b") -> None:
        self.send_response(status)
        self.send_header(*header.split(": "))
        if "chunked" not in header:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[int]:
    """The port of a server, with TLS if there is a ``certificate``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def onion_service(directory: Path, options: tuple[str, ...], port: int, client: bytes) -> Iterator[str]:
    """The address of an onion service of a tor of its own, which leads to ``port`` and lets in one ``client``."""
    service = directory / "service"
    clients = service / "authorized_clients"
    clients.mkdir(mode=0o700, parents=True)
    service.chmod(0o700)
    (clients / "one.auth").write_text(f"descriptor:x25519:{base32(client)}\n")
    lines = (
        *options,
        f"DataDirectory {directory / 'data'}",
        "SocksPort 0",
        f"HiddenServiceDir {service}",
        f"HiddenServicePort 80 127.0.0.1:{port}",
        f"Log notice file {directory / 'log'}",
    )
    (directory / "torrc").write_text("\n".join(lines) + "\n")
    with running(["tor", "-f", str(directory / "torrc")], stdout=subprocess.DEVNULL):
        hostname = service / "hostname"
        yield wait_for(lambda: hostname.exists() and hostname.read_text().strip(), "the onion service's address")


def base32(key: bytes) -> str:
    return base64.b32encode(key).decode("ascii").rstrip("=")


@attrs.frozen
class Measured:
    """What was measured, in the order of the experiments' names."""

    onion: Measurement
    plain: Sequence[Measurement]
    secure: Measurement
    repeats: Measurement
    port: int
    metrics: str


def latest_of_each(instance: TestInstance) -> list[Measurement]:
    """Of each address of the list a run that went well; none while there is not one of each."""
    runs = [m for m in instance.logged() if (m.experiment, m.outcome) == ("plain", Outcome.OK)]
    found = {m.extra["URL"]: m for m in runs}
    return list(found.values()) if len(found) == 2 else []


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, testnet: Any) -> Iterator[Measured]:
    """A run of each that went well."""
    directory = tmp_path_factory.mktemp("targets")
    certificate = certificate_for("127.0.0.1")
    (directory / "server.pem").write_bytes(pem(certificate, key=True))
    (directory / "authorities.pem").write_bytes(pem(certificate))
    key = X25519PrivateKey.generate()
    (directory / "key").write_text(f"descriptor:x25519:{base32(key.private_bytes_raw())}\n")
    (directory / "other").mkdir()
    with (
        serving() as port,
        serving(directory / "server.pem") as tls,
        onion_service(
            directory / "other", testnet.client_options, port, key.public_key().public_bytes_raw()
        ) as onion,
    ):
        (directory / "list").write_text(f"http://127.0.0.1:{port}/file\nhttp://127.0.0.1:{port}/gone\n")
        config = CONFIG
        values = {"testnet": testnet.directory, "tls": tls, "onion": onion, "size": len(PAYLOAD)}
        values["digest"] = hashlib.sha256(PAYLOAD).hexdigest()
        for name, value in values.items():
            config = config.replace(f"{{{name}}}", str(value))
        instance = TestInstance(directory, config)
        instance.environment = {**os.environ, "SSL_CERT_FILE": str(directory / "authorities.pem")}
        instance.start()
        try:
            (found,) = instance.wait_for_measurements(1, experiment="onion", outcome=Outcome.OK)[:1]
            plain = wait_for(lambda: latest_of_each(instance), "a run of each address")
            secure = instance.wait_for_measurements(1, experiment="secure", outcome=Outcome.OK)
            repeats = instance.wait_for_measurements(1, experiment="repeats", outcome=Outcome.OK)
            _, metrics = instance.get("/metrics")
            yield Measured(found, plain, secure[0], repeats[0], port, metrics.decode())
        finally:
            instance.perfd("stop")
            for pid in processes_in(directory):
                os.kill(pid, signal.SIGKILL)


def test_list(measured: Measured) -> None:
    """Each address of the list has records of its own, joined to tor's stream and circuit."""
    urls = {f"http://127.0.0.1:{measured.port}/{path}": status for path, status in (("file", 200), ("gone", 404))}
    assert {m.extra["URL"]: m.status for m in measured.plain} == urls
    for m in measured.plain:
        assert (m.server, m.payloadbytes, m.filesize) == ("url", len(PAYLOAD), 0)
        assert m.circ_id is not None
        assert m.serverrequest is None
        assert sorted(m.dataperc) == list(range(0, 101, 10))
        assert (
            f'experiment="plain",optimistic="",outcome="ok",server="url",tor="default",url="{m.extra["URL"]}"'
            in measured.metrics
        )
    (agent,) = Handler.agents
    assert agent.startswith("perfd/")
    assert agent.endswith("(+me@example.org)")


def test_tls(measured: Measured) -> None:
    """The handshake is between stream and request; the certificate was accepted, and a redirect followed."""
    m = measured.secure
    assert m.response is not None
    assert m.datarequest is not None
    steps = [m.start, m.extra["REDIRECTED"], m.response, m.extra["TLSSTART"], m.extra["TLSDONE"], m.datarequest]
    assert steps == sorted(steps, key=float)
    assert (m.extra["TLSVERSION"], m.extra["REDIRECTS"], m.filesize) == ("TLSv1.3", 1, len(PAYLOAD))
    assert str(m.extra["REDIRECTEDTO"]).endswith("/file")
    assert "perfd_certificate_end_timestamp_seconds{" in measured.metrics
    assert m.extra["STAMPS"] == "kernel"


def test_onion(measured: Measured) -> None:
    """The steps to somebody else's service, with the key that it wants, and a payload in chunks."""
    m = measured.onion
    assert m.payloadbytes == len(PAYLOAD)
    assert m.dataperc == {}
    assert 204800 in m.partial
    assert m.response is not None
    keys = ("HSDESCREQUESTED", "HSDESCRECEIVED", "HSRENDBUILT", "HSRENDESTABLISHED", "HSRENDJOINED")
    steps = [m.start, *(m.extra[key] for key in keys), m.response]
    assert steps == sorted(steps, key=float)
    assert m.extra["FRESHDESCRIPTOR"] == 1


def test_round_trips(measured: Measured) -> None:
    """Several answers over one connection with TLS."""
    m = measured.repeats
    count = m.extra["RTTIDLECOUNT"]
    assert isinstance(count, int)
    assert count > 1
    assert (m.extra["RTTLOADCOUNT"], m.extra["TLSVERSION"], m.status) == (0, "TLSv1.3", 200)
    assert m.circ_id is not None
