"""Our web server as a service: where it listens, and what it says when it cannot."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from perfd.config.values import Address
from perfd.daemon.order import StartError
from perfd.experiments.ways import PublicAddress
from perfd.web.server import WebServer
from perfd.web.site import BACKLOG


class WebServerTests(SynchronousTestCase):
    """``WebServer``."""

    def test_listens(self) -> None:
        """At its address, once, with room for many connections that come at the same time."""
        reactor = MemoryReactorClock()
        site: Any = mock.Mock()
        web = WebServer(reactor, site, Address("127.0.0.1", 8080))
        web.privilegedStartService()
        web.startService()
        self.assertEqual(reactor.tcpServers, [(8080, site, BACKLOG, "127.0.0.1")])

    def test_port_in_use(self) -> None:
        """The operator is told which port it is."""
        reactor = mock.Mock()
        reactor.listenTCP.side_effect = CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use"))
        web = WebServer(reactor, mock.Mock(), Address("127.0.0.1", 8080))
        with self.assertRaisesRegex(StartError, r"cannot listen on 127\.0\.0\.1:8080: .*in use"):
            web.startService()

    def test_any_free_port(self) -> None:
        """The way to the server knows the port that was given for 0."""
        reactor = mock.Mock()
        reactor.listenTCP.return_value.getHost.return_value.port = 43210
        web = WebServer(reactor, mock.Mock(), Address("127.0.0.1", 0))
        web.startService()
        self.assertEqual(PublicAddress("127.0.0.1", 0, web).port, 43210)
        self.assertEqual(PublicAddress("127.0.0.1", 80, web).port, 80)
