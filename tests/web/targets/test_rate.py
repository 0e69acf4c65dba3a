"""The rate of strangers: how much they get together, how fairly, and that measurements never meet it."""

from __future__ import annotations

from twisted.internet import main
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from perfd.web.targets.page import CanonicalPage
from perfd.web.targets.page_plan import VARIANTS, VERSION
from perfd.web.targets.random import random_resources
from perfd.web.targets.rate import BURST, LEAST_SHARE, TICK, StrangersRate
from perfd.wire.keystream import PIECE
from tests.support.web_client import LIMIT, SiteTestCase, Socket, get

RATE = 10 * 2**20


class RateTests(SiteTestCase):
    """Strangers and measurements at a server that has 10 MiB/s for the former."""

    def children(self) -> dict[str, IResource]:
        self.rate = StrangersRate(self.reactor, self.reactor.seconds, RATE)
        return {**random_resources(LIMIT, self.rate), "page": CanonicalPage(lambda: (), self.rate)}

    def run_for(self, seconds: float, *them: Socket) -> list[int]:
        """How many bytes each has got after so long, taking all that there is."""
        before = [socket.taken for socket in them]
        for _ in range(round(seconds / TICK)):
            self.reactor.advance(TICK)
            for socket in them:
                socket.flush()
        return [socket.taken - was for socket, was in zip(them, before, strict=True)]

    def near(self, found: float, expected: float, off: float) -> None:
        self.assertLess(abs(found - expected), off, (found, expected))

    def downloads(self, count: int, peer: str = "192.0.2.{}") -> list[Socket]:
        sockets = [self.open(keep=False, peer=peer.format(number)) for number in range(count)]
        for socket in sockets:
            socket.receive(get("/random/1GiB"))
            socket.flush()
        return sockets

    def test_alone(self) -> None:
        """One stranger gets the whole rate, after what could be sent at once."""
        (alone,) = self.downloads(1)
        self.near(alone.taken, RATE * BURST, LEAST_SHARE * 2)
        self.near(sum(self.run_for(10, alone)), RATE * 10, RATE * BURST)

    def test_fair(self) -> None:
        """Several get the same, and no more together; who takes less leaves the rest to the others."""
        them = self.downloads(10)
        self.run_for(1, *them)
        got = self.run_for(20, *them)
        self.near(sum(got), RATE * 20, RATE * BURST)
        self.assertLess(max(got) - min(got), 2 * PIECE)
        for socket in them[1:]:
            socket.room = 0
        self.run_for(1, *them)
        self.near(self.run_for(10, them[0])[0], RATE * 10, RATE * BURST)

    def test_page(self) -> None:
        """The parts of the page are of the same rate, and whole."""
        names = [f"/page/{VERSION}/heavy/{part.name}" for part in VARIANTS["heavy"].parts()]
        sizes = [int(self.ask(get(name, method="HEAD"))[1]["Content-Length"]) for name in names]
        socket, asked = self.open(keep=False, peer="192.0.2.1"), 0
        for name, size in [*zip(names, sizes, strict=True)] * 20:
            socket.receive(get(name))
            while socket.taken < asked + size:
                self.reactor.advance(TICK)
                socket.flush()
            asked = socket.taken
        self.near(asked, self.reactor.seconds() * RATE, RATE * BURST + asked * 0.2)

    def test_changed(self) -> None:
        """It can be changed, also for what is on its way, and be taken away."""
        (alone,) = self.downloads(1)
        self.rate.limit(RATE * 2)
        self.run_for(1, alone)
        self.near(self.run_for(10, alone)[0], RATE * 20, RATE)
        self.rate.limit(None)
        (free,) = self.downloads(1, "192.0.2.7")
        self.assertGreater(free.taken, RATE * 20)

    def test_many_connections_of_one(self) -> None:
        """Many connections of an address have no more than one of another."""
        them = self.downloads(50, "192.0.2.99") + self.downloads(1)
        self.run_for(2, *them)
        *many, one = self.run_for(10, *them)
        self.near(sum(many), one, RATE)

    def test_more_than_shares(self) -> None:
        """With more strangers than there are shares in a tick, all have their turn."""
        them = self.downloads(200)
        self.run_for(2, *them)
        got = self.run_for(10, *them)
        self.near(sum(got), RATE * 10, RATE * BURST + 200 * LEAST_SHARE)
        self.assertGreater(min(got), RATE * 10 / 200 - 3 * LEAST_SHARE)

    def test_small(self) -> None:
        """Small downloads count too: asked for over and over they get the rate, each whole."""
        socket, taken = self.open(keep=False, peer="192.0.2.1"), 0
        for _ in range(round(5 / TICK)):
            self.reactor.advance(TICK)
            for _ in range(100):
                if socket.taken >= taken:
                    taken = socket.taken + 51200
                    socket.receive(get("/random/50KiB"))
                    socket.flush()
            socket.flush()
        self.assertLess(socket.taken, RATE * (5 + BURST) * 1.02)
        self.assertGreater(socket.taken, RATE * 3)
        other = self.open(peer="192.0.2.2")
        other.receive(get("/random/100KiB", "Connection: close"))
        self.run_for(1, other)
        status, headers, body = self.read(other)
        self.assertEqual((status, headers["Content-Length"], len(body)), (200, "102400", 102400))

    def test_now_and_then(self) -> None:
        """A client of Torperf's elsewhere, 5 MiB every five minutes, waits for nothing that matters."""
        self.rate = StrangersRate(self.reactor, self.reactor.seconds, 32 * 2**20)
        self.site = self.make(children=random_resources(LIMIT, self.rate))
        for _ in range(3):
            self.reactor.advance(300.0)
            socket = self.open(peer="192.0.2.1")
            socket.receive(get("/.5mbfile", "Connection: close"))
            socket.flush()
            self.assertEqual(len(self.read(socket)[2]), 5242880)

    def test_measurements(self) -> None:
        """Measurements get all at once however many strangers there are, and take nothing from these."""
        them = self.downloads(5)
        self.run_for(1, *them)
        self.stamps.expect("ours")
        ours = self.open(keep=False, peer="192.0.2.1")
        ours.receive(get("/random/200MiB", "X-Perfd-Measurement: ours"))
        ours.flush()
        self.assertGreater(ours.taken, 200 * 2**20)
        self.near(sum(self.run_for(5, *them)), RATE * 5, RATE * BURST)

    def test_head(self) -> None:
        """HEAD costs nothing."""
        for _ in range(100):
            self.assertEqual(self.ask(get("/random/1GiB", method="HEAD"))[0], 200)
        self.assertTrue(self.rate.spend(100_000))

    def test_gone(self) -> None:
        """Strangers who go, at whatever moment, leave nothing behind."""
        them = self.downloads(5)
        for socket in them:
            self.run_for(0.2, *(each for each in them if each.connected))
            socket.connectionLost(Failure(main.CONNECTION_LOST))
        self.reactor.advance(TICK)
        self.assertEqual((self.rate._waiting, self.rate._tick), ({}, None))
