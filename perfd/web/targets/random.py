"""``/random/SIZE``: random bytes to measure with, which nothing on the way can compress or cache."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.web.server import NOT_DONE_YET

from perfd.store.parameters import Parameter
from perfd.units import format_size, parse_size
from perfd.web.description import BYTES, Response, Route
from perfd.web.errors import WebError
from perfd.web.request import Described, Request
from perfd.web.targets.rate import StrangersRate
from perfd.wire.keystream import PIECE, Keystream

ALIASES = {".50kbfile": 51200, ".1mbfile": 1048576, ".5mbfile": 5242880}
"""The names under which Torperf's servers had files of these sizes."""


class RandomBytes(Described):
    """``size`` random bytes, as many as the path says if it is None; what is more than ``max_size`` is refused.

    ``rate`` is what strangers get; measurements get all that there is.
    """

    isLeaf = True

    def __init__(
        self, keystream: Keystream, max_size: int, size: int | None = None, rate: StrangersRate | None = None
    ) -> None:
        super().__init__()
        self._rate = rate
        self._keystream = keystream
        self._max_size = max_size
        self._size = size
        # The schema is narrower than what is read: any size is understood, so that a refusal can say the largest.
        self._wanted = Parameter(
            "size",
            "bytes, such as 51200 or 50KiB",
            parse_size,
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": max_size},
                    {"type": "string", "pattern": "^[0-9]{1,3} ?(B|KiB|MiB|GiB)$"},
                ]
            },
        )

    def describe(self, path: str) -> Iterator[Route]:
        given = {200: Response({BYTES: None})}
        if self._size is None:
            text = "Random bytes to measure with"
            yield Route(f"{path}/{{size}}", text, given, errors=(400, 413), in_path=(self._wanted,))
        else:
            fits = self._size <= self._max_size
            yield Route(path, f"{self._size} random bytes", given if fits else {}, errors=() if fits else (413,))

    def render_GET(self, request: Request) -> bytes | int:
        size = self._requested(request)
        if size > self._max_size:
            raise WebError(413, f"at most {format_size(self._max_size)} can be had")
        request.setHeader(b"Content-Type", b"application/octet-stream")
        request.setHeader(b"Cache-Control", b"no-store")
        rate = None if request.served is not None or request.method == b"HEAD" else self._rate
        if size <= PIECE and request.method != b"HEAD" and (rate is None or rate.spend(size)):
            return self._keystream.take(size)
        if rate is None:
            request.stream(size, self._keystream.take)
        else:
            rate.send(request, size, self._keystream.take)
        return NOT_DONE_YET

    def _requested(self, request: Request) -> int:
        below = request.postpath or []
        if self._size is not None:
            if below:
                raise WebError(404, "there is nothing below this path")
            return self._size
        if len(below) != 1:
            raise WebError(400, "say how many bytes, as in /random/51200 or /random/50KiB")
        try:
            size: int = self._wanted.read(below[0].decode("ascii", "replace"))
        except ValueError as error:
            raise WebError(400, str(error)) from None
        return size


def random_resources(max_size: int, rate: StrangersRate | None = None) -> dict[str, Described]:
    """The children of a site that serve random bytes: ``random``, ``urandom`` and the aliases."""
    keystream = Keystream()
    sizes = {"random": None, "urandom": None, **ALIASES}
    return {name: RandomBytes(keystream, max_size, size, rate) for name, size in sizes.items()}
