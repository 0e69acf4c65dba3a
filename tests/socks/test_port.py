"""SOCKS ports of every version, and proxies that speak another one, or none."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.socks import SOCKSv4Factory
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock as Clocks
from perfd.clock import Phase, Timeline
from perfd.socks.connection import Hooks
from perfd.socks.diagnosis import PROBE_TIMEOUT, SILENCE, Diagnosis
from perfd.socks.errors import CommandNotSupported, ProxyVersionError, RequestRejectedOrFailed
from perfd.socks.machine import Command
from perfd.socks.port import SOCKSPort
from perfd.socks.testing import FakeSOCKSFactory, MemoryEndpoint, SOCKSAnswers
from tests.support.loopback import Echo, LoopbackCase

reactor: Any = global_reactor

OWN = ("isolated", "perfd")


class PortTests(SynchronousTestCase):
    """What is said to the proxy."""

    def asked(self, answers: SOCKSAnswers | None = None, host: str = "example.com", **options: Any) -> Any:
        """The fake's server, after a connection through a port with ``options``."""
        proxy = FakeSOCKSFactory(answers)
        endpoint = MemoryEndpoint(proxy)
        connecting = SOCKSPort(endpoint, **options).through(host, 80, OWN).connect(Factory.forProtocol(Protocol))
        endpoint.flush()
        self.successResultOf(connecting)
        return proxy.peers[0].server

    def test_versions(self) -> None:
        """Names are the proxy's to resolve in both."""
        for version in (4, 5):
            request = self.asked(version=version).request
            self.assertEqual((request.version, request.kind, request.host), (version, "name", "example.com"))
        self.assertEqual(self.asked(host="127.0.0.1", version=4).request.kind, "ipv4")

    def test_login(self) -> None:
        """The port's own takes the place of the connection's; SOCKS 4 has no password."""
        for version, login, user, password in (
            (5, None, b"isolated", b"perfd"),
            (5, ("spam", ""), b"spam", b""),
            (4, None, b"isolated", None),
            (4, ("spam", ""), b"spam", None),
        ):
            request = self.asked(version=version, login=login).request
            self.assertEqual((request.user, request.password), (user, password))
            self.assertEqual(SOCKSPort(None, version, login).username(OWN), user.decode())  # type: ignore[arg-type]

    def test_methods(self) -> None:
        """A tor must isolate; somebody else's proxy may do without a login, unless it has one for us."""
        for options, offered in (
            ({}, (2,)),
            ({"is_tors": False}, (0, 2)),
            ({"is_tors": False, "login": ("spam", "eggs")}, (2,)),
        ):
            self.assertEqual(self.asked(**options).offered, offered)
        self.assertIsNone(self.asked(SOCKSAnswers(method=0), is_tors=False).request.user)

    def test_cannot_be_asked_for(self) -> None:
        """A mistake is told before anything is connected."""
        self.assertRaises(ValueError, SOCKSPort(None).through, "a", 0, OWN)  # type: ignore[arg-type]
        through = SOCKSPort(None, 4).through  # type: ignore[arg-type]
        self.assertRaises(CommandNotSupported, through, "a", 0, OWN, command=Command.RESOLVE)
        self.assertIsNone(SOCKSPort(None).username(None))  # type: ignore[arg-type]


class SilenceTests(SynchronousTestCase):
    """A proxy that does not answer, with a clock in memory."""

    def connect(self, answers: SOCKSAnswers, version: int) -> tuple[Any, MemoryEndpoint, Any]:
        self.clock = Clock()
        proxy = FakeSOCKSFactory(answers)
        endpoint = MemoryEndpoint(proxy)
        socks = SOCKSPort(endpoint, version, diagnosis=Diagnosis(self.clock, endpoint, "proxy:1080", version))
        connecting = socks.through("example.com", 80, OWN).connect(Factory.forProtocol(Protocol))
        endpoint.flush()
        return connecting, endpoint, proxy

    def test_slow_socks4(self) -> None:
        """A SOCKS 4 proxy that answers others is only slow: it is waited for."""
        answers = SOCKSAnswers(raw={"reply": b""})
        connecting, endpoint, proxy = self.connect(answers, 4)
        proxy.answers = SOCKSAnswers()
        self.clock.advance(SILENCE)
        endpoint.flush()
        self.assertNoResult(connecting)
        self.assertEqual(len(proxy.peers), 3)
        proxy.peers[0].transport.write(b"\x00\x5a" + bytes(6))
        endpoint.flush()
        self.successResultOf(connecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mute(self) -> None:
        """What answers nothing is no proxy; it is told within seconds."""
        for version, key in ((4, "reply"), (5, "method")):
            connecting, endpoint, _ = self.connect(SOCKSAnswers(raw={"reply": b"", "method": b""}), version)
            self.clock.advance(SILENCE)
            endpoint.flush()
            self.assertNoResult(connecting)
            self.clock.advance(PROBE_TIMEOUT)
            self.failureResultOf(connecting, ProxyVersionError)
            self.assertEqual(self.clock.getDelayedCalls(), [], key)

    def test_answered_in_time(self) -> None:
        """Who answers the greeting may take its time for the reply."""
        connecting, endpoint, proxy = self.connect(SOCKSAnswers(raw={"reply": b""}), 5)
        self.clock.advance(100 * SILENCE)
        endpoint.flush()
        self.assertNoResult(connecting)
        self.assertEqual(len(proxy.peers), 1)

    def test_given_up(self) -> None:
        """A connection that is cancelled, before or while it is found out, is not told of."""
        for wait in (0, SILENCE):
            connecting, endpoint, _ = self.connect(SOCKSAnswers(raw={"reply": b"", "method": b""}), 5)
            self.clock.advance(wait)
            connecting.cancel()
            connecting.addErrback(lambda failure: None)
            endpoint.flush()
            self.clock.advance(PROBE_TIMEOUT)
            self.assertEqual(self.clock.getDelayedCalls(), [])


class Mute(Protocol):
    """Says nothing."""


class HTTPServer(Protocol):
    """Says what a web server says to what it does not understand."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()


class Closing(Protocol):
    """Closes at the first byte."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()


class SOCKS5Only(Protocol):
    """Closes on every other version, as many do."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        if data[0] == 5:
            self.transport.write(b"\x05\x00")
        else:
            self.other()

    def other(self) -> None:
        self.transport.loseConnection()


class SOCKS5Chatty(SOCKS5Only):
    """Answers every other version in its own."""

    def other(self) -> None:
        self.transport.write(b"\x05\xff")


class RealProxyTests(LoopbackCase):
    """Twisted's own SOCKS 4 server, and servers that are none."""

    timeout = 60

    async def socks(self, factory: Any, version: int) -> SOCKSPort:
        port, _ = await self.listen(factory)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self.name = f"127.0.0.1:{port}"
        return SOCKSPort(endpoint, version, None, False, Diagnosis(reactor, endpoint, self.name, version))

    async def connect(self, socks: SOCKSPort, port: int, host: str = "127.0.0.1") -> tuple[Any, Timeline]:
        timeline = Timeline(Clocks())
        connecting = socks.through(host, port, OWN, Hooks(timeline)).connect(Factory.forProtocol(Protocol))
        return await connecting, timeline

    async def test_socks4(self) -> None:
        """It is asked by address and by name, and refuses what it cannot reach."""
        socks = await self.socks(SOCKSv4Factory(None), 4)
        echo, _ = await self.listen(Factory.forProtocol(Echo))
        for host in ("127.0.0.1", "localhost"):
            application, timeline = await self.connect(socks, echo, host)
            self.assertNotIn(Phase.NEGOTIATE, timeline.stamps)
            self.assertIn(Phase.RESPONSE, timeline.stamps)
            application.transport.loseConnection()
        with self.assertRaises(RequestRejectedOrFailed):
            await self.connect(socks, 1)

    async def test_another_version(self) -> None:
        """A proxy of the other version is named, with what to write; whether it is silent, closes, or answers."""
        for factory, version, other in (
            (SOCKSv4Factory(None), 5, 4),
            (Factory.forProtocol(SOCKS5Only), 4, 5),
            (Factory.forProtocol(SOCKS5Chatty), 4, 5),
        ):
            socks = await self.socks(factory, version)
            with self.assertRaises(ProxyVersionError) as raised:
                await self.connect(socks, 80)
            remedy = f"speaks SOCKS {other}, not {version}: write socks{other}://{self.name}"
            self.assertIn(remedy, str(raised.exception))

    async def test_no_proxy(self) -> None:
        """What is no proxy: an answer in something else, an end, silence."""
        for protocol, versions in ((HTTPServer, (4, 5)), (Closing, (4, 5)), (Mute, (5,))):
            for version in versions:
                socks = await self.socks(Factory.forProtocol(protocol), version)
                with self.assertRaises(ProxyVersionError) as raised:
                    await self.connect(socks, 80)
                self.assertEqual(
                    str(raised.exception), f"{self.name} does not answer as a SOCKS proxy: is it the right port?"
                )
