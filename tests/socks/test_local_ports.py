"""Local ports that do not come back soon, and why: documents of several tors are read by port and time."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.clock import Clock
from perfd.formats import onionperf_writer
from perfd.record import Circuit, Hop, Measurement, Stream
from perfd.socks import local_ports
from perfd.socks.local_ports import DYNAMIC_PORTS, REST, TURN, FromLocalPort, LocalPorts, system_ports
from perfd.tor.endpoints import socks_endpoint
from tests.support.instance import free_port
from tests.support.joins import joined_by_port, known_of
from tests.support.strategies import typical


class Time:
    """Both clocks, as the test sets them."""

    def __init__(self, wall: float = 1.7e9) -> None:
        self.wall = wall
        self.monotonic = 5.0

    def __call__(self) -> Clock:
        return Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class User:
    """A connection, as ``LocalPorts`` sees it."""

    def __init__(self, ports: LocalPorts) -> None:
        self.is_open = True
        self.port = ports.take(lambda: self.is_open)


class LocalPortsTests(SynchronousTestCase):
    """Which ports are given out."""

    @given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 12), st.integers(0, 12)), max_size=30))
    def test_none_comes_back_soon(self, steps: list[tuple[int, int, int]]) -> None:
        """Whatever is opened and closed when, no port is used by two, or again within 300 s of its end."""
        time = Time()
        ports = LocalPorts(time(), range(40000, 40040))
        users: list[User] = []
        ended: dict[int, float] = {}
        for seconds, opened, closed in steps:
            time.pass_(float(seconds))
            for user in users[:closed]:
                user.is_open = False
                if user.port is not None:
                    ended[user.port] = time.monotonic
            del users[:closed]
            for _ in range(opened):
                user = User(ports)
                if user.port is not None:
                    self.assertIn(user.port, range(40000, 40040))
                    self.assertNotIn(user.port, [other.port for other in users])
                    self.assertGreaterEqual(time.monotonic - ended.get(user.port, -REST), REST)
                users.append(user)

    def test_none_left(self) -> None:
        """When all are used or at rest there is none, until one has rested."""
        time = Time()
        ports = LocalPorts(time(), range(40000, 40003))
        users = [User(ports) for _ in range(4)]
        self.assertEqual(sorted(user.port or 0 for user in users), [0, 40000, 40001, 40002])
        users[0].is_open = False
        self.assertIsNone(User(ports).port)  # by now its end is known
        time.pass_(REST - 1.0)
        self.assertIsNone(User(ports).port)
        time.pass_(1.0)
        self.assertEqual(User(ports).port, users[0].port)

    def test_started_again(self) -> None:
        """A Perfd that is started again, with what it takes a minute, uses no port of the last 300 s again."""
        time = Time()
        recent: list[tuple[float, int]] = []
        for _ in range(20):
            ports = LocalPorts(time(), range(32768, 61000))
            for _ in range(100):
                time.pass_(0.6)
                port = ports.take(lambda: False)
                assert port is not None
                self.assertNotIn(port, [old for at, old in recent if time.wall - at < REST])
                recent.append((time.wall, port))
            recent = recent[-1000:]

    def test_a_clock_that_is_set_back(self) -> None:
        """The turn goes on."""
        time = Time()
        ports = LocalPorts(time(), range(40000, 50000))
        first = [User(ports).port for _ in range(10)]
        time.wall -= 3600.0
        self.assertEqual(set(first) & {User(ports).port for _ in range(10)}, set())
        time.wall += 3600.0 + TURN / 2
        self.assertEqual(set(first) & {User(ports).port for _ in range(10)}, set())

    def test_system_ports(self) -> None:
        """Those that the system uses itself, or the dynamic ones of the registry."""
        self.assertGreater(len(system_ports()), 1000)
        path = Path(self.mktemp())
        for text, expected in (("40000\t40009\n", range(40000, 40010)), ("", DYNAMIC_PORTS), (None, DYNAMIC_PORTS)):
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
            with mock.patch.object(local_ports, "_SYSTEM_RANGE", path):
                self.assertEqual(system_ports(), expected)


class Ends(Protocol):
    """Either end of a connection; closes when the other does."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


class ConnectionTests(TestCase):
    """Real connections over loopback."""

    def setUp(self) -> None:
        self.servers: list[Any] = []
        self.time = Time()

    def listen(self, interface: str = "127.0.0.1") -> int:
        factory = ServerFactory.forProtocol(Ends)
        factory.noisy = False
        listening = reactor.listenTCP(0, factory, interface=interface)
        self.addCleanup(listening.stopListening)
        return int(listening.getHost().port)

    async def connect(self, endpoint: Any) -> tuple[int, Ends]:
        """Our port, and our end."""
        end: Any = await endpoint.connect(Factory.forProtocol(Ends))
        return int(end.transport.getHost().port), end

    async def close(self, end: Ends) -> None:
        end.transport.loseConnection()  # type: ignore[union-attr]
        await end.closed

    async def test_several_tors(self) -> None:
        """Connections one after the other, to five SOCKS ports in turn, have 200 ports."""
        ports = LocalPorts(self.time(), system_ports())
        endpoints = [socks_endpoint(reactor, "127.0.0.1", self.listen(), ports) for _ in range(5)]
        seen = []
        for number in range(200):
            port, end = await self.connect(endpoints[number % 5])
            seen.append(port)
            await self.close(end)
        self.assertEqual(len(set(seen)), 200)

    async def test_port_of_another_program(self) -> None:
        """It is passed over."""
        first = free_port()
        ports = LocalPorts(self.time(), range(first, first + 1))
        far = self.listen()
        with closing(socket.socket()) as other:
            other.bind(("127.0.0.1", first))
            port, end = await self.connect(socks_endpoint(reactor, "127.0.0.1", far, ports))
            self.assertNotEqual(port, first)  # there was no other in the range: the system chose
            await self.close(end)
        self.time.pass_(2 * REST)
        port, end = await self.connect(socks_endpoint(reactor, "127.0.0.1", far, ports))
        self.assertEqual(port, first)
        again, other_end = await self.connect(socks_endpoint(reactor, "127.0.0.1", far, ports))
        self.assertNotEqual(again, first)
        await self.close(end)
        await self.close(other_end)

    async def test_refused(self) -> None:
        """A connection that fails gives its port back, to rest, and its error on."""
        first = free_port()
        ports = LocalPorts(self.time(), range(first, first + 1))
        endpoint = socks_endpoint(reactor, "127.0.0.1", free_port(), ports)
        with self.assertRaises(RefusedError):
            await self.connect(endpoint)
        self.time.pass_(REST)
        self.assertIsNone(ports.take(lambda: False))  # by now its end is known
        self.time.pass_(REST)
        self.assertEqual(ports.take(lambda: False), first)

    async def test_ipv6(self) -> None:
        """It is the same over IPv6."""
        first = free_port()
        ports = LocalPorts(self.time(), range(first, first + 1))
        port, end = await self.connect(socks_endpoint(reactor, "::1", self.listen("::1"), ports))
        self.assertEqual(port, first)
        await self.close(end)

    async def test_name(self) -> None:
        """A SOCKS port that is known by a name is connected to as it always was."""
        endpoint = socks_endpoint(reactor, "localhost", self.listen(), LocalPorts(self.time(), range(1, 2)))
        self.assertNotIsInstance(endpoint, FromLocalPort)
        _, end = await self.connect(endpoint)
        await self.close(end)

    async def test_the_systems_ports_come_back(self) -> None:
        """What it is for: left to the system, connections to several ports share local ports within seconds."""
        far = [self.listen() for _ in range(40)]
        seen: set[int] = set()
        count = 0
        for _ in range(25):
            ends = [await self.connect(TCP4ClientEndpoint(reactor, "127.0.0.1", port)) for port in far]
            seen.update(port for port, _ in ends)
            count += len(ends)
            for _, end in ends:
                await self.close(end)
        self.assertLess(len(seen), count)


# Documents


def day(ports_of: Any, time: Time) -> tuple[list[Measurement], list[Circuit], list[Stream]]:
    """Runs of five tors, every 10 s one on each for an hour, of 1 to 295 s; ``ports_of`` gives the ports."""
    runs, circuits, streams = [], [], []
    begun = time.wall
    open_: list[tuple[float, User]] = []
    for number in range(5 * 360):
        tor = f"tor{number % 5}"
        time.pass_(begun + number * 2.0 - time.wall)
        for _, user in [each for each in open_ if each[0] <= time.wall]:
            user.is_open = False
        open_ = [each for each in open_ if each[1].is_open]
        seconds = 1.0 + number * 37 % 295
        user = User(ports_of(tor))
        open_.append((time.wall + seconds, user))
        start = time.wall
        path = tuple(f"${number:039X}{hop}" for hop in range(3))
        end = start + seconds
        changes: dict[str, Any] = {"start": start, "end": end, "datacomplete": end, "used_at": end + 0.01}
        changes |= {"launch": start - 5.0, "circ_id": 10_000 + number, "used_by": 20_000 + number, "path": path}
        changes |= {"endpointlocal": f"localhost:127.0.0.1:{user.port}", "tor": tor}
        run = attrs.evolve(typical(number, dataperc={}, partial={}), **changes)
        times = run.buildtimes or ()
        hops = tuple(Hop(relay, None, start - 5.0 + at) for relay, at in zip(path, times, strict=True))
        circuits.append(
            Circuit(
                id=f"c{number}",
                source="example",
                tor=tor,
                circ_id=10_000 + number,
                launch=start - 5.0,
                end=start + seconds + 60.0,
                status="CLOSED",
                path=hops,
                timeout=run.timeout,
                quantile=run.quantile,
            )
        )
        streams.append(
            Stream(
                id=f"s{number}",
                source="example",
                tor=tor,
                stream_id=20_000 + number,
                new=start,
                end=start + seconds + 0.01,
                status="CLOSED",
                source_addr=f"127.0.0.1:{user.port}",
                measurement=run.id,
                circuit=f"c{number}",
            )
        )
        runs.append(run)
    return runs, circuits, streams


def misread(runs: list[Measurement], circuits: list[Circuit], streams: list[Stream]) -> int:
    """How many runs a reader by port and time joins to another's circuit."""
    found = joined_by_port(onionperf_writer.analysis("example", runs, circuits, streams))
    return sum(each["path"] != known_of(run)["path"] for each, run in zip(found, runs, strict=True))


def test_no_run_of_several_tors_is_misread() -> None:
    """A document of five tors, read as OnionPerf and metrics-lib do, gives each run its own stream and circuit."""
    time = Time()
    ports = LocalPorts(time(), range(32768, 61000))
    assert misread(*day(lambda tor: ports, time)) == 0


class AsLinux:
    """Any port of those that Linux tries first, whatever other tors have: they are other destinations."""

    def __init__(self) -> None:
        self._random = Random(5)

    def take(self, lives: Any) -> int:
        return self._random.randrange(32768, 61000, 2)


def test_runs_are_misread_if_the_system_chooses() -> None:
    """So the reader is no rubber stamp: some of the same runs get the circuits of others."""
    ports = AsLinux()
    assert 3 < misread(*day(lambda tor: ports, Time())) < 30
