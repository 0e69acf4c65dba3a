"""Optimistic data through real tors on the private network, whose guards are 150 ms away."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.server import Site
from twisted.web.static import Data

from perfd.client.fetch import Exchange, fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Outcome
from perfd.socks import SOCKS5ClientEndpoint
from perfd.tor.launch import TorOptions, TorService
from tests.support.delay_line import DelayLine, optimistic_data
from tests.support.instance import free_port
from tests.support.network import NetworkCase

pytestmark = pytest.mark.tor

SIZE = 50 * 1024
RTT = 0.15


class OptimisticTests(NetworkCase):
    """Fetches whose HTTP request leaves with the SOCKS request."""

    def setUp(self) -> None:
        super().setUp()
        data = Data(bytes(SIZE), "application/octet-stream")
        data.isLeaf = True
        listening: Any = reactor.listenTCP(0, Site(data), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.server = listening.getHost().port

    def tor(self, name: str, *torrc: str) -> TorService:
        """A tor behind a delay line of its own, and told to start; it logs what it does with streams."""
        line = DelayLine(reactor, RTT)
        self.addCleanup(line.stop)
        directory = self.directory / name
        lines = [line.torrc, f"Log [app]info file {self.directory / name}.log", *torrc]
        options = TorOptions(name=name, data_directory=directory, torrc="\n".join(lines), bootstrap_timeout=90.0)
        service = TorService(reactor, options, self.network)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def allowed(self, name: str) -> list[bool]:
        """What the tor's log says of its streams so far."""
        return optimistic_data((self.directory / f"{name}.log").read_text(encoding="utf-8"))

    async def fetch(self, service: TorService, user: str, port: int) -> tuple[Exchange, Timeline]:
        timeline = Timeline(Clock())
        endpoint = SOCKS5ClientEndpoint(
            *("127.0.0.1", port, service.socks_port().endpoint, {"login": (user, "perfd")}),
            timeline=timeline,
            optimistic=True,
        )
        request = get_request(f"127.0.0.1:{port}", "/")
        exchange = await fetch(reactor, endpoint, request, expect=SIZE, timeline=timeline, timeout=30.0)
        return exchange, timeline

    async def succeed(self, service: TorService, user: str) -> None:
        """A fetch that works, with the stamps of an optimistic one."""
        exchange, timeline = await self.fetch(service, user, self.server)
        for _ in range(10):
            if exchange.outcome is Outcome.OK:
                break
            # The private network has moments in which tor sees no exit.
            await deferLater(reactor, 2.0)
            exchange, timeline = await self.fetch(service, user, self.server)
        self.assertEqual((exchange.outcome, exchange.reason, exchange.payloadbytes), (Outcome.OK, None, SIZE))
        expected = [Phase.REQUEST, Phase.DATAREQUEST, Phase.RESPONSE, Phase.DATARESPONSE, Phase.DATACOMPLETE]
        stamps = timeline.stamps
        self.assertEqual(sorted(expected, key=stamps.__getitem__), expected)

    async def test_optimistic(self) -> None:
        """Without Conflux tor sends the data on at once, with Conflux it does not; both give the payload.

        A refusal has the error code of the strict mode, though the application was connected before it came.
        """
        without, conflux = self.tor("without", "ConfluxEnabled 0"), self.tor("conflux", "ConfluxEnabled 1")
        await without.when_ready()
        for number in range(2):
            await self.succeed(without, f"user{number}")
        allowed = self.allowed("without")
        self.assertGreaterEqual(len(allowed), 2)
        self.assertNotIn(False, allowed)
        exchange, timeline = await self.fetch(without, "refused", free_port())
        self.assertEqual((exchange.outcome, exchange.readbytes), (Outcome.FAILED, 0))
        self.assertTrue((exchange.errorcode or "").startswith("TOR/"), exchange)
        self.assertLess(timeline.stamps[Phase.DATAREQUEST], timeline.stamps[Phase.RESPONSE])
        await conflux.when_ready()
        for number in range(20):
            await self.succeed(conflux, f"user{number}")
            if False in self.allowed("conflux"):
                break
            await deferLater(reactor, 1.0)
        self.assertIn(False, self.allowed("conflux"))
