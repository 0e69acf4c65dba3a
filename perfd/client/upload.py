"""The measuring HTTP client for uploads: random bytes over any endpoint, stamped as the socket takes them.

The body is made piece by piece, each when the socket has taken the one before, and hashed as it is made; the server
answers with the digest of what it received. Everything else is as in `perfd.client.fetch`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from perfd.client.fetch import Client, Ending, Exchange, request_head
from perfd.client.response import Answer
from perfd.clock import Phase, Timeline
from perfd.record import EMPTY, Error, Outcome
from perfd.wire.keystream import Keystream
from perfd.wire.marks import Marks
from perfd.wire.pieces import Pieces

ANSWER_LIMIT = 8 * 1024
"""The most bytes that the server's answer may have."""


@attrs.frozen(kw_only=True)
class Upload(Exchange):
    """What one upload gave, as this side saw it. Times are seconds since the epoch; what is missing is None.

    ``payloadbytes`` are those that the server says it received. What the socket has taken is not with the server
    yet: it can be in the buffers of this machine and of tor.
    """

    sentbytes: int | None = None  # of the body that the socket has taken
    sentperc: Mapping[int, float] = EMPTY  # n percent of it were taken
    sentfirst: float | None = None  # its first byte was
    sentlast: float | None = None  # its last byte was
    continued: float | None = None  # the server's 100 Continue came
    digest: str | None = None  # SHA-256 of the whole body, once it was made


def post_request(
    host: str, path: str, size: int, headers: Mapping[str, str] = EMPTY, *, expect_continue: bool = False
) -> bytes:
    """The head of a POST of ``size`` bytes; see `perfd.client.fetch.get_request`.

    With ``expect_continue`` it asks the server to say that it wants the body (RFC 9110 section 10.1.1).
    """
    given = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    if expect_continue:
        given["Expect"] = "100-continue"
    return request_head("POST", host, path, {**given, **headers})


async def upload(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    request: bytes,
    *,
    size: int,
    timeline: Timeline,
    timeout: float,
    expect_continue: bool = False,
) -> Upload:
    """Send ``request`` (a `post_request`) and ``size`` random bytes over a fresh connection to ``endpoint``.

    The answer must be what ``/upload`` answers: status 200, and in JSON how many ``bytes`` came and their
    ``sha256``. If that is not what was sent, the error is `Error.DIGEST`. An error response ends the upload, also
    in the middle of the body. With ``expect_continue`` the body waits for the server's 100 Continue.

    ``timeline`` gets DATAREQUEST when the socket is given the head, DATARESPONSE with the first byte of the
    response (no interim one), and DATACOMPLETE with its last byte. The one deadline is ``timeout`` seconds after
    START. Never raises for what the network does; cancelling it gives the outcome ``cancelled``.
    """
    client = _Upload(request, size, timeline, expect_continue=expect_continue)
    result: Upload = await client.exchange(reactor, endpoint, timeout)
    return result


def read_answer(body: bytes) -> tuple[int, str] | None:
    """How many bytes the server received, and their SHA-256; None if ``body`` is no answer of ``/upload``."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match answer:
        case {"bytes": int(count), "sha256": str(digest)}:
            return count, digest
    return None


class _RandomBody:
    """``size`` random bytes, hashed as they are made."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._keystream = Keystream()
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str | None:
        """SHA-256 of all that was made; None before the end."""
        return None if self._left else self._hash.hexdigest()

    def take(self, count: int) -> bytes:
        """The next ``count`` of them."""
        piece = self._keystream.take(count)
        self._left -= count
        self._hash.update(piece)
        return piece


class _Upload(Client):
    """A request with a body, and the answer to it."""

    response: Answer

    def __init__(self, request: bytes, size: int, timeline: Timeline, *, expect_continue: bool) -> None:
        super().__init__(request, Answer(ANSWER_LIMIT), timeline)
        self._size = size
        self._waiting = expect_continue
        self._body: _RandomBody | None = None
        self._written = 0  # bytes that the socket has taken, the head's included
        self._last_sent = 0.0  # when it last took some of the body
        self._sent = Marks(size)
        self._first_read: float | None = None  # of the response, or of the interim one that is awaited
        self._continued: float | None = None
        self._received: int | None = None  # bytes of the body, as the server says

    def send(self) -> None:
        super().send()
        if not self._waiting:
            self._send_body()

    def _send_body(self) -> None:
        self._body = _RandomBody(self._size)
        Pieces(self.transport, self._body.take, self._size, lambda _: None).start()

    def took(self, count: int, stamp: float, left: int) -> None:
        super().took(count, stamp, left)
        self._written += count
        if self._sent_bytes:
            self._last_sent = stamp
            self._sent.reached(self._sent_bytes, stamp)

    @property
    def last_moved(self) -> float:
        return max(self.last_read, self._last_sent)

    @property
    def _sent_bytes(self) -> int:
        return max(0, self._written - len(self.request))

    def received(self, stamp: float) -> None:
        if self._first_read is None:
            self._first_read = stamp

    def taken(self) -> None:
        if self._waiting and self.response.continued:
            self._waiting = False
            self._continued = self.last_read
            self._first_read = None
            self._expect_first()
            if self.response.status is None:
                self._send_body()
        if self.response.status is not None:
            self.timeline.mark(Phase.DATARESPONSE, self._first_read or self.last_read)

    def completed(self) -> Ending:
        """Whether the server received what was sent."""
        answer = read_answer(self.response.body)
        if answer is None:
            return Ending(Outcome.FAILED, Error.HTTP, "the answer is not that of /upload")
        self._received, digest = answer
        if self._received != self._size:
            reason = f"the server received {self._received} of {self._size} bytes"
            return Ending(Outcome.FAILED, Error.DIGEST, reason)
        if self._body is None or digest != self._body.digest:
            return Ending(Outcome.FAILED, Error.DIGEST, "the server received other bytes than were sent")
        return Ending(Outcome.OK)

    def progress(self) -> str:
        return f"{self._sent_bytes} of {self._size} bytes taken by the socket"

    def result(self, account: dict[str, Any]) -> Exchange:
        epoch = self.timeline.anchor.epoch
        connected = account["writebytes"] is not None
        sentperc = {n: epoch(stamp) for n, stamp in self._sent.dataperc.items()}
        account |= {"writebytes": self._written if connected else None, "payloadbytes": self._received}
        return Upload(
            **account,
            sentbytes=self._sent_bytes if connected else None,
            sentperc=sentperc,
            sentfirst=sentperc.get(0),
            sentlast=sentperc.get(100),
            continued=None if self._continued is None else epoch(self._continued),
            digest=None if self._body is None else self._body.digest,
        )
