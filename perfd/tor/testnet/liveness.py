"""Whether the relays of the private network answer: one that hangs keeps its ports and its process.

The kernel takes connections for a process that is stopped, so a relay is asked for the TLS handshake with which
every connection to it begins (tor-spec, "Channels").
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.processes.programs import recorded_process
from perfd.reactor import Reactor
from perfd.tor.endpoints import tcp_endpoint
from perfd.tor.testnet.relays import Relay, State

PATIENCE = 15.0
"""Seconds for a handshake, twice: the first time it may have been this process that was held up."""

GAP = 0.05
"""Seconds between the relays, since each handshake takes a millisecond of the reactor's."""


async def end_hung_relays(reactor: Reactor, directory: Path, patience: float = PATIENCE) -> Sequence[str]:
    """Kill those relays of the network in ``directory`` that do not answer; their nicknames.

    Raises ``TestnetError`` if there is no network that can be read.
    """
    state = State.load(directory)
    relays = () if state is None else state.relays
    asked = [
        Deferred.fromCoroutine(_hangs(reactor, relay, number * GAP, patience))
        for number, relay in enumerate(relays)
    ]
    answers = await DeferredList(asked, fireOnOneErrback=True, consumeErrors=True)
    hung = [relay for relay, (_, hangs) in zip(relays, answers, strict=True) if hangs]
    return [relay.nickname for relay in hung if _kill(relay)]


async def _hangs(reactor: Reactor, relay: Relay, delay: float, patience: float) -> bool:
    """Whether it takes connections and says nothing on them."""
    await deferLater(reactor, delay)
    for _ in range(2):
        if await _answers(reactor, relay, patience):
            return False
    return True


async def _answers(reactor: Reactor, relay: Relay, patience: float) -> bool:
    """Whether it does its part of a handshake, or there is none to do it."""
    handshake = _Handshake()
    options = CertificateOptions(verify=False)  # a relay's certificate is its own, and who it is is not asked
    factory = TLSMemoryBIOFactory(options, True, Factory.forProtocol(lambda: handshake))
    factory.noisy = False
    port = relay.or_port if relay.behind is None else relay.behind
    try:
        await tcp_endpoint(reactor, relay.address, port, patience).connect(factory)
        await handshake.ended.addTimeout(patience, reactor)
    except (DeferredTimeoutError, ConnectTimeoutError):
        return False
    except (ConnectError, OSError):
        return True  # it does not run, which others see to
    finally:
        handshake.abort()
    return True


def _kill(relay: Relay) -> bool:
    pid = recorded_process(relay.pid_file, relay.torrc)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """``ended`` fires when the handshake is done, or the connection is closed, for which a relay must run too."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:
        self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()

    def abort(self) -> None:
        """End the connection, if there is one."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.abortConnection()

    def _end(self) -> None:
        if not self.ended.called:
            self.ended.callback(None)
