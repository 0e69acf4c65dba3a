"""The client of ``/echo``: small exchanges at a fixed rate on one connection, each with its round-trip time.

An exchange does not wait for the one before it: under load several are under way, and each counts from the moment
at which it was sent. TCP and Tor keep their order, so the n-th probe that comes back is the n-th that was sent.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from perfd.client.fetch import Ending, Exchange, classify, get_request
from perfd.client.tls import Session, under_tls
from perfd.clock import Phase, Timeline
from perfd.record import Error, Outcome
from perfd.wire.arrival import StampedSocket, arrival, is_exact, stamp_arrivals
from perfd.wire.delivery import deliver
from perfd.wire.probes import CLIENTS, PROBE, RATE_HEADER, SERVERS, STOP, Blocks, probe

HEAD_LIMIT = 4096

SWITCHED = b"HTTP/1.1 101 "


def echo_request(host: str, headers: dict[str, str]) -> bytes:
    """The bytes of the request for an echo at ``host``, as the Host header has it."""
    return get_request(host, "/echo", headers={"Connection": "Upgrade", "Upgrade": "perfd-echo", **headers})


class EchoClient(Protocol):
    """One connection to ``/echo``.

    ``samples`` are the exchanges that were completed: when each was sent (monotonic stamp), and its round-trip
    time in seconds. ``ready`` fires when the server has switched to the echo; ``ended`` with the exchange as a
    whole, however it ended. Cancelling ``ended`` gives the outcome ``cancelled``.
    """

    transport: Any  # None, then an ITCPTransport
    _session: Session | None = None  # of TLS

    def __init__(self, reactor: IReactorTime, request: bytes, timeline: Timeline) -> None:
        self.samples: list[tuple[float, float]] = []
        self.sent = 0
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[Exchange] = Deferred(
            lambda _: self._end(Ending(Outcome.CANCELLED, Error.STOPPED, "stopped"))
        )
        self._reactor = reactor
        self._request = request
        self._timeline = timeline
        self._connecting: Deferred[IProtocol] | None = None
        self._addresses: tuple[IAddress, IAddress] | None = None
        self._head: bytearray | None = bytearray()
        self._status: int | None = None
        self._under_way: list[float] = []  # when each was sent
        self._read = 0
        self._written = 0
        self._echoed = 0  # bytes
        self._last_read = 0.0
        self._socket: StampedSocket | None = None
        self._probing: LoopingCall | None = None

    @property
    def lost(self) -> int:
        """Exchanges that were sent and have not come back."""
        return self.sent - len(self.samples)

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._connecting = maybeDeferred(endpoint.connect, factory)
        self._connecting.addErrback(self._failed)

    def probe(self, interval: float) -> None:
        """Begin to send a probe each ``interval`` seconds."""
        self._probing = LoopingCall(self._send)
        self._probing.clock = self._reactor
        self._probing.start(interval)

    def pause(self) -> None:
        """Send no more probes."""
        if self._probing is not None and self._probing.running:
            self._probing.stop()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way any more."""
        return not self.lost

    def finish(self) -> None:
        """Close the connection: all that was wanted is there, unless nothing ever came back."""
        if self.sent and not self.samples:
            self._end(Ending(Outcome.FAILED, Error.STALL, f"none of {self.sent} exchanges came back"))
            return
        self._timeline.mark(Phase.DATACOMPLETE, self._last_read)
        self._end(Ending(Outcome.OK))

    def expire(self) -> None:
        """The deadline has passed."""
        if self._status is None:
            self._end(Ending(Outcome.TIMEOUT, Error.TIMEOUT, "no answer before the deadline"))
        else:
            self._end(
                Ending(Outcome.TIMEOUT, Error.TIMEOUT, f"{self.lost} of {self.sent} exchanges before the deadline")
            )

    def connectionMade(self) -> None:
        if self.ended.called:
            self.transport.abortConnection()
            return
        self._addresses = self.transport.getHost(), self.transport.getPeer()
        self._socket = stamp_arrivals(self.transport, self._timeline.now)
        self.transport.setTcpNoDelay(True)
        self._timeline.mark(Phase.DATAREQUEST)
        self._write(self._request)

    def dataReceived(self, data: bytes) -> None:
        stamp = arrival(self._socket, self._timeline.now(), max([self._last_read, *self._under_way[:1]]))
        if self.ended.called:
            return
        self._timeline.mark(Phase.DATARESPONSE, stamp)
        self._last_read = stamp
        self._read += len(data)
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            # What cannot become the right answer any more is refused at once, not at the deadline.
            if not self._head.startswith(SWITCHED[: len(self._head)]) or (end < 0 and len(self._head) > HEAD_LIMIT):
                self._refused(bytes(self._head))
                return
            if end < 0:
                return
            data, self._head = bytes(self._head[end + 4 :]), None
            self._status = 101
            self.ready.callback(None)
        self._came(data, stamp)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(classify(reason))

    def _came(self, data: bytes, stamp: float) -> None:
        """Bytes of the echo came."""
        self._echoed += len(data)
        while self._under_way and self._echoed >= (len(self.samples) + 1) * PROBE:
            self._came_back(stamp)
        if self._echoed > self.sent * PROBE:
            self._end_long()

    def _came_back(self, stamp: float) -> None:
        sent = self._under_way.pop(0)
        self.samples.append((sent, stamp - sent))

    def _end_long(self) -> None:
        self._end(Ending(Outcome.FAILED, Error.LONG, "more came back than was sent"))

    def _send(self) -> None:
        self._under_way.append(self._timeline.now())
        self._write(probe(CLIENTS, self.sent))
        self.sent += 1

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        deliver(self.transport, data)

    def _refused(self, head: bytes) -> None:
        words = head.partition(b"\r\n")[0].split()
        if words and words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit():
            self._status = int(words[1])
            self._end(Ending(Outcome.FAILED, Error.STATUS, f"HTTP status {self._status}"))
        else:
            self._end(
                Ending(Outcome.FAILED, Error.HTTP, f"the response starts with {head[:16]!r}, not with HTTP/1.1")
            )

    def _failed(self, failure: Failure) -> None:
        self._end(classify(failure))

    def _end(self, ending: Ending) -> None:
        """Report how it ended, once, and close the connection."""
        self.pause()
        if self.ended.called:
            return
        connected = self._addresses is not None
        local, remote = self._addresses or (None, None)
        self.ended.callback(
            Exchange(
                outcome=ending.outcome,
                errorcode=ending.errorcode,
                reason=ending.reason,
                status=self._status,
                writebytes=self._written if connected else None,
                readbytes=self._read if connected else None,
                payloadbytes=self._echoed if connected else None,
                session=self._session,
                exact=is_exact(self._socket) if self._read else None,
                local=local,
                remote=remote,
            )
        )
        if not self.ready.called:
            self.ready.callback(None)
        if self.transport is not None:
            if ending.outcome is Outcome.OK:
                self.transport.loseConnection()
                under_tls(self.transport).loseConnection()  # TLS would wait for the server
            else:
                self.transport.abortConnection()
        elif self._connecting is not None:
            self._connecting.cancel()


class TwoWayEchoClient(EchoClient):
    """One whose server sends probes of its own too, which it sends back: what comes of these the server knows."""

    def __init__(self, reactor: IReactorTime, request: bytes, timeline: Timeline) -> None:
        super().__init__(reactor, request, timeline)
        self._blocks = Blocks()
        self._stops: int | None = None  # that came back; None: the server is not to stop yet

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way any more, in either direction."""
        return not self.lost and self._stops == 2

    def pause(self) -> None:
        """Neither end is to send more probes."""
        super().pause()
        if self._stops is None and self._status is not None and not self.ended.called:
            self._stops = 0
            self._write(probe(STOP, 0))

    def _came(self, data: bytes, stamp: float) -> None:
        back = b""
        for block in self._blocks.of(data):
            if block[0] == SERVERS:
                back += block
            elif block[0] == STOP and self._stops is not None:
                self._stops += 1
                back += probe(STOP, self._stops) if self._stops == 1 else b""
            elif block[0] == CLIENTS and self._under_way:
                self._echoed += PROBE
                self._came_back(stamp)
            else:
                self._end_long()
                return
        if back:
            self._write(back)


def probes_header(rate: float) -> dict[str, str]:
    """What asks the server for probes of its own."""
    return {RATE_HEADER: f"{rate:g}"}
