"""The kernel's stamps: over real sockets while the reactor is held up, and with clocks that are stepped."""

from __future__ import annotations

import socket
import time
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.wire.arrival import (
    KernelClock,
    StampedSocket,
    arrival,
    first_arrival,
    is_exact,
    stamp_accepted,
    stamp_arrivals,
)
from tests.support.sockets import let_kernel_stamp

HELD_UP = 0.05
"""Seconds for which the reactor does nothing."""

NOISE = KernelClock.TOLERANCE

LARGE = 60_000
"""Bytes that fill a packet on loopback, so that the kernel merges it with no other."""


class Clocks:
    """Two clocks that the test turns."""

    def __init__(self) -> None:
        self.monotonic = 100.0
        self.wall = 1_000_000.0
        self.clock = KernelClock(lambda: self.monotonic, lambda: self.wall)

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def at(self, stamp: float) -> float | None:
        moment = self.clock.monotonic(stamp)
        return None if moment is None else round(moment, 6)


class KernelClockTests(SynchronousTestCase):
    """`KernelClock`."""

    def test_no_step(self) -> None:
        """A stamp from any time before is turned into the monotonic clock's."""
        clocks = Clocks()
        before = clocks.wall - 5.0
        clocks.advance(3600.0)
        stamp = clocks.wall
        clocks.advance(0.25)
        self.assertEqual((clocks.at(before), clocks.at(stamp)), (95.0, 3700.0))

    def test_steps(self) -> None:
        """Stamps from before a step have no time, whichever way it went; those from after it are right again."""
        for step in (3600.0, 0.01, -0.01, -3600.0):
            with self.subTest(step=step):
                clocks = Clocks()
                clocks.advance(1.0)
                stamp = clocks.wall
                clocks.advance(0.001)
                clocks.wall += step
                clocks.advance(0.001)
                self.assertIsNone(clocks.at(stamp))
                clocks.advance(1.0)
                after = clocks.wall
                clocks.advance(0.03)
                self.assertEqual(clocks.at(after), round(clocks.monotonic - 0.03, 6))

    def test_future(self) -> None:
        """What would come only in the future has no time."""
        clocks = Clocks()
        self.assertIsNone(clocks.at(clocks.wall + 0.1))

    def test_interrupted(self) -> None:
        """A process that is held up between its looks at both clocks takes that for no step."""
        clocks = Clocks()
        stamp = clocks.wall
        clocks.advance(1.0)
        looks = 0

        def wall() -> float:
            nonlocal looks
            looks += 1
            if looks in (1, 3):
                clocks.advance(0.5)
            return clocks.wall

        clocks.clock._wall = wall
        self.assertEqual((clocks.at(stamp), looks > 1), (100.0, True))
        clocks.clock._wall = lambda: clocks.wall
        self.assertEqual(clocks.at(stamp), 100.0)


class Reader(Protocol):
    """Stamps what comes with three clocks: the kernel's for the first byte and the last, and its own."""

    transport: Any

    def __init__(self, clock: KernelClock | None) -> None:
        self._clock = clock
        self.read: Deferred[tuple[float, float, float]] = Deferred()

    def connectionMade(self) -> None:
        self.socket = stamp_arrivals(self.transport, time.monotonic, self._clock)
        if self.socket is not None:
            self.socket.wants_first = True

    def dataReceived(self, data: bytes) -> None:
        now = time.monotonic()
        last = arrival(self.socket, now)
        reading, self.read = self.read, Deferred()
        reading.callback((first_arrival(self.socket, last), last, now))


class SocketTests(TestCase):
    """`stamp_accepted`, `stamp_arrivals` and `arrival` over real sockets."""

    timeout = 30

    def setUp(self) -> None:
        let_kernel_stamp(self)

    async def listen(self, endpoint: Any = None, clock: KernelClock | None = None) -> Any:
        """A port whose connections are read by ``self.reader``, the latest one."""
        self.accepted: Deferred[Reader] = Deferred()

        class Accepted(Reader):
            def connectionMade(reader) -> None:  # noqa: N805 - `self` is the test
                super().connectionMade()
                self.accepted.callback(reader)

        endpoint = endpoint or TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(lambda: Accepted(clock)))
        self.addCleanup(port.stopListening)
        return port

    def speak(self, port: Any, data: bytes = b"hello") -> tuple[socket.socket, float, float]:
        """Connect and send without the reactor's help. Gives the moments before and after the bytes were sent."""
        speaker = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(speaker.close)
        return speaker, *self.send(speaker, data)

    def send(self, speaker: socket.socket, data: bytes = b"hello") -> tuple[float, float]:
        before = time.monotonic()
        speaker.sendall(data)
        return before, time.monotonic()

    def assert_between(self, before: float, stamp: float, after: float) -> None:
        self.assertTrue(before - NOISE <= stamp <= after + NOISE, (before, stamp, after))

    async def test_held_up(self) -> None:
        """While the reactor is held up bytes come; they have the time of their coming, not of their being read."""
        port = await self.listen()
        speaker, _, _ = self.speak(port)
        reader = await self.accepted
        await reader.read
        before, after = self.send(speaker)
        time.sleep(HELD_UP)
        _, last, now = await reader.read
        self.assert_between(before, last, after)
        self.assertGreater(now - last, HELD_UP * 0.9)

    async def test_before_accept(self) -> None:
        """So have bytes that came before the connection was accepted, if the port was told before."""
        clock = KernelClock(time.monotonic)
        port = await self.listen(clock=clock)
        stamp_accepted(port)
        _, before, after = self.speak(port)
        time.sleep(HELD_UP)
        reader = await self.accepted
        _, last, _ = await reader.read
        self.assert_between(before, last, after)
        self.assertTrue(is_exact(reader.socket))

    async def test_first_of_a_read(self) -> None:
        """When the first packet came is told too, if several wait until they are read."""
        port = await self.listen()
        speaker, _, _ = self.speak(port)
        reader = await self.accepted
        await reader.read
        reader.socket.wants_first = True  # type: ignore[union-attr]
        earlier = self.send(speaker, bytes(LARGE))
        time.sleep(HELD_UP)
        later = self.send(speaker, bytes(LARGE))
        reader.transport.bufferSize = 2 * LARGE
        first, last, _ = await reader.read
        self.assert_between(earlier[0], first, earlier[1])
        self.assert_between(later[0], last, later[1])

    async def test_nothing_to_read(self) -> None:
        """A look for the first packet that finds none is made again at the next read."""
        port = await self.listen()
        speaker, _, _ = self.speak(port)
        reader = await self.accepted
        await reader.read
        stamped = reader.socket
        assert stamped is not None
        stamped.wants_first = True
        with self.assertRaises(BlockingIOError):
            stamped.recv(10)
        self.assertTrue(stamped.wants_first)
        before, after = self.send(speaker)
        self.assertEqual(stamped.recv(10), b"hello")
        assert stamped.first is not None
        self.assert_between(before, stamped.first, after)

    async def test_stepped(self) -> None:
        """If the wall clock was stepped before the read, the time of reading is taken, and said to be no better."""
        clock = KernelClock(time.monotonic)
        port = await self.listen(clock=clock)
        stamp_accepted(port)
        self.speak(port)
        clock._wall = lambda: time.time() + 3600.0
        reader = await self.accepted
        first, last, now = await reader.read
        self.assertEqual((first, last), (now, now))
        self.assertFalse(is_exact(reader.socket))

    async def test_too_early(self) -> None:
        """A stamp from before what must have been earlier does not count."""
        port = await self.listen()
        self.speak(port)
        reader = await self.accepted
        _, last, _ = await reader.read
        self.assertEqual(arrival(reader.socket, last + 2.0, last + 1.0), last + 2.0)
        self.assertEqual(first_arrival(reader.socket, last + 2.0, last + 1.0), last + 2.0)
        self.assertFalse(is_exact(reader.socket))

    async def test_twice(self) -> None:
        """Who asks for what is there already gets it."""
        port = await self.listen()
        self.speak(port)
        reader = await self.accepted
        self.assertIs(stamp_arrivals(reader.transport, time.monotonic), reader.socket)
        self.assertIsInstance(reader.socket, StampedSocket)

    async def test_unix(self) -> None:
        """A Unix socket gives no stamps: the time of reading is taken."""
        path = self.mktemp()
        await self.listen(UNIXServerEndpoint(reactor, path))
        speaker = socket.socket(socket.AF_UNIX)
        self.addCleanup(speaker.close)
        speaker.connect(path)
        self.send(speaker)
        time.sleep(HELD_UP)
        reader = await self.accepted
        first, last, now = await reader.read
        self.assertEqual((first, last, is_exact(reader.socket)), (now, now, False))

    async def test_elsewhere(self) -> None:
        """On a system without such stamps the socket stays what it is, and the time of reading is taken."""
        with mock.patch("sys.platform", "freebsd14"):
            port = await self.listen()
            stamp_accepted(port)
            self.speak(port)
            reader = await self.accepted
        first, last, now = await reader.read
        self.assertEqual((reader.socket, type(reader.transport.socket)), (None, socket.socket))
        self.assertEqual((first, last, is_exact(None)), (now, now, False))

    async def test_refused(self) -> None:
        """A kernel that does not know the option changes nothing."""
        with mock.patch("perfd.wire.arrival.SO_TIMESTAMPNS", 9999):
            port = await self.listen()
            stamp_accepted(port)
            self.speak(port)
            reader = await self.accepted
        _, last, now = await reader.read
        self.assertEqual((reader.socket, last), (None, now))

    def test_socket_of_another(self) -> None:
        """A transport that wraps another has no socket of its own, and the other keeps its."""
        inner: Any = mock.Mock(spec=["socket", "fileno"])
        inner.socket = socket.socket()
        self.addCleanup(inner.socket.close)
        wrapper: Any = ProtocolWrapper(mock.Mock(), mock.Mock())
        wrapper.transport = inner
        self.assertIs(wrapper.socket, inner.socket)
        self.assertIsNone(stamp_arrivals(wrapper, time.monotonic))
        self.assertGreaterEqual(inner.socket.fileno(), 0)

    def test_no_socket(self) -> None:
        """What is no socket is left alone."""
        self.assertIsNone(stamp_arrivals(object(), time.monotonic))
        stamp_accepted(object())
