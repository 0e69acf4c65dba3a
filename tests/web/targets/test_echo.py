"""``/echo`` over a socket in memory: who gets it, what it sends back, and its limits."""

from __future__ import annotations

from twisted.web.resource import IResource

from perfd.client.echo import EchoClient, TwoWayEchoClient, echo_request, probes_header
from perfd.clock import Clock, Timeline
from perfd.experiments.rtt import one_way
from perfd.record import Outcome
from perfd.web.targets.echo import MOST_BYTES, MOST_UNSENT, Echo
from perfd.wire.probes import PROBE, SERVERS, probe
from tests.support.scripted import Connection
from tests.support.web_client import SiteTestCase, Socket, get

MEASUREMENT = "X-Perfd-Measurement: m1"
UPGRADE = ("Connection: Upgrade", "Upgrade: perfd-echo")


class EchoTests(SiteTestCase):
    """A site with an echo."""

    def children(self) -> dict[str, IResource]:
        return {**super().children(), "echo": Echo()}

    def upgraded(self) -> Socket:
        """A measurement's connection that is an echo now."""
        self.stamps.expect("m1")
        socket = self.open()
        socket.receive(get("/echo", MEASUREMENT, *UPGRADE))
        socket.flush()
        self.assertEqual(self.read(socket)[0], 101)
        socket.received.clear()
        return socket

    def test_upgrade(self) -> None:
        """The server switches protocols, and sends back what it gets."""
        self.stamps.expect("m1")
        socket = self.open()
        socket.receive(get("/echo", MEASUREMENT, *UPGRADE))
        socket.flush()
        status, headers, body = self.read(socket)
        self.assertEqual(
            (status, headers["Upgrade"], headers["Connection"], body), (101, "perfd-echo", "Upgrade", b"")
        )
        socket.received.clear()
        for data in (b"a", b"bc", b"\r\n\r\n", bytes(range(256))):
            socket.receive(data)
            socket.flush()
            self.assertEqual(bytes(socket.received), data)
            socket.received.clear()
        self.assertIsNotNone(self.stamps.take("m1").request)

    def test_only_an_upgrade(self) -> None:
        """Without it the answer says what can be had."""
        for headers in ((), ("Upgrade: websocket", "Connection: Upgrade")):
            self.stamps.expect("m1")
            status, answered, _ = self.ask(get("/echo", MEASUREMENT, *headers))
            self.assertEqual((status, answered["Upgrade"], answered["Connection"]), (426, "perfd-echo", "Upgrade"))
        self.assertIn("perfd-echo", self.fails(get("/echo"), 426))

    def test_strangers(self) -> None:
        """Only measurements of this instance get an echo, each of them one."""
        self.assertIn("only for measurements", self.fails(get("/echo", *UPGRADE), 403))
        self.fails(get("/echo", MEASUREMENT, *UPGRADE), 403)
        self.upgraded()
        self.fails(get("/echo", "X-Perfd-Measurement: m2", *UPGRADE), 403)

    def test_most_bytes(self) -> None:
        """A connection may send so much and no more."""
        socket = self.upgraded()
        for _ in range(MOST_BYTES // 2**16):
            socket.receive(bytes(2**16))
            socket.flush()
        self.assertEqual((len(socket.received), socket.aborted), (MOST_BYTES, False))
        socket.receive(b"x")
        self.assertTrue(socket.aborted)

    def test_client_that_does_not_read(self) -> None:
        """Little waits for it in memory; then the connection is closed."""
        socket = self.upgraded()
        socket.room = 0
        sent = 0
        while not socket.aborted and sent < MOST_BYTES:
            socket.receive(bytes(4096))
            sent += 4096
        self.assertTrue(socket.aborted)
        self.assertLessEqual(sent, MOST_UNSENT + 2 * 4096)

    def test_idle(self) -> None:
        """An echo that nobody uses is closed in the end."""
        socket = self.upgraded()
        self.reactor.pump([1.0] * int(self.site.idle_timeout + 30))
        self.assertFalse(socket.connected)

    def test_client(self) -> None:
        """Our client and our server understand each other."""
        self.stamps.expect("m1")
        timeline = Timeline(Clock(monotonic=self.reactor.seconds))
        client = EchoClient(self.reactor, echo_request("example.com", {"X-Perfd-Measurement": "m1"}), timeline)
        endpoint = Connection(0, "u", timeline, lambda _: None, optimistic=False)
        client.connect(endpoint)
        endpoint.open()
        socket = self.open()

        def carry() -> None:
            socket.receive(endpoint.transport.value())
            endpoint.transport.clear()
            socket.flush()
            endpoint.receive(bytes(socket.received))
            socket.received.clear()

        carry()
        self.successResultOf(client.ready)
        client.probe(1.0)
        for _ in range(3):
            self.reactor.advance(0.5)
            carry()
            self.reactor.advance(0.5)
        client.finish()
        exchange = self.successResultOf(client.ended)
        self.assertEqual((exchange.outcome, exchange.payloadbytes), (Outcome.OK, 3 * PROBE))
        self.assertEqual([rtt for _, rtt in client.samples], [0.5] * 3)

    def test_both_ways(self) -> None:
        """Each end has its own probes back, and nothing is under way when they are settled."""
        self.stamps.expect("m1")
        timeline = Timeline(Clock(monotonic=self.reactor.seconds))
        request = echo_request("example.com", {"X-Perfd-Measurement": "m1", **probes_header(2)})
        client = TwoWayEchoClient(self.reactor, request, timeline)
        endpoint = Connection(0, "u", timeline, lambda _: None, optimistic=False)
        client.connect(endpoint)
        endpoint.open()
        socket = self.open()

        def there() -> None:
            socket.receive(endpoint.transport.value())
            endpoint.transport.clear()

        def back() -> None:
            socket.flush()
            endpoint.receive(bytes(socket.received))
            socket.received.clear()

        there()
        back()
        self.successResultOf(client.ready)
        client.probe(0.5)
        for _ in range(4):  # 0.1 s to the server, 0.4 s back
            self.reactor.advance(0.1)
            there()
            self.reactor.advance(0.4)
            back()
        self.assertFalse(client.is_settled)
        client.pause()
        for _ in range(3):
            there()
            back()
        self.assertTrue(client.is_settled)
        client.finish()
        self.assertEqual(self.successResultOf(client.ended).outcome, Outcome.OK)
        echoed = self.stamps.take("m1").echoed
        assert echoed is not None
        self.assertEqual((echoed.returns.lost, client.lost), (0, 0))
        self.assertEqual(len(echoed.returns.samples), echoed.returns.sent)
        self.assertGreaterEqual(echoed.returns.sent, 4)
        ways = one_way(client.samples, echoed.arrivals)
        for _, up, down in ways[:4]:
            self.assertAlmostEqual(up, 0.1)
            self.assertAlmostEqual(down, 0.4)
        self.assertEqual(len(ways), client.sent)
        self.reactor.advance(5.0)
        self.assertEqual(echoed.returns.sent, len(echoed.returns.samples))  # it has stopped

    def test_rate_of_the_server(self) -> None:
        """It must be a number that there can be."""
        for rate in ("fast", "0", "-1", "101", "nan"):
            self.stamps.expect("m1")
            self.fails(get("/echo", MEASUREMENT, *UPGRADE, f"X-Perfd-Probes: {rate}"), 400)
            self.stamps.take("m1")

    def test_probes_that_nobody_sent(self) -> None:
        """Who sends back what was not sent is not measured."""
        self.stamps.expect("m1")
        socket = self.open()
        socket.receive(get("/echo", MEASUREMENT, *UPGRADE, "X-Perfd-Probes: 1"))
        for _ in range(2):  # one was sent at once
            socket.receive(probe(SERVERS, 0))
        self.assertTrue(socket.aborted)
