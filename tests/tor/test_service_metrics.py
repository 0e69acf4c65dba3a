"""What the tor of an onion service counts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.tor.service_metrics import ServiceMetrics, brief

METRICS = """# HELP tor_hs_intro_circ_build_time Introduction circuit build time in milliseconds
tor_hs_intro_circ_build_time_bucket{onion="abc",le="1000.00"} 3
tor_hs_intro_circ_build_time_bucket{onion="abc",le="+Inf"} 4
tor_hs_rdv_error_count{onion="abc",reason="e2e_circ"} 0
tor_hs_rdv_error_count{onion="abc",reason="retry"} 2
tor_hs_pow_suggested_effort{onion="abc"} 12
tor_hs_nonsense{ 1
tor_relay_connections{type="OR"} 5
"""
BRIEF = (
    "intro_circ_build_time_bucket{le=1000.00}=3 intro_circ_build_time_bucket{le=+Inf}=4 "
    "rdv_error_count{reason=retry}=2 pow_suggested_effort=12"
)


class Control:
    """A control connection that knows where the port is."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_info_raw(self, key: str) -> Deferred[str]:
        assert key == "net/listeners/metrics"
        return fail(self._answer) if isinstance(self._answer, Exception) else succeed(f"{key}={self._answer}")


class ServiceMetricsTests(SynchronousTestCase):
    """The port is read again and again, as long as there is a connection."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.told: list[str] = []
        self.metrics = ServiceMetrics(self.reactor, 600.0, self.told.append)

    def connect(self, answer: Any) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.metrics.connected(Control(answer))))

    def answer(self, text: str) -> bytes:
        """Let the latest connection be made, and be answered; what was asked."""
        host, port, factory, *_ = self.reactor.tcpClients[-1]
        self.assertEqual((host, port), ("127.0.0.1", 9035))
        protocol, transport = factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        asked = transport.value()
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
        for piece in (head[:30], head[30:] + text[:20], text[20:]):
            self.assertFalse(transport.disconnecting)
            protocol.dataReceived(piece.encode())
        self.assertTrue(transport.disconnecting)  # tor itself leaves it open
        protocol.connectionLost(Failure(ConnectionDone()))
        return asked

    def test_brief(self) -> None:
        """Of onion services what is not 0, in one line."""
        self.assertEqual(brief(METRICS), BRIEF)
        self.assertEqual(brief("nonsense"), "")

    def test_read(self) -> None:
        """After each interval, also when once there is no answer."""
        self.connect('"127.0.0.1:9035"')
        self.reactor.advance(599.0)
        self.assertEqual(self.reactor.tcpClients, [])
        self.reactor.advance(1.0)
        self.assertEqual(self.answer(METRICS), b"GET /metrics HTTP/1.0\r\n\r\n")
        self.assertEqual(self.told, [BRIEF])
        self.reactor.advance(600.0)
        self.reactor.advance(10.0)  # nobody answers
        self.reactor.advance(600.0)
        self.assertEqual(len(self.reactor.tcpClients), 3)
        self.answer(METRICS)
        self.assertEqual(self.told, [BRIEF] * 2)
        self.metrics.disconnected()
        self.reactor.advance(6000.0)
        self.assertEqual(len(self.reactor.tcpClients), 3)

    def test_none(self) -> None:
        """A tor without such a port, or that does not tell."""
        for answer in ("", '"192.0.2.1:9035"', TorProtocolError(552, "Unrecognized key")):
            self.connect(answer)
        self.reactor.advance(6000.0)
        self.assertEqual(self.reactor.tcpClients, [])
