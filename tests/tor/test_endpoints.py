"""How a host is connected to."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from perfd.tor.endpoints import tcp_endpoint


class EndpointTests(SynchronousTestCase):
    """How a host is connected to."""

    def test_kinds(self) -> None:
        """An address is connected to at once; only a name is resolved."""
        memory = MemoryReactorClock()
        for host, kind in (
            ("127.0.0.1", TCP4ClientEndpoint),
            ("::1", TCP6ClientEndpoint),
            ("localhost", HostnameEndpoint),
        ):
            self.assertIsInstance(tcp_endpoint(memory, host, 80, 5.0), kind)
        tcp_endpoint(memory, "127.0.0.1", 80, 5.0).connect(Factory())
        host, port, _, timeout, _ = memory.tcpClients[0]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 80, 5.0))
