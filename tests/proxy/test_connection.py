"""Measured connections: negotiation, order of events, records, back-pressure, ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock as FakeReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Anchor, Clock
from perfd.proxy import MeasuringProxy, OpenPort, ProxyConnection
from perfd.proxy.connection import PortSettings
from perfd.record import Stream
from perfd.socks.forwarding import (
    ANSWER_TIMEOUT,
    END_WAIT,
    FIRST_BYTES_WAIT,
    LINGER_TIMEOUT,
    MOST_EARLY,
    NEGOTIATION_TIMEOUT,
)
from perfd.socks.port import SOCKSPort
from perfd.socks.server import MOST_CONNECTIONS
from perfd.socks.testing import FakeSOCKSFactory, SOCKSAnswers
from perfd.socks.way_out import ThroughSOCKS, WayOut
from perfd.tor.events.join import Join, Joined
from perfd.tor.events.listener import LAST_EVENTS_WAIT
from perfd.tor.events.streams import LiveStream
from tests.support.forwarding import ABORTED, HERE, RESET, FakeEndpoint, Transport

reactor: Any = global_reactor

GREETING = b"\x05\x01\x00"
NAME = b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
SOCKS4A = b"\x04\x01\x00\x50\x00\x00\x00\x01spam\0example.com\0"
GRANTED = b"\x05\x00\x00\x01" + bytes(6)

LOGIN = ("user", "perfd")
LOGIN_METHODS = b"\x05\x01\x02"
LOGIN_BYTES = b"\x01\x04user\x05perfd"
OPENING = LOGIN_BYTES + NAME

STEPS = (
    *("start", "asked", "socket", "connect", "negotiate", "request", "response", "replied"),
    *("datarequest", "datasent", "dataresponse", "datacomplete", "closed", "end"),
)


class InMemory(SynchronousTestCase):
    """A port in memory, with a clock that goes one second on with each stamp."""

    def setUp(self) -> None:
        self.records: list[ProxyConnection] = []
        self.now = 0.0
        self.open()

    def open(self, **options: Any) -> OpenPort:
        self.endpoint, self.reactor = FakeEndpoint(), FakeReactor()
        values: dict[str, Any] = {
            "reactor": self.reactor,
            "clock": Clock(wall=lambda: 1000.0, monotonic=self.tick),
            "way_out": self.way_out(**options),
        }
        options = {name: options[name] for name in options.keys() - {"socks", "login", "optimistic"}}
        self.port = OpenPort(PortSettings(**(values | options)), self.records.append)
        return self.port

    def way_out(
        self,
        socks: Callable[[], SOCKSPort] | None = None,
        login: tuple[str, str] | None = LOGIN,
        optimistic: bool = False,
        **_: Any,
    ) -> WayOut:
        """Through the endpoint of this test, or ``socks``."""
        return ThroughSOCKS(socks or (lambda: SOCKSPort(self.endpoint)), login, optimistic)

    def open_direct(self, **options: Any) -> list[Any]:
        """Open a port without a tor behind it; the factories that are to be connected."""
        self.open()
        made: list[Any] = []
        self.reactor.connectTCP = lambda *arguments, **_: made.append(arguments)
        proxy = MeasuringProxy(self.reactor, Clock(monotonic=self.tick), None, options.get("events"))
        self.reactor.listenTCP = lambda _, factory, **__: setattr(self, "port", factory)
        proxy.open(finished=self.records.append)
        return made

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def client(self) -> tuple[Any, Transport]:
        """A protocol that a program has connected to, and its transport."""
        protocol = self.port.buildProtocol(HERE)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def connected(self, **options: Any) -> tuple[Any, Transport, Any, Transport]:
        """Both ends and their transports, tor having granted the request."""
        self.open(**options)
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        remote = self.endpoint.succeed()
        if not options.get("optimistic"):
            for answer in (b"\x05\x02", b"\x01\x00", GRANTED):
                remote.dataReceived(answer)
            near.clear()
            remote.transport.clear()
        return client, near, remote, remote.transport

    def end(self, *protocols: Any, reason: Failure = connectionDone) -> ProxyConnection:
        """Both connections are gone; the record."""
        for protocol in protocols:
            if not protocol.lost:
                protocol.connectionLost(reason)
        (record,) = self.records
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        return record

    def assert_order(self, record: ProxyConnection, *steps: str) -> None:
        times = [getattr(record, step) for step in steps]
        self.assertEqual(times, sorted(times))


class Strict(InMemory):
    """What a program sees is what tor says, when tor says it."""

    def test_forwards(self) -> None:
        """The request goes to tor with our login; the program is answered when tor has; all stamps are in order."""
        client, near = self.client()
        client.dataReceived(GREETING)
        self.assertEqual(near.value(), b"\x05\x00")
        client.dataReceived(NAME)
        remote = self.endpoint.succeed()
        far = remote.transport
        for said, answer in ((LOGIN_METHODS, b"\x05\x02"), (LOGIN_BYTES, b"\x01\x00"), (NAME, GRANTED)):
            self.assertEqual((far.value(), near.value()), (said, b"\x05\x00"))
            far.clear()
            remote.dataReceived(answer)
        self.assertEqual(near.value(), b"\x05\x00" + GRANTED)
        self.assertTrue(near.nodelay and far.nodelay)
        near.clear()
        for data in (b"one", b"two"):
            client.dataReceived(data)
        for data in (b"three", b"four"):
            remote.dataReceived(data)
        self.assertEqual((far.value(), near.value()), (b"onetwo", b"threefour"))
        client.readConnectionLost()
        remote.readConnectionLost()
        record = self.end(client, remote)
        times = [getattr(record, step) for step in STEPS]
        self.assertEqual(times, sorted(times))
        self.assertEqual(len(set(times)), len(STEPS))
        self.assertEqual((record.host, record.port, record.version), ("example.com", 80, 5))
        self.assertEqual((record.writebytes, record.readbytes, record.code), (6, 9, 0))
        self.assertEqual((record.closedby, record.how, record.errorcode), ("client", "closed", None))
        self.assertEqual((record.client, record.localport, record.username), ("127.0.0.1:40001", 50001, "user"))
        self.assertEqual(json.loads(json.dumps(record.as_dict()))["start"], record.start)

    def test_login(self) -> None:
        """Without a login of our own, tor gets the program's, also that of SOCKS 4; or none."""
        login = b"\x05\x01\x02\x01\x04spam\x04\xe4ggs"
        for said, methods, username in (
            (GREETING + NAME, b"\x05\x01\x00", None),
            (login + NAME, LOGIN_METHODS, "spam"),
            (SOCKS4A, LOGIN_METHODS, "spam"),
        ):
            self.records.clear()
            self.open(login=None)
            client, _ = self.client()
            client.dataReceived(said)
            remote = self.endpoint.succeed()
            self.assertEqual(remote.transport.value(), methods)
            remote.dataReceived(b"\x05" + methods[-1:])
            if said.startswith(login):
                self.assertEqual(remote.transport.value(), methods + login[3:])
            self.assertEqual(self.end(client, remote).username, username)

    def test_refusals(self) -> None:
        """Tor's reply code reaches the program as it is, and the record, also those that only tor has."""
        for code, errorcode in (
            (5, "TOR/CONNECTION_REFUSED"),
            (0xF2, "TOR/ONION_INTRODUCTION_FAILED"),
            (0x77, None),
        ):
            self.records.clear()
            self.open(login=None)
            client, near = self.client()
            client.dataReceived(GREETING + NAME)
            remote = self.endpoint.succeed()
            near.clear()
            remote.dataReceived(b"\x05\x00" + bytes((5, code, 0, 1)) + bytes(6))
            self.assertEqual(near.value(), bytes((5, code, 0, 1)) + bytes(6))
            self.assertTrue(near.disconnecting)
            record = self.end(client, remote)
            self.assertEqual((record.code, record.closedby, record.how), (code, "remote", "refused"))
            self.assertEqual(record.errorcode, errorcode or "TOR/UNKNOWN_REPLY")
            self.assertIsNotNone(record.replied)

    def test_socks4(self) -> None:
        """A SOCKS 4a program is answered in its own words."""
        for answer, said in ((GRANTED, b"\x00\x5a"), (b"\x05\x04\x00\x01" + bytes(6), b"\x00\x5b")):
            self.open(login=None)
            client, near = self.client()
            client.dataReceived(SOCKS4A)
            remote = self.endpoint.succeed()
            remote.dataReceived(b"\x05\x02")
            remote.dataReceived(b"\x01\x00")
            remote.dataReceived(answer)
            self.assertEqual(near.value(), said + bytes(6))

    def test_resolve(self) -> None:
        """Tor's answer to RESOLVE and RESOLVE_PTR is passed on, and that is all; never optimistically."""
        name, address = NAME[2:-2] + b"\0\0", b"\x00\x01\x7f\x00\x00\x01\x00\x00"
        for optimistic in (False, True):
            for asked, command, answer, found in (
                (b"\x05\xf0" + name, "RESOLVE", b"\x01\xc0\x00\x02\x01", "192.0.2.1"),
                (b"\x05\xf0" + name, "RESOLVE", b"\x04" + bytes(15) + b"\x01", "::1"),
                (b"\x05\xf1" + address, "RESOLVE_PTR", b"\x03\x09a.example", "a.example"),
            ):
                self.records.clear()
                self.open(optimistic=optimistic)
                client, near = self.client()
                client.dataReceived(GREETING + asked)
                self.assertEqual(near.value(), b"\x05\x00")
                remote = self.endpoint.succeed()
                remote.dataReceived(b"\x05\x02")
                remote.dataReceived(b"\x01\x00")
                self.assertTrue(remote.transport.value().endswith(asked))
                remote.dataReceived(b"\x05\x00\x00" + answer + b"\x00\x00")
                self.assertEqual(near.value(), b"\x05\x00\x05\x00\x00" + answer + b"\x00\x00")
                self.assertTrue(near.disconnecting and remote.transport.aborted)
                record = self.end(remote, client)
                self.assertEqual((record.command, record.answer, record.code), (command, found, 0))
                self.assertEqual((record.closedby, record.how, record.errorcode), ("proxy", "closed", None))
                self.assert_order(record, "negotiate", "request", "response", "replied")

    def test_resolve_for_socks4(self) -> None:
        """What SOCKS 4 has no words for is refused."""
        for answer, said, errorcode in (
            (b"\x01\xc0\x00\x02\x01", b"\x00\x5a\x00\x00\xc0\x00\x02\x01", None),
            (b"\x04" + bytes(16), b"\x00\x5b" + bytes(6), "PERFD/SOCKS"),
        ):
            self.records.clear()
            self.open(login=None)
            client, near = self.client()
            client.dataReceived(b"\x04\xf0\x00\x00\x00\x00\x00\x01\0example.com\0")
            remote = self.endpoint.succeed()
            remote.dataReceived(b"\x05\x00")
            remote.dataReceived(b"\x05\x00\x00" + answer + b"\x00\x00")
            self.assertEqual(near.value(), said)
            self.assertEqual(self.end(remote, client).errorcode, errorcode)

    def test_resolve_refused(self) -> None:
        """Tor's refusal is passed on; a SOCKS 4 port behind cannot be asked at all."""
        client, near = self.client()
        client.dataReceived(GREETING + b"\x05\xf0" + NAME[2:])
        remote = self.endpoint.succeed()
        for answer in (b"\x05\x02", b"\x01\x00", b"\x05\x04\x00\x01" + bytes(6)):
            remote.dataReceived(answer)
        self.assertEqual(near.value(), b"\x05\x00\x05\x04\x00\x01" + bytes(6))
        self.assertEqual(self.end(remote, client).errorcode, "TOR/HOST_UNREACHABLE")
        self.records.clear()
        self.open(socks=lambda: SOCKSPort(self.endpoint, 4))
        client, near = self.client()
        client.dataReceived(GREETING + b"\x05\xf0" + NAME[2:])
        self.assertEqual(near.value(), b"\x05\x00\x05\x07\x00\x01" + bytes(6))
        self.assertEqual(self.end(client).errorcode, "PERFD/SOCKS")

    def test_no_tor(self) -> None:
        """Without a SOCKS port the program is told a general failure, whatever the reason."""
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        near.clear()
        self.endpoint.fail(error.ConnectionRefusedError())
        self.assertEqual(near.value(), b"\x05\x01\x00\x01" + bytes(6))
        record = self.end(client)
        self.assertEqual((record.errorcode, record.closedby, record.how), ("PERFD/CONNECT", "proxy", "refused"))

        def not_ready() -> SOCKSPort:
            raise RuntimeError("tor default has no SOCKS port now")

        self.records.clear()
        self.open(socks=not_ready)
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        self.assertIn(b"\x05\x01\x00\x01", near.value())
        self.assertEqual(self.end(client).reason, "tor default has no SOCKS port now")

    def test_port_0(self) -> None:
        """What SOCKS cannot ask for is refused."""
        client, near = self.client()
        client.dataReceived(GREETING + NAME[:-2] + b"\0\0")
        self.assertIn(b"\x05\x01\x00\x01", near.value())
        self.assertEqual(self.end(client).errorcode, "PERFD/CONNECT")

    def test_tor_breaks_off(self) -> None:
        """A tor that goes before its reply: the program gets none either."""
        for reason, code in ((connectionDone, "PERFD/CLOSED"), (RESET, "PERFD/RESET")):
            self.records.clear()
            self.open()
            client, near = self.client()
            client.dataReceived(GREETING + NAME)
            remote = self.endpoint.succeed()
            near.clear()
            remote.connectionLost(reason)
            self.assertEqual(near.value(), b"")
            self.assertTrue(near.ending)
            record = self.end(client)
            self.assertEqual((record.errorcode, record.closedby, record.code), (code, "remote", None))

    def test_tor_talks_nonsense(self) -> None:
        """Bytes that are not SOCKS end the connection, with their own error code."""
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        remote = self.endpoint.succeed()
        remote.dataReceived(b"HTTP/1.1 400")
        self.assertTrue(remote.transport.aborted)
        self.assertIn(b"\x05\x01\x00\x01", near.value())
        self.assertEqual(self.end(remote, client).errorcode, "PERFD/SOCKS")

    def test_client_talks_nonsense(self) -> None:
        """Malformed requests are answered as SOCKS has it, recorded, and cost nothing."""
        for said, answer in (
            (b"GET / HTTP/1.1\r\n\r\n", b""),
            (b"\x05\x01\x09", b"\x05\xff"),
            (GREETING + b"\x05\x02\x00\x01" + bytes(6), b"\x05\x00\x05\x07\x00\x01" + bytes(6)),
            (GREETING + b"\x05\x01\x00\x09", b"\x05\x00\x05\x08\x00\x01" + bytes(6)),
        ):
            self.records.clear()
            self.open()
            client, near = self.client()
            for at in range(len(said)):
                client.dataReceived(said[at : at + 1])
            self.assertEqual(near.value(), answer)
            self.assertTrue(near.disconnecting)
            record = self.end(client)
            self.assertEqual((record.errorcode, record.host, record.socket), ("PERFD/SOCKS", None, None))

    def test_deadlines(self) -> None:
        """A program that does not ask, and a tor that does not answer, get their time."""
        client, near = self.client()
        client.dataReceived(GREETING)
        self.reactor.advance(NEGOTIATION_TIMEOUT)
        self.assertTrue(near.ending)
        self.assertEqual(self.end(client).errorcode, "PERFD/TIMEOUT")
        self.records.clear()
        self.open()
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        remote = self.endpoint.succeed()
        near.clear()
        self.reactor.advance(ANSWER_TIMEOUT)
        self.assertEqual(near.value(), b"\x05\x06\x00\x01" + bytes(6))
        self.assertTrue(remote.transport.aborted)
        record = self.end(remote, client)
        self.assertEqual((record.errorcode, record.closedby, record.how), ("PERFD/TIMEOUT", "proxy", "aborted"))

    def test_client_gives_up(self) -> None:
        """A program that goes while tor is at work ends that, before and after the connection to tor."""
        client, _ = self.client()
        client.dataReceived(GREETING + NAME)
        client.readConnectionLost()
        self.assertTrue(self.endpoint.cancelled)
        record = self.end(client)
        self.assertEqual((record.closedby, record.how, record.errorcode), ("client", "closed", None))
        self.records.clear()
        self.open()
        client, _ = self.client()
        client.dataReceived(GREETING + NAME)
        remote = self.endpoint.succeed()
        client.connectionLost(RESET)
        self.assertTrue(remote.transport.aborted)
        record = self.end(remote)
        self.assertEqual((record.closedby, record.how, record.response), ("client", "reset", None))

    def test_early_data(self) -> None:
        """What a program sends before it is answered arrives in order; only so much of it is kept."""
        client, near = self.client()
        client.dataReceived(GREETING + NAME + b"one ")
        client.dataReceived(b"two")
        self.assertEqual(near.producerState, "producing")
        client.dataReceived(bytes(MOST_EARLY))
        self.assertEqual(near.producerState, "paused")
        remote = self.endpoint.succeed()
        remote.dataReceived(b"\x05\x02")
        remote.dataReceived(b"\x01\x00")
        remote.transport.clear()
        remote.dataReceived(GRANTED + b"three")
        self.assertEqual(near.producerState, "producing")
        self.assertEqual(remote.transport.value(), b"one two" + bytes(MOST_EARLY))
        self.assertTrue(near.value().endswith(b"three"))
        record = self.end(client, remote)
        self.assertEqual((record.writebytes, record.readbytes), (7 + MOST_EARLY, 5))
        self.assert_order(record, "datarequest", "replied")

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_chunks(self, draw: st.DataObject) -> None:
        """However the bytes are cut on both sides, what arrives and what is recorded is the same."""
        self.records.clear()
        self.open()
        said, sent = GREETING + NAME + b"hello world", b""
        client, near = self.client()
        for piece in _cut(draw, said):
            client.dataReceived(piece)
        tor = FakeSOCKSFactory(SOCKSAnswers(payload=b"and back")).buildProtocol(HERE).server
        remote = self.endpoint.succeed()
        while len(sent) < len(LOGIN_METHODS + OPENING + b"hello world"):
            asked = remote.transport.value()
            remote.transport.clear()
            sent += asked
            for piece in _cut(draw, tor.receive(asked)):
                remote.dataReceived(piece)
        self.assertEqual(sent, LOGIN_METHODS + OPENING + b"hello world")
        self.assertEqual(near.value(), b"\x05\x00" + GRANTED + b"and back")
        record = self.end(client, remote)
        self.assertEqual((record.writebytes, record.readbytes, record.code, record.errorcode), (11, 8, 0, None))


def _cut(draw: st.DataObject, data: bytes) -> list[bytes]:
    """``data`` in pieces, none of them empty."""
    marks = sorted(draw.draw(st.sets(st.integers(1, max(1, len(data) - 1)))))
    edges = [0, *marks, len(data)]
    return [piece for a, b in pairwise(edges) if (piece := data[a:b])]


class Optimistic(InMemory):
    """Success is said at once, and tor gets all in one write."""

    def test_one_write(self) -> None:
        """The program is answered before there is a connection to tor; its first bytes go with the request."""
        self.open(optimistic=True)
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        self.assertEqual(near.value(), b"\x05\x00" + GRANTED)
        remote = self.endpoint.succeed()
        self.assertEqual(remote.transport.value(), LOGIN_METHODS)
        remote.transport.clear()
        remote.dataReceived(b"\x05\x02")
        self.assertEqual(remote.transport.value(), b"")
        client.dataReceived(b"hello")
        self.assertEqual(remote.transport.value(), OPENING + b"hello")
        client.dataReceived(b" again")
        remote.dataReceived(b"\x01")
        remote.dataReceived(b"\x00" + GRANTED + b"answer")
        self.assertEqual(remote.transport.value(), OPENING + b"hello again")
        self.assertEqual(near.value(), b"\x05\x00" + GRANTED + b"answer")
        record = self.end(client, remote)
        self.assertTrue(record.optimistic)
        self.assert_order(record, "replied", "connect", "request", "response")
        self.assertEqual((record.code, record.writebytes, record.readbytes), (0, 11, 6))

    def test_bytes_came_before(self) -> None:
        """Bytes that came before tor was connected to are in the one write."""
        self.open(optimistic=True)
        client, _ = self.client()
        client.dataReceived(GREETING + NAME + b"hello")
        remote = self.endpoint.succeed()
        remote.dataReceived(b"\x05\x02")
        self.assertEqual(remote.transport.value(), LOGIN_METHODS + OPENING + b"hello")

    def test_no_login(self) -> None:
        """The same without a login."""
        self.open(optimistic=True, login=None)
        client, near = self.client()
        client.dataReceived(GREETING + NAME + b"hello")
        remote = self.endpoint.succeed()
        remote.dataReceived(b"\x05")
        remote.dataReceived(b"\x00")
        self.assertEqual(remote.transport.value(), GREETING + NAME + b"hello")
        remote.dataReceived(GRANTED + b"answer")
        self.assertTrue(near.value().endswith(b"answer"))
        self.assert_order(self.end(client, remote), "negotiate", "request", "response")

    def test_silent_client(self) -> None:
        """The request does not wait long for a program that says nothing."""
        self.open(optimistic=True)
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        remote = self.endpoint.succeed()
        remote.dataReceived(b"\x05\x02")
        self.reactor.advance(FIRST_BYTES_WAIT)
        self.assertEqual(remote.transport.value(), LOGIN_METHODS + OPENING)
        remote.dataReceived(b"\x01\x00" + GRANTED + b"220 hello")
        self.assertTrue(near.value().endswith(b"220 hello"))

    def test_failures(self) -> None:
        """What fails after success was said is a reset for the program, and its reason is in the record."""
        refused = b"\x01\x00\x05\x05\x00\x01" + bytes(6)
        for fail, errorcode, code in (
            (lambda remote: remote.dataReceived(refused), "TOR/CONNECTION_REFUSED", 5),
            (lambda remote: remote.connectionLost(connectionDone), "PERFD/CLOSED", None),
            (lambda remote: remote.dataReceived(b"\x00"), "PERFD/SOCKS", None),
        ):
            self.records.clear()
            client, near, remote, _ = self.connected(optimistic=True)
            client.dataReceived(b"hello")
            remote.dataReceived(b"\x05\x02")
            fail(remote)
            if not remote.lost:
                self.assertTrue(remote.transport.aborted)
                remote.connectionLost(ABORTED)
            self.assertEqual(near.value(), b"\x05\x00" + GRANTED)
            self.assertTrue(near.aborted)
            record = self.end(remote, client)
            self.assertEqual((record.errorcode, record.code), (errorcode, code))
        self.records.clear()
        self.open(optimistic=True)
        client, near = self.client()
        client.dataReceived(GREETING + NAME)
        self.endpoint.fail(error.ConnectionRefusedError())
        self.assertTrue(near.aborted)
        self.assertEqual(self.end(client).errorcode, "PERFD/CONNECT")

    def test_closed_while_waiting(self) -> None:
        """A tor that goes while the program's first bytes are waited for."""
        client, near, remote, _ = self.connected(optimistic=True)
        remote.dataReceived(b"\x05\x02")
        remote.readConnectionLost()
        self.assertTrue(near.aborted)
        self.assertEqual(self.end(remote, client).errorcode, "PERFD/CLOSED")

    def test_half_closed_at_once(self) -> None:
        """A program that says all and closes its side: tor gets that, then the end."""
        self.open(optimistic=True)
        client, _ = self.client()
        client.dataReceived(GREETING + NAME + b"all")
        client.readConnectionLost()
        remote = self.endpoint.succeed()
        remote.dataReceived(b"\x05\x02")
        self.assertEqual(remote.transport.value(), LOGIN_METHODS + OPENING + b"all")
        self.assertTrue(remote.transport.half_closed)
        remote.dataReceived(b"\x01\x00" + GRANTED)
        self.reactor.advance(LINGER_TIMEOUT)
        self.assertTrue(remote.transport.aborted)
        self.assertEqual(self.end(remote, client).code, 0)


class Flow(InMemory):
    """Back-pressure, and how connections end."""

    def test_back_pressure(self) -> None:
        """Each side is not read from while the other side cannot be written to."""
        _, near, _, far = self.connected()
        self.assertTrue(near.streaming and far.streaming)
        near.producer.pauseProducing()  # as a transport does whose buffer is full
        self.assertEqual((near.producerState, far.producerState), ("producing", "paused"))
        far.producer.pauseProducing()
        self.assertEqual((near.producerState, far.producerState), ("paused", "paused"))
        near.producer.resumeProducing()
        far.producer.resumeProducing()
        self.assertEqual((near.producerState, far.producerState), ("producing", "producing"))

    def test_half_close(self) -> None:
        """A side that sends no more can still receive; when both are done, both are closed."""
        client, near, remote, far = self.connected()
        client.readConnectionLost()
        self.assertTrue(far.half_closed)
        self.assertFalse(near.ending or far.ending)
        self.assertIsNone(far.producer)
        remote.dataReceived(b"late answer")
        self.assertEqual(near.value(), b"late answer")
        remote.readConnectionLost()
        self.assertTrue(near.disconnecting and far.disconnecting)
        record = self.end(client, remote)
        self.assertEqual((record.closedby, record.how, record.readbytes), ("client", "closed", 11))

    def test_remote_closes(self) -> None:
        """The end from the other side reaches the program after all bytes."""
        client, near, remote, far = self.connected()
        remote.dataReceived(b"all")
        remote.readConnectionLost()
        self.assertTrue(near.half_closed)
        client.readConnectionLost()
        self.assertTrue(near.disconnecting and far.disconnecting)
        record = self.end(client, remote)
        self.assertEqual((record.closedby, record.how, record.errorcode), ("remote", "closed", None))

    def test_resets(self) -> None:
        """A reset on one side is a reset on the other."""
        client, near, remote, _ = self.connected()
        remote.connectionLost(RESET)
        self.assertTrue(near.aborted)
        record = self.end(client)
        self.assertEqual((record.closedby, record.how, record.errorcode), ("remote", "reset", "PERFD/RESET"))
        self.records.clear()
        client, _, remote, far = self.connected()
        client.connectionLost(RESET)
        self.assertTrue(far.aborted)
        record = self.end(remote)
        self.assertEqual((record.closedby, record.how, record.errorcode), ("client", "reset", None))

    def test_half_closed_for_ever(self) -> None:
        """A connection that one side has closed lives on while bytes move, and is broken off when none do."""
        client, near, remote, far = self.connected()
        client.readConnectionLost()
        self.reactor.advance(LINGER_TIMEOUT - 1)
        remote.dataReceived(b"still")
        self.reactor.advance(1)
        self.assertFalse(near.aborted or far.aborted)
        self.reactor.advance(LINGER_TIMEOUT)
        self.assertTrue(near.aborted and far.aborted)
        self.assertEqual(self.end(client, remote).closedby, "client")

    def test_direct(self) -> None:
        """Without a tor the proxy connects itself, and says in its own reply why it could not."""
        memory = self.open_direct()
        client, near = self.client()
        client.dataReceived(GREETING + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90")
        host, port, factory, *_ = memory[0]
        self.assertEqual((host, port), ("127.0.0.1", 8080))
        near.clear()
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        self.assertEqual(near.value(), b"\x05\x05\x00\x01" + bytes(6))
        record = self.end(client)
        self.assertEqual((record.code, record.request, record.username), (None, None, None))
        self.assertEqual(record.errorcode, "PERFD/CONNECT")

    def test_who_may_connect(self) -> None:
        """Programs on this machine, and only so many."""
        for host in ("10.0.0.1", "192.0.2.1"):
            self.assertIsNone(self.port.buildProtocol(IPv4Address("TCP", host, 40001)))
        self.assertIsNone(self.port.buildProtocol(IPv6Address("TCP", "2001:db8::1", 40001)))
        self.assertIsNotNone(self.port.buildProtocol(IPv6Address("TCP", "::1", 40001)))
        clients = [self.client() for _ in range(MOST_CONNECTIONS - 1)]
        self.assertIsNone(self.port.buildProtocol(HERE))
        self.assertEqual(self.port.turned_away, 4)
        clients[0][0].connectionLost(connectionDone)
        self.assertIsNotNone(self.port.buildProtocol(HERE))

    def test_where_to_listen(self) -> None:
        """Only where nobody else can reach it."""
        proxy = MeasuringProxy(self.reactor, Clock(), None)
        self.assertRaises(ValueError, proxy.open, host="0.0.0.0")

    def test_close(self) -> None:
        """Closing the port breaks off what is connected, and waits for that."""
        client, near, remote, far = self.connected()
        asking, third = self.client()
        closing = Deferred.fromCoroutine(self.port.close())
        self.assertTrue(near.aborted and far.aborted and third.aborted)
        self.assertNoResult(closing)
        self.assertIsNone(self.port.buildProtocol(HERE))
        for end in (client, remote, asking):
            end.connectionLost(RESET)
        self.assertEqual(self.successResultOf(closing), ())  # they went to the test's own list
        self.assertEqual([(r.closedby, r.how, r.errorcode) for r in self.records], [("proxy", "aborted", None)] * 2)


class Events:
    """Control events as the proxy uses them; what they tell comes when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.told: Deferred[None] = Deferred()
        self.joins: list[Join] = []
        self.failure: str | None = "DESTROY"
        self.joined: Joined | None = None

    def join(self, local: tuple[str, int], since: float, measurement: str | None = None) -> Join:
        self.calls.append(("join", local, measurement))
        self.joins.append(Join(local, since, measurement))
        return self.joins[-1]

    async def finish(self, join: Join, anchor: Anchor, wait: float = LAST_EVENTS_WAIT) -> Joined:
        self.calls.append(("finish", join.local, wait))
        if wait > 0:
            await self.told
        stream = Stream(
            id="s", source="here", tor="default", stream_id=7, status="CLOSED", end=2.0, failure_local=self.failure
        )
        return self.joined or Joined(stream=stream)


class Joining(InMemory):
    """What tor tells about a connection."""

    def test_joined(self) -> None:
        """The stream is claimed before a byte is written; the record waits for its end."""
        events = Events()
        self.open(events=events, measurement="m", anchor=Anchor(500.0, 0.0))
        client, _ = self.client()
        client.dataReceived(GREETING + NAME)
        self.assertEqual(events.calls, [])
        remote = self.endpoint.succeed()
        self.assertEqual(events.calls, [("join", ("127.0.0.1", 50001), "m")])
        remote.connectionLost(connectionDone)
        client.connectionLost(connectionDone)
        self.assertEqual((self.records, events.calls[1][2]), ([], LAST_EVENTS_WAIT))
        closing = Deferred.fromCoroutine(self.port.close())
        self.assertNoResult(closing)
        events.told.callback(None)
        self.successResultOf(closing)
        (record,) = self.records
        self.assertEqual((record.errorcode, record.start), ("TOR/DESTROY", 501.0))
        self.assertEqual(record.as_dict()["used_by"], 7)

    def test_unannounced(self) -> None:
        """What tor announced no stream of did not go through it."""
        events = Events()
        client, _, remote, _ = self.connected(events=events)
        events.joined = Joined(is_unannounced=True)
        events.told.callback(None)
        record = self.end(client, remote)
        self.assertEqual((record.errorcode, record.code), ("PERFD/NOSTREAM", 0))

    def test_no_time(self) -> None:
        """Who closes the port in a hurry gets what tor told until then; who closed is not blamed on tor."""
        events = Events()
        client, _, remote, _ = self.connected(events=events)
        client.connectionLost(RESET)
        remote.connectionLost(RESET)
        self.assertEqual(self.records, [])
        self.successResultOf(Deferred.fromCoroutine(self.port.close(wait=0)))
        (record,) = self.records
        self.assertEqual((record.errorcode, record.as_dict()["stream"]), (None, "s"))

    def test_direct(self) -> None:
        """A connection without a tor has no stream."""
        events = Events()
        made = self.open_direct(events=events)
        client, _ = self.client()
        client.dataReceived(GREETING + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90")
        made[0][2].clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        client.connectionLost(connectionDone)
        self.assertEqual((events.calls, len(self.records)), ([], 1))


class Ending(InMemory):
    """An end that tor passes on is one for the program only if tor tells that it is one."""

    def closed(
        self, *, told_before: bool = False, failure: str | None = None
    ) -> tuple[Any, Transport, Any, LiveStream]:
        """A connection over which something came before tor closed it."""
        self.records.clear()
        events = Events()
        client, near, remote, _ = self.connected(events=events)
        stream = LiveStream(id="s", stream_id=7, anchor=Anchor(1000.0, 0.0))
        events.joins[0].bind(stream)
        events.failure = failure
        events.told.callback(None)
        remote.dataReceived(b"all")
        if told_before:
            self.tell(stream, failure)
        remote.readConnectionLost()
        self.assertEqual(near.value(), b"all")
        return client, near, remote, stream

    def tell(self, stream: LiveStream, failure: str | None = None) -> None:
        stream.end, stream.failure_local = self.tick(), failure
        stream.finished()

    def test_clean(self) -> None:
        """The far end was done: an orderly end, as soon as tor has told."""
        for told_before in (True, False):
            client, near, remote, stream = self.closed(told_before=told_before)
            self.assertEqual(near.half_closed, told_before)
            if not told_before:
                self.tell(stream)
            self.assertTrue(near.half_closed)
            self.assertFalse(near.ending)
            client.readConnectionLost()
            self.assertTrue(near.disconnecting)
            record = self.end(client, remote)
            self.assertEqual((record.closedby, record.how, record.errorcode), ("remote", "closed", None))

    def test_broken(self) -> None:
        """The stream broke, tor is gone, or tells nothing: a reset, and why."""
        for failure, happen, errorcode in (
            ("DESTROY", lambda stream: self.tell(stream, "DESTROY"), "TOR/DESTROY"),
            (None, lambda stream: stream.finished(), "PERFD/CLOSED"),
            (None, lambda stream: self.reactor.advance(END_WAIT), "PERFD/CLOSED"),
        ):
            client, near, remote, stream = self.closed(failure=failure)
            self.assertFalse(near.ending or near.half_closed)
            happen(stream)
            self.assertTrue(near.aborted)
            self.assertFalse(near.half_closed)
            record = self.end(client, remote, reason=RESET)
            self.assertEqual((record.closedby, record.how, record.errorcode), ("remote", "closed", errorcode))
        _, near, _, _ = self.closed(told_before=True, failure="DESTROY")
        self.assertTrue(near.aborted)

    def test_nothing_can_be_known(self) -> None:
        """Tor's events were not heard when the stream began: its end is taken as it comes."""
        events = Events()
        client, near, remote, _ = self.connected(events=events)
        events.failure = None
        events.told.callback(None)
        events.joins[0].give_up()
        remote.readConnectionLost()
        self.assertTrue(near.half_closed)
        self.assertIsNone(self.end(client, remote).errorcode)

    def test_client_closes_meanwhile(self) -> None:
        """Who does not wait for the end is not told of it."""
        client, near, remote, stream = self.closed()
        client.readConnectionLost()
        self.assertTrue(near.disconnecting)
        self.tell(stream, "DESTROY")
        self.assertFalse(near.aborted or near.half_closed)
        self.end(client, remote)
        client, near, remote, stream = self.closed()
        client.connectionLost(RESET)
        self.end(client, remote)
