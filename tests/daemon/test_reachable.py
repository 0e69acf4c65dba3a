"""Whether the web server answers at its public address, asked over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from perfd.config.values import Address
from perfd.daemon import reachable
from perfd.daemon.reachable import PublicAddressService
from tests.support.instance import free_port

reactor: Any = global_reactor


class Bytes(Resource):
    """Our server, as far as it is asked; with ``endless`` somebody else's, who never comes to an end."""

    isLeaf = True
    endless = False

    def render_GET(self, request: Request) -> Any:
        if self.endless:
            request.write(b"x" * 100_000)
            return NOT_DONE_YET
        return b"x" if request.path == b"/random/1" else b"all else"


class ReachableTest(TestCase):
    """A service that asks at once, and again soon."""

    timeout = 20

    def setUp(self) -> None:
        self.patch(reachable, "FIRST", 0.0)
        self.patch(reachable, "AGAIN", 0.01)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.resource = Bytes()

    def listen(self, port: int = 0) -> IListeningPort:
        site = Site(self.resource)
        site.log = lambda request: None
        found = reactor.listenTCP(port, site, interface="127.0.0.1")
        self.addCleanup(found.stopListening)
        return found

    def ask(self, port: int) -> PublicAddressService:
        service = PublicAddressService(reactor, Address("127.0.0.1", port))
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def told(self) -> list[str]:
        return [each["log_format"] for each in self.events if "public-address" in each.get("log_format", "")]

    async def until(self, service: PublicAddressService, words: str) -> None:
        """Return when its state has the words. The test's timeout is the limit."""
        while words not in (service.state or ""):
            await deferLater(reactor, 0.01)

    async def test_answers(self) -> None:
        """Nothing is said of a server that is there."""
        await self.until(self.ask(self.listen().getHost().port), "ok")
        self.assertEqual(self.told(), [])

    async def test_comes_later(self) -> None:
        """What is not there is named once, and asked again."""
        port = free_port()
        service = self.ask(port)
        await self.until(service, f"127.0.0.1:{port} is not reached from this machine: Connection was refused")
        self.listen(port)
        await self.until(service, "ok")
        first, last = self.told()
        self.assertIn("is not reached", first)
        self.assertIn("answers at", last)

    async def test_somebody_else(self) -> None:
        """Another server, whose answer has no end, is not ours, and is left."""
        self.resource.endless = True
        service = self.ask(self.listen().getHost().port)
        await self.until(service, "what answers is not Perfd's web server (status 200)")
