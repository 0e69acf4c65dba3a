"""Which versions of SOCKS a proxy speaks, found out when it does not answer as expected."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from perfd.socks.errors import ProxyVersionError

SILENCE = 3.0
"""Seconds without an answer after which a proxy is asked which versions it speaks."""

PROBE_TIMEOUT = 3.0
"""Seconds in which it must answer that. Every proxy answers these at once."""

# SOCKS 4 has no greeting. The port of the proxy's own machine where nobody listens is refused at once, and if it is
# not, nothing was sent there.
_PROBES = {4: (b"\x04\x01\x00\x01\x7f\x00\x00\x01\x00", 0x00), 5: (b"\x05\x02\x00\x02", 0x05)}
"""For each version, what is sent and the first byte of its answer."""


@attrs.frozen
class Diagnosis:
    """Finds out why the proxy at ``endpoint`` does not answer in ``version`` 4 or 5; messages call it ``name``."""

    reactor: IReactorTime
    endpoint: IStreamClientEndpoint
    name: str
    version: int

    async def trouble(self) -> ProxyVersionError | None:
        """What is wrong, with the remedy; None if the proxy speaks this version after all."""
        answers = await gatherResults([self._speaks(version) for version in _PROBES])
        spoken = [version for version, answer in zip(_PROBES, answers, strict=True) if answer]
        if self.version in spoken:
            return None
        if spoken:
            return ProxyVersionError(
                f"the proxy at {self.name} speaks SOCKS {spoken[0]}, not {self.version}: "
                f"write socks{spoken[0]}://{self.name}"
            )
        return ProxyVersionError(f"{self.name} does not answer as a SOCKS proxy: is it the right port?")

    async def answers(self) -> bool:
        """Whether it speaks this version, which goes nowhere beyond the proxy's own machine."""
        return await self._speaks(self.version)

    def _speaks(self, version: int) -> Deferred[bool]:
        """Whether a probe is answered in its version; False also if it cannot be connected to."""
        to_send, first_byte = _PROBES[version]
        probe = _Probe(to_send)
        factory = Factory.forProtocol(lambda: probe)
        factory.noisy = False
        answered = Deferred.fromCoroutine(probe.answer(self.endpoint.connect(factory)))
        answered.addTimeout(PROBE_TIMEOUT, self.reactor)
        return answered.addCallbacks(lambda answer: answer[:1] == bytes((first_byte,)), lambda _: False)


class _Probe(Protocol):
    """Sends something, and takes the first bytes that come back; none if the connection is closed before."""

    transport: ITransport

    def __init__(self, to_send: bytes) -> None:
        self._to_send = to_send
        self._answered: Deferred[bytes] = Deferred()

    async def answer(self, connecting: Deferred[Any]) -> bytes:
        """What comes once it is connected."""
        await connecting
        try:
            return await self._answered
        finally:
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def connectionMade(self) -> None:
        self.transport.write(self._to_send)

    def dataReceived(self, data: bytes) -> None:
        if not self._answered.called:
            self._answered.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._answered.called:
            self._answered.callback(b"")
