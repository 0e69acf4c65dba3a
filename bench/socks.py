"""What a SOCKS 5 handshake costs: Perfd's client, txtorcon's, and a floor, in random order in one run.

The floor knows the proxy's answers by heart and parses nothing. In memory only the client works; over loopback
the same small proxy answers all three, and the time is that of connect, two round trips and close.
Run from the checkout: python -m bench.socks
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from txtorcon.socks import TorSocksEndpoint
from zope.interface import implementer

from bench.compare import Comparison
from perfd.socks import SOCKS5ClientEndpoint

HOST, PORT = "example.com", 80
METHOD, REPLY = b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
GREETING, REQUEST = b"\x05\x01\x00", b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
BLOCKS, EACH, IN_MEMORY, OVER_LOOPBACK = 3, 4, 300, 60


class Application(Protocol):
    """What wants to be connected."""

    made = 0

    def connectionMade(self) -> None:
        Application.made += 1


class Applications(Factory):
    """Makes applications."""

    noisy = False
    protocol = Application


class Floor(Protocol):
    """The least that a handshake can be."""

    transport: Any  # there is one before any of these is called

    def connectionMade(self) -> None:
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        if len(data) == len(METHOD):
            self.transport.write(REQUEST)
            return
        application = self.factory.proxied.buildProtocol(None)
        self.transport.protocol = application
        application.makeConnection(self.transport)
        self.factory.done.callback(application)


class FloorEndpoint:
    """Connects with `Floor`."""

    def __init__(self, proxy: IStreamClientEndpoint) -> None:
        self._proxy = proxy

    def connect(self, proxied: Any) -> Deferred[Any]:
        factory: Any = Factory.forProtocol(Floor)
        factory.noisy, factory.proxied, factory.done = False, proxied, Deferred()
        return self._proxy.connect(factory).addCallback(lambda _: factory.done)


CLIENTS: dict[str, Callable[[Any], Any]] = {
    "floor": FloorEndpoint,
    "perfd": lambda proxy: SOCKS5ClientEndpoint(HOST, PORT, proxy),
    "txtorcon": lambda proxy: TorSocksEndpoint(proxy, HOST, PORT),
}


class Wire:
    """A transport that keeps what is written."""

    address = IPv4Address("TCP", "127.0.0.1", 9050)

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def getHost(self) -> IPv4Address:
        return self.address

    getPeer = getHost


@implementer(IStreamClientEndpoint)
class WireEndpoint:
    """Connects to a `Wire`."""

    def __init__(self) -> None:
        self.wire = Wire()

    def connect(self, factory: Any) -> Deferred[Any]:
        self.wire.protocol = client = factory.buildProtocol(Wire.address)
        client.makeConnection(self.wire)
        return succeed(client)


def in_memory(client: Callable[[Any], Any]) -> None:
    """One handshake without a network."""
    proxy = WireEndpoint()
    connecting = client(proxy).connect(Applications())
    proxy.wire.protocol.dataReceived(METHOD)
    proxy.wire.protocol.dataReceived(REPLY)
    if not connecting.called or proxy.wire.written != GREETING + REQUEST:
        raise RuntimeError(f"no connection: {proxy.wire.written!r}")


class Proxy(Protocol):
    """Answers by the length of what it gets, and grants everything."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(METHOD if len(data) == len(GREETING) else REPLY)


async def over_loopback(client: Callable[[Any], Any], proxy: IStreamClientEndpoint) -> None:
    """One handshake with the proxy on loopback."""
    application = await client(proxy).connect(Applications())
    application.transport.abortConnection()


async def compare(once: Callable[[Callable[[Any], Any]], Awaitable[None]], count: int) -> Comparison:
    """Microseconds per handshake of each client, ``count`` of them at a time."""
    comparison = Comparison(*CLIENTS)
    for _ in range(BLOCKS):
        for name in comparison.block(EACH):
            start = time.perf_counter()
            for _ in range(count):
                await once(CLIENTS[name])
            comparison.add(name, time=(time.perf_counter() - start) / count * 1e6)
    return comparison


def show(where: str, comparison: Comparison) -> None:
    """Print the figures and the ratios."""
    each = "  ".join(f"{name} {comparison.median('time', name):.1f} us" for name in CLIENTS)
    print(f"SOCKS 5 handshake, {where}: {each}")
    print(f"  perfd / floor {comparison.ratio('time', 'perfd', 'floor')}")
    print(f"  perfd - floor in us {comparison.difference('time', 'perfd', 'floor')}")
    print(f"  perfd / txtorcon {comparison.ratio('time', 'perfd', 'txtorcon')}")


async def main(reactor: Any) -> None:
    """Measure and print."""

    async def memory(client: Callable[[Any], Any]) -> None:
        in_memory(client)

    show("in memory", await compare(memory, IN_MEMORY))
    listening: Any = reactor.listenTCP(0, Factory.forProtocol(Proxy), interface="127.0.0.1")
    proxy = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getHost().port)
    show("over loopback", await compare(lambda client: over_loopback(client, proxy), OVER_LOOPBACK))
    await listening.stopListening()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
