"""``/upload``: counts, hashes and discards what is sent to it, and answers with what it saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from perfd.clock import Clock
from perfd.units import format_size
from perfd.web.description import BYTES, COUNT, JSON, Response, Route, Schema, object_of
from perfd.web.errors import WebError
from perfd.web.request import BodyResource, Request, json_body
from perfd.web.stamps import Received
from perfd.wire.marks import Marks


class UploadSink:
    """Takes a body of ``size`` bytes, whose head had come at ``begun``, and keeps none of it."""

    def __init__(self, size: int, begun: float) -> None:
        self.begun = begun
        self.left = size
        self._hash = hashlib.sha256()
        self._marks = Marks(size)
        self.received = Received(size, dataperc=self._marks.dataperc, partial=self._marks.partial)
        self._finish()

    def take(self, data: bytes, stamp: float) -> None:
        received = self.received
        self.left -= len(data)
        received.count += len(data)
        if received.first is None:
            received.first = stamp
        self._marks.reached(received.count, stamp)
        self._hash.update(data)
        if not self.left:
            received.last = stamp
            self._finish()

    def _finish(self) -> None:
        if not self.left:
            self.received.digest = self._hash.hexdigest()


class UploadPage(BodyResource):
    """``POST /upload``: at most ``max_size`` bytes, whose number must be told before.

    The times in the answer are seconds since the read that completed the request's head had returned. When that
    was, as seconds since the epoch, is told to measurements of ours only.
    """

    isLeaf = True

    def __init__(self, max_size: int, clock: Clock) -> None:
        super().__init__()
        self._max_size = max_size
        self._clock = clock

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path,
            "Bytes to measure with are counted and discarded",
            {200: Response({JSON: _received_schema()})},
            errors=(408, 411, 413),
            method="POST",
            body={BYTES: None},
        )

    def sink(self, request: Request, size: int | None) -> UploadSink:
        if size is None:
            raise WebError(411, "say with Content-Length how many bytes are to come")
        if size > self._max_size:
            raise WebError(413, f"at most {format_size(self._max_size)} can be sent")
        sink = UploadSink(size, request.channel.received)
        if request.served is not None:
            request.served.received = sink.received
        return sink

    def render_GET(self, request: Request) -> bytes:
        raise WebError(405, "only POST can be used here", {b"Allow": b"POST"})

    def render_POST(self, request: Request) -> bytes:
        if request.postpath:
            raise WebError(404, "there is nothing below this path")
        sink = request.sink
        if sink is None:  # an empty body never becomes one that is received
            has_length = request.requestHeaders.hasHeader(b"Content-Length")
            sink = self.sink(request, 0 if has_length else None)
        assert isinstance(sink, UploadSink)
        received = sink.received

        def since(stamp: float | None) -> float | None:
            return None if stamp is None else round(stamp - sink.begun, 6)

        anchor = self._clock.anchor()
        return json_body(
            request,
            {
                "bytes": received.count,
                "sha256": received.digest,
                "request": anchor.epoch(sink.begun) if request.served is not None else None,
                "first": since(received.first),
                "last": since(received.last),
                "dataperc": {str(n): since(stamp) for n, stamp in received.dataperc.items()},
            },
        )


def _received_schema() -> Schema:
    """The schema of what ``render_POST`` answers."""
    seconds = {"type": ["number", "null"]}
    return object_of(
        {
            "bytes": COUNT,
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "request": seconds | {"description": "when the request's head had come; only measurements are told"},
            "first": seconds | {"description": "the first byte had come, in seconds since the head"},
            "last": seconds | {"description": "the last byte had"},
            "dataperc": {
                "type": "object",
                "description": "so many percent had",
                "patternProperties": {"^[0-9]{1,3}$": {"type": "number"}},
                "additionalProperties": False,
            },
        }
    )
