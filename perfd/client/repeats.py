"""Round-trip times to a server that has no ``/echo``: HEAD requests on one connection, one after the other.

A request waits until the one before it was answered, so that nothing is asked of a server that it may not know
(pipelining). A time is from a request to the end of the head that answers it: HEAD has no body.
"""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.interfaces import IHandshakeListener, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.client.echo import EchoClient
from perfd.client.fetch import Ending, classify
from perfd.client.response import HEAD_LIMIT
from perfd.client.tls import TLS_ERRORS, Session, TLSServer, under_tls, words
from perfd.clock import Phase, Timeline
from perfd.record import Error, Outcome
from perfd.wire.arrival import arrival, stamp_arrivals
from perfd.wire.delivery import deliver, flush

_BEGINNING = b"HTTP/1."


@implementer(IHandshakeListener)
class RepeatedRequests(EchoClient):
    """One connection, over which ``request`` is sent time and again. ``tls`` is as in `Client` of `fetch`."""

    def __init__(
        self,
        reactor: IReactorTime,
        request: bytes,
        timeline: Timeline,
        statuses: Collection[int],
        tls: TLSServer | None,
    ) -> None:
        super().__init__(reactor, request, timeline)
        self._statuses = statuses
        self._tls = tls
        self._answer = bytearray()  # the head as far as it came

    def connectionMade(self) -> None:
        if self.ended.called:
            self.transport.abortConnection()
            return
        carrier = under_tls(self.transport)
        self._addresses = self.transport.getHost(), self.transport.getPeer()
        self._socket = stamp_arrivals(carrier, self._timeline.now)
        if ITCPTransport.providedBy(carrier):
            carrier.setTcpNoDelay(True)
        if self._tls is None:
            self.ready.callback(None)
        else:
            self._session = Session(begun=self._timeline.now())

    def handshakeCompleted(self) -> None:
        """TLS is agreed on; whose certificate it is is yet to be seen."""
        if self.ended.called or self._tls is None or self._session is None:
            return
        try:
            self._session = self._tls.completed(self._session, self.transport.getHandle(), self._timeline.now())
        except TLS_ERRORS as error:
            self._end(Ending(Outcome.FAILED, Error.TLS, words(error)))
            return
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        stamp = arrival(self._socket, self._timeline.now(), max([self._last_read, *self._under_way[:1]]))
        if self.ended.called:
            return
        self._timeline.mark(Phase.DATARESPONSE, stamp)
        self._last_read = stamp
        self._read += len(data)
        self._answer += data
        while self._answer and not self.ended.called:
            end = self._answer.find(b"\r\n\r\n")
            is_http = self._answer.startswith(_BEGINNING[: len(self._answer)])
            if not is_http or not self._under_way or (end < 0 and len(self._answer) > HEAD_LIMIT):
                start = bytes(self._answer[:16])
                self._end(Ending(Outcome.FAILED, Error.HTTP, f"{start!r} is no answer to HEAD"))
            elif end < 0:
                return
            else:
                head = bytes(self._answer[:end])
                del self._answer[: end + 4]
                self._answered(head, stamp)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        ending = classify(reason)
        if ending.errorcode == Error.CLOSED:
            ending = ending._replace(reason=f"the server closed the connection after {len(self.samples)} answers")
        self._end(ending)

    def _send(self) -> None:
        if self._under_way:
            return
        self._timeline.mark(Phase.DATAREQUEST)
        self._under_way.append(self._timeline.now())
        self.sent += 1
        self._written += len(self._request)
        deliver(self.transport, self._request)
        flush(under_tls(self.transport))

    def _answered(self, head: bytes, stamp: float) -> None:
        code = head.partition(b"\r\n")[0].split()[1:2]
        status = int(code[0]) if code and code[0].isdigit() else 0
        if 100 <= status < 200:  # the answer follows
            return
        self._status = status
        if status not in self._statuses:
            self._end(Ending(Outcome.FAILED, Error.STATUS, f"HTTP status {status}"))
            return
        sent = self._under_way.pop()
        self.samples.append((sent, stamp - sent))
