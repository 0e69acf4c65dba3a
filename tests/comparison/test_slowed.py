"""A tor that is slowed on purpose: what is added, and where."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from perfd.client.fetch import fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.comparison.slowed import SlowedTor
from perfd.record import Outcome
from perfd.socks import Hooks
from perfd.tor.embedded import EmbeddedSocks
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources

reactor: Any = global_reactor


class Rude(Protocol):
    """Says nothing and goes."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class SlowedTests(TestCase):
    """Over a real SOCKS server."""

    timeout = 30

    async def test_where_it_is_added(self) -> None:
        """The request waits after the SOCKS reply, and all that follows comes so much later."""
        clock = Clock()
        site = make_site(random_resources(1024), reactor=reactor, stamps=ServerStamps(clock.monotonic))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        socks = EmbeddedSocks(reactor, "socks")
        socks.startService()
        self.addCleanup(socks.stopService)
        slowed = SlowedTor(reactor, socks, 0.2)
        timeline = Timeline(clock)
        way = slowed.socks_port().through("127.0.0.1", port.getHost().port, None, Hooks(timeline))
        request = get_request(f"127.0.0.1:{port.getHost().port}", "/random/1000")
        got = await fetch(reactor, way, request, expect=1000, timeline=timeline, timeout=20.0)
        self.assertIs(got.outcome, Outcome.OK)
        stamps = timeline.stamps
        self.assertGreaterEqual(stamps[Phase.DATAREQUEST] - stamps[Phase.RESPONSE], 0.2)
        self.assertGreaterEqual(stamps[Phase.DATACOMPLETE] - stamps[Phase.RESPONSE], 0.2)

    async def test_lost_meanwhile(self) -> None:
        """A connection that ends before is not held: the run ends with it."""
        clock = Clock()
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Rude))
        self.addCleanup(port.stopListening)
        socks = EmbeddedSocks(reactor, "socks")
        socks.startService()
        self.addCleanup(socks.stopService)
        timeline = Timeline(clock)
        slowed = SlowedTor(reactor, socks, 20.0)
        way = slowed.socks_port().through("127.0.0.1", port.getHost().port, None, Hooks(timeline))
        got = await fetch(reactor, way, get_request("a", "/"), expect=1, timeline=timeline, timeout=25.0)
        self.assertIs(got.outcome, Outcome.FAILED)
