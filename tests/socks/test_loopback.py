"""The SOCKS client over real sockets on loopback, and programs written for txsocksx."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    ISSLTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client
from twisted.protocols.socks import SOCKSv4
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.server import Site

from perfd.clock import Clock, Timeline
from perfd.socks import (
    Reply,
    RequestRejectedOrFailed,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
)
from perfd.socks.testing import FakeSOCKSFactory, SOCKSAnswers
from tests.support.certificates import CERTIFICATE, TrustOne
from tests.support.loopback import Collector, Echo, HalfCloser, LoopbackCase, Page

reactor: Any = global_reactor


class RealSocketTests(LoopbackCase):
    """What only a socket can show."""

    async def test_transport_is_the_socket(self) -> None:
        """The application's transport is the TCP client, which delivers to the application itself."""
        proxy = FakeSOCKSFactory(SOCKSAnswers(payload=b"hello", bound=("127.0.0.1", 80)), Factory.forProtocol(Echo))
        _, endpoint = await self.listen(proxy)
        addresses: list[Any] = []
        replies: list[Reply] = []
        timeline = Timeline(Clock())
        application: Any = await SOCKS5ClientEndpoint(
            "example.com",
            80,
            endpoint,
            {"login": ("spam", "eggs")},
            timeline=timeline,
            connected=addresses.append,
            replied=replies.append,
        ).connect(Factory.forProtocol(Collector))
        self.assertIsInstance(application.transport, Client)
        self.assertIs(application.transport.protocol, application)
        application.transport.write(b", world")
        await application.when_received(12)
        self.assertEqual(application.data, b"hello, world")
        self.assertEqual(addresses, [application.transport.getHost()])
        self.assertEqual(addresses[0].port, proxy.peers[0].transport.getPeer().port)
        self.assertEqual(replies, [Reply(0, "127.0.0.1", 80)])
        self.assertEqual(
            [phase.value for phase in timeline.stamps],
            ["START", "SOCKET", "CONNECT", "NEGOTIATE", "REQUEST", "RESPONSE"],
        )
        self.assertEqual(list(timeline.stamps.values()), sorted(timeline.stamps.values()))
        await self.close(application)
        await proxy.peers[0].closed

    async def test_pieces_and_much_data(self) -> None:
        """A proxy that sends byte by byte, then megabytes both ways with pauses: every byte arrives, in order."""
        answers = SOCKSAnswers(piece=1, payload=b"hello")
        _, endpoint = await self.listen(FakeSOCKSFactory(answers, Factory.forProtocol(Echo), reactor))
        application: Any = await SOCKS5ClientEndpoint("2001:db8::1", 80, endpoint).connect(
            Factory.forProtocol(Collector)
        )
        sent = os.urandom(3 * 2**20)
        application.transport.write(sent)
        await application.when_received(2**16)
        application.transport.pauseProducing()
        paused_at = len(application.data)
        await deferLater(reactor, 0.01)
        self.assertEqual(len(application.data), paused_at)
        application.transport.resumeProducing()
        await application.when_received(len(sent) + 5)
        self.assertTrue(application.data == b"hello" + sent)
        await self.close(application)

    async def test_half_close(self) -> None:
        """Each side can close its own direction and still get what the other sends."""
        server = HalfCloser()
        factory = Factory()
        factory.buildProtocol = lambda addr: server  # type: ignore[method-assign,assignment,return-value]
        proxy = FakeSOCKSFactory(application=factory)
        _, endpoint = await self.listen(proxy)
        application: Any = await SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(
            Factory.forProtocol(HalfCloser)
        )
        await self.wait_until(lambda: server.transport is not None)
        server.transport.write(b"last words")
        server.transport.loseWriteConnection()
        await application.read_lost
        self.assertEqual(application.data, b"last words")
        application.transport.write(b"still here")
        await server.when_received(10)
        await self.close(application)
        self.assertIsInstance(application.reason.value, ConnectionDone)

    async def test_abort(self) -> None:
        """abortConnection ends the connection at once, on both sides."""
        proxy = FakeSOCKSFactory()
        _, endpoint = await self.listen(proxy)
        application: Any = await SOCKS4ClientEndpoint("example.com", 80, endpoint).connect(
            Factory.forProtocol(Collector)
        )
        application.transport.abortConnection()
        await application.lost
        self.assertIsInstance(application.reason.value, ConnectionAborted)
        await proxy.peers[0].closed

    async def test_cancelled_in_each_phase(self) -> None:
        """Cancelling while the proxy owes any answer closes the socket, as the proxy sees."""
        for silent in ("method", "login", "reply"):
            proxy = FakeSOCKSFactory(SOCKSAnswers(raw={silent: b""}))
            _, endpoint = await self.listen(proxy)
            connecting = SOCKS5ClientEndpoint("a", 80, endpoint, {"login": ("spam", "eggs")}).connect(
                Factory.forProtocol(Collector)
            )
            await self.wait_until(lambda: proxy.peers and proxy.peers[0].server.asked == silent)  # noqa: B023
            connecting.cancel()
            await self.assertFailure(connecting, CancelledError)
            await proxy.peers[0].closed

    async def test_unix_socket(self) -> None:
        """A proxy on a UNIX socket, like tor's ``SocksPort unix:``."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socks")
            proxy = FakeSOCKSFactory(application=Factory.forProtocol(Echo))
            port: Any = await UNIXServerEndpoint(reactor, path).listen(proxy)
            application: Any = await SOCKS5ClientEndpoint(
                "example.com", 80, UNIXClientEndpoint(reactor, path)
            ).connect(Factory.forProtocol(Collector))
            self.assertIs(application.transport.protocol, application)
            application.transport.write(b"hello")
            await application.when_received(5)
            await self.close(application)
            await port.stopListening()

    async def test_start_tls_in_connection_made(self) -> None:
        """An application that starts TLS in its connectionMade gets TLS, not ciphertext."""

        class Starter(Collector):
            def connectionMade(self) -> None:
                self.transport.startTLS(TrustOne().creatorForNetloc(b"example.com", 443))
                self.transport.write(b"hello")

        server = TLSMemoryBIOFactory(CERTIFICATE.options(), False, Factory.forProtocol(Echo))
        _, endpoint = await self.listen(FakeSOCKSFactory(application=server))
        application: Any = await SOCKS5ClientEndpoint("example.com", 443, endpoint).connect(
            Factory.forProtocol(Starter)
        )
        await application.when_received(5)
        self.assertEqual(application.data, b"hello")
        self.assertTrue(ISSLTransport.providedBy(application.transport))
        await self.close(application)


class TwistedServerTests(LoopbackCase):
    """Against Twisted's own SOCKS 4 server."""

    async def connect(self, host: str, port: int) -> Any:
        factory = Factory()
        factory.buildProtocol = lambda addr: SOCKSv4(reactor=reactor)  # type: ignore[method-assign,assignment,return-value]
        _, endpoint = await self.listen(factory)
        return await SOCKS4ClientEndpoint(host, port, endpoint, "spam").connect(Factory.forProtocol(Collector))

    async def test_address_and_name(self) -> None:
        """SOCKS 4 with an address and SOCKS 4a with a name reach a server."""
        port, _ = await self.listen(Factory.forProtocol(Echo))
        for host in ("127.0.0.1", "localhost"):
            application = await self.connect(host, port)
            application.transport.write(b"hello")
            await application.when_received(5)
            await self.close(application)

    async def test_refusal(self) -> None:
        """A port on which nobody listens is refused with SOCKS 4's code."""
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo))
        number = port.getHost().port
        await port.stopListening()
        connecting = Deferred.fromCoroutine(self.connect("127.0.0.1", number))
        refusal: Any = await self.assertFailure(connecting, RequestRejectedOrFailed)
        self.assertEqual(refusal.code, 0x5B)


# Programs as they are written for txsocksx (on Python 3). Only the import is changed, and the port of the proxy.

AGENT_PROGRAM = """
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.web.client import readBody
from txsocksx.http import SOCKS4Agent, SOCKS5Agent

def main(reactor):
    proxy = TCP4ClientEndpoint(reactor, '127.0.0.1', 9050)
    agent = SOCKS5Agent(reactor, proxyEndpoint=proxy, endpointArgs=dict(methods={'login': ('spam', 'eggs')}))
    d = agent.request('GET', 'http://example.com/spam')
    d.addCallback(readBody)
    return d
"""

ENDPOINT_PROGRAM = """
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol
from txsocksx.client import SOCKS4ClientEndpoint, SOCKS5ClientEndpoint

class Client(Protocol):
    def connectionMade(self):
        self.transport.write(b'GET /eggs HTTP/1.0\\r\\nHost: example.com\\r\\n\\r\\n')
        self.received = []
        self.done = Deferred()

    def dataReceived(self, data):
        self.received.append(data)

    def connectionLost(self, reason):
        self.done.callback(b''.join(self.received))

class Factory(ClientFactory):
    protocol = Client

def main(reactor):
    proxy = TCP4ClientEndpoint(reactor, '127.0.0.1', 9050)
    endpoint = SOCKS4ClientEndpoint('example.com', 80, proxy, user='spam')
    d = endpoint.connect(Factory())
    canceler = reactor.callLater(10, d.cancel)
    def cancelCanceler(result):
        if canceler.active():
            canceler.cancel()
        return result
    d.addBoth(cancelCanceler)
    d.addCallback(lambda client: client.done)
    return d
"""

ERROR_PROGRAM = """
from twisted.internet import reactor
from twisted.internet.protocol import Protocol, ClientFactory
from txsocksx import errors
from txsocksx.client import SOCKS5ClientFactory
import txsocksx.errors as e

def main(reactor):
    proxied = ClientFactory.forProtocol(Protocol)
    factory = SOCKS5ClientFactory('example.com', 80, proxied, methods={'login': ('spam', 'eggs'), 'anonymous': ()})
    reactor.connectTCP('127.0.0.1', 9050, factory)
    def failed(failure):
        failure.trap(errors.HostUnreachable)
        assert failure.check(e.SOCKSError)
        assert e.socks5ErrorMap[4] is failure.type
        return 'host unreachable'
    return factory.deferred.addErrback(failed)
"""


class TxsocksxProgramTests(LoopbackCase):
    """Programs written for txsocksx work after changing only their import."""

    async def run_program(self, program: str, proxy: FakeSOCKSFactory) -> Any:
        port, _ = await self.listen(proxy)
        names: dict[str, Any] = {}
        exec(program.replace("txsocksx", "perfd.socks").replace("9050", str(port)), names)
        return await names["main"](reactor)

    def site(self, answers: SOCKSAnswers | None = None) -> FakeSOCKSFactory:
        return FakeSOCKSFactory(answers, application=Site(Page(), reactor=reactor))

    async def test_agent(self) -> None:
        """An agent with native strings and a login."""
        proxy = self.site()
        self.assertEqual(await self.run_program(AGENT_PROGRAM, proxy), b"/spam on example.com plain")
        request = proxy.peers[0].server.request
        assert request is not None
        self.assertEqual((request.user, request.password), (b"spam", b"eggs"))
        await proxy.peers[0].closed

    async def test_endpoint(self) -> None:
        """An endpoint, a protocol of one's own, and a timeout by cancelling."""
        response = await self.run_program(ENDPOINT_PROGRAM, self.site())
        self.assertTrue(response.endswith(b"\r\n\r\n/eggs on example.com plain"), response)

    async def test_factory_and_errors(self) -> None:
        """A factory with connectTCP, and the error classes with their map."""
        proxy = self.site(SOCKSAnswers(code=4))
        self.assertEqual(await self.run_program(ERROR_PROGRAM, proxy), "host unreachable")
        await proxy.peers[0].closed

    async def test_flat_import(self) -> None:
        """The names can also be imported from the package itself."""
        program = AGENT_PROGRAM.replace("txsocksx.http", "txsocksx")
        proxy = self.site()
        self.assertEqual(await self.run_program(program, proxy), b"/spam on example.com plain")
        await proxy.peers[0].closed
