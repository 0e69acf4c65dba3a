"""Who is connected and who has to go: rules in memory, then floods of thousands of connections over loopback."""

from __future__ import annotations

import contextlib  # trial takes a module's ``suppress`` for its own
import json
import resource
import socket as sockets
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import pytest
from twisted.internet import main
from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource

from perfd.client.fetch import Exchange, fetch, get_request
from perfd.clock import Clock, Timeline
from perfd.record import Outcome
from perfd.web.accepting import accept_in_turns
from perfd.web.connections import RESERVE
from perfd.web.results.answers import Access
from perfd.web.results.pages import HealthPage
from perfd.web.site import BACKLOG, make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from perfd.web.targets.upload import UploadPage
from tests.support.results import no_tor
from tests.support.web_client import LIMIT, SiteTestCase, Socket, get

FAR = "192.0.2.1"

HEALTH = b'{"healthy": true}\n'


class RoomTests(SiteTestCase):
    """A site with room for three strangers."""

    def setUp(self) -> None:
        super().setUp()
        self.site = self.make(max_connections=3, head_timeout=60.0)

    def children(self) -> dict[str, IResource]:
        return {**super().children(), "health": HealthPage(lambda: {"healthy": True}, Access("none", no_tor))}

    def wait(self, seconds: float) -> None:
        self.reactor.pump([0.5] * int(seconds * 2))

    def stranger(self, request: bytes = b"", room: int = LIMIT) -> Socket:
        """Somebody far away has connected, has sent that, and takes ``room`` bytes of the answer."""
        socket = self.open(peer=FAR)
        socket.room = room
        socket.receive(request)
        socket.flush()
        return socket

    def gone(self, *them: Socket) -> list[bool]:
        return [not each.connected for each in them]

    def test_silent(self) -> None:
        """Who has been silent longest goes for who comes, and that one is answered."""
        them = []
        for _ in range(3):
            them.append(self.stranger())
            self.wait(1.0)
        fourth = self.stranger(get("/random/5"))
        self.assertEqual(self.gone(*them), [True, False, False])
        self.assertEqual(self.read(fourth)[0], 200)

    def test_grace(self) -> None:
        """As long as there are descriptors to spare, who has just come has a second; not longer, and no more."""
        self.site._connections.spare = 2
        them = [self.stranger() for _ in range(5)]
        self.assertEqual(self.gone(*them), [False] * 5)
        self.stranger()
        self.assertEqual(self.gone(*them), [True, False, False, False, False])
        self.wait(1.5)
        self.assertEqual(self.gone(*them), [True, True, True, False, False])

    def test_slow_heads(self) -> None:
        """A head that trickles in is silence; a whole one is not, though its connection is older."""
        kept, slow, other = (self.stranger() for _ in range(3))
        self.wait(1.0)
        kept.receive(get("/random/5"))
        kept.flush()
        for byte in get("/random/5")[:5]:
            slow.receive(bytes([byte]))
        self.stranger()
        self.assertEqual(self.gone(kept, slow, other), [False, True, False])
        self.stranger()
        self.stranger()
        self.assertEqual(self.gone(kept, other), [True, True])

    def test_busy(self) -> None:
        """Strangers who are served are not cut off for others as long as they read; others are told so."""
        them = [self.stranger(get("/random/1MiB"), room=1000) for _ in range(3)]
        refused = self.stranger(get("/random/5"))
        status, _, body = self.read(refused)
        self.assertEqual((status, *self.gone(refused, *them)), (503, True, False, False, False))
        self.assertIn("too many connections", json.loads(body)["error"]["message"])

    def test_slow_reads(self) -> None:
        """Of those that are served, who has read nothing for longest goes for the next request."""
        them = [self.stranger(get("/random/1MiB"), room=1000) for _ in range(3)]
        self.wait(2.0)
        for each in (them[0], them[2]):
            each.room = 10
            each.flush()
        self.wait(0.5)
        self.assertEqual(self.read(self.stranger(get("/random/5")))[0], 200)
        self.assertEqual(self.gone(*them), [False, True, False])

    def test_newcomers_have_room(self) -> None:
        """Strangers who keep the server busy leave a place in which a head can come."""
        for _ in range(3):
            self.stranger(get("/random/1MiB"), room=1000)
        ours = self.open(peer=FAR)
        self.stamps.expect("ours")
        self.wait(5.0)
        ours.receive(get("/random/5", "X-Perfd-Measurement: ours"))
        ours.flush()
        self.assertEqual(self.read(ours)[0], 200)

    def test_measurement(self) -> None:
        """A measurement is answered however many there are, and never goes."""
        self.stamps.expect("ours")
        ours = self.stranger(get("/random/1MiB", "X-Perfd-Measurement: ours"), room=1000)
        self.wait(30.0)
        for _ in range(10):
            self.stranger(get("/random/1MiB"), room=1000)
            self.stranger()
            self.wait(2.0)
        self.assertEqual(self.gone(ours), [False])
        ours.room = LIMIT
        ours.flush()
        self.assertEqual(len(self.read(ours)[2]), 2**20)

    def test_local(self) -> None:
        """This machine is answered beyond the limit, up to the reserve, and its connections go last."""
        here = self.open()
        for _ in range(10):
            self.stranger()
        self.assertEqual(self.gone(here), [False])
        for _ in range(3):
            self.stranger(get("/random/1MiB"), room=1000)
        for status in [200] * RESERVE + [503]:
            socket = self.open()
            socket.room = 1000
            socket.receive(get("/random/1MiB"))
            socket.flush()
            self.assertEqual(self.read(socket)[0], status)

    def test_health(self) -> None:
        """Whether all is well can be asked from here whatever strangers do; there is nothing in it for them."""
        for _ in range(3 + RESERVE):
            socket = self.open()
            socket.room = 1000
            socket.receive(get("/random/1MiB"))
        self.assertEqual(self.ask(get("/random/5"))[0], 503)
        self.assertEqual(self.ask(get("/health"))[0], 200)
        self.assertEqual(self.read(self.stranger(get("/health")))[0], 503)

    def test_nothing_left(self) -> None:
        """Who has gone, in whatever way, leaves nothing behind."""
        self.stamps.expect("ours")
        for request in (b"", get("/random/5"), get("/random/1MiB"), get("/health"), get("/random/5?id=ours")):
            for _ in range(5):
                socket = self.stranger(request, room=1000)
                self.wait(2.0)
                socket.connectionLost(Failure(main.CONNECTION_DONE))
        connections = self.site._connections
        self.wait(2.0)
        self.assertEqual(
            [*connections._waiting, *connections._local, *connections._busy, *connections._stalled], []
        )
        self.assertEqual(self.site._channels, set())


SLOW_HEAD = get("/random/5")[:20]
SLOW_BODY = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nx"
SLOW_READ = get("/random/1GiB")


def flood(port: int, count: int, said: Sequence[bytes], stop: Callable[[], bool]) -> Iterator[None]:
    """Hold ``count`` connections that read nothing and say one of ``said``; those that are closed are made anew."""
    sayings = cycle(said)
    held: list[sockets.socket] = []
    try:
        while not stop():
            for _ in range(count):
                connection = sockets.socket()
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.connect_ex(("127.0.0.1", port))
                held.append(connection)
                if len(held) > count:
                    held.pop(0).close()
                if len(held) % 100 == 0:
                    for each in held[-100:]:
                        with contextlib.suppress(OSError):
                            each.send(next(sayings))
                    yield
    finally:
        for connection in held:
            connection.close()


class FloodTests(TestCase):
    """Thousands of connections, as many as this process may have descriptors for."""

    timeout = 120
    most = 500

    def setUp(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.count = max(300, min(8000, hard // 2 - 500))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        self.clock = Clock()
        self.stamps = ServerStamps(self.clock.monotonic)
        self.stopped = False

    def listen(self, *, is_far: bool) -> int:
        children = {
            **random_resources(LIMIT),
            "upload": UploadPage(LIMIT, self.clock),
            "health": HealthPage(lambda: {"healthy": True}, Access("all")),
        }
        site = make_site(
            children, reactor=global_reactor, stamps=self.stamps, max_connections=self.most, is_far=is_far
        )
        port = global_reactor.listenTCP(0, site, interface="127.0.0.1", backlog=BACKLOG)
        accept_in_turns(port)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def ask(self, port: int, path: str, headers: dict[str, str], size: int) -> Exchange:
        return await fetch(
            global_reactor,
            TCP4ClientEndpoint(global_reactor, "127.0.0.1", port),
            get_request("localhost", path, headers),
            expect=size,
            timeline=Timeline(self.clock),
            timeout=20.0,
        )

    async def held_out(self, *said: bytes, is_far: bool) -> None:
        """All measurements succeed in the middle of a flood, and this machine is told how Perfd does."""
        port = self.listen(is_far=is_far)
        opened = 0

        def run() -> None:
            nonlocal opened
            for _ in flood(port, self.count, said, lambda: self.stopped):
                opened += 100
                if self.stopped:
                    return
                time.sleep(0.02)

        flooding = deferToThread(run)
        try:
            number = 0
            while number < 20 or opened < self.count:
                name = f"m{number}"
                self.stamps.expect(name)
                exchange = await self.ask(port, "/random/50KiB", {"X-Perfd-Measurement": name}, 51200)
                self.assertEqual((exchange.outcome, exchange.payloadbytes), (Outcome.OK, 51200), exchange)
                self.assertIsNotNone(self.stamps.take(name).complete)
                if not is_far:
                    self.assertIs((await self.ask(port, "/health", {}, len(HEALTH))).outcome, Outcome.OK)
                number += 1
        finally:
            self.stopped = True
            await flooding

    async def test_silent(self) -> None:
        """Connections that say nothing."""
        await self.held_out(b"", is_far=False)

    async def test_slow_heads(self) -> None:
        """Heads that are never complete."""
        await self.held_out(SLOW_HEAD, is_far=True)

    @pytest.mark.long
    async def test_slow_bodies(self) -> None:
        """Uploads whose body never ends."""
        await self.held_out(SLOW_BODY, is_far=True)

    @pytest.mark.long
    async def test_slow_reads(self) -> None:
        """Downloads that nobody reads."""
        await self.held_out(SLOW_READ, is_far=False)

    async def test_all_of_them(self) -> None:
        """Each in its way, in turns."""
        await self.held_out(b"", SLOW_HEAD, SLOW_BODY, SLOW_READ, is_far=True)
