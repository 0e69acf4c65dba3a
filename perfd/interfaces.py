"""The few interfaces at which Perfd's parts meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from perfd.record import Measurement, Outcome
from perfd.socks.port import SOCKSPort
from perfd.wire.probes import Returns
from perfd.wire.tcp_info import TCPSeries


class Sink(Protocol):
    """Where finished measurements go."""

    def record(self, measurement: Measurement) -> None:
        """Take one measurement. May raise; the fan-out guards the other sinks."""


class Experiment(Protocol):
    """A configured kind of measurement over one tor and one way to the server."""

    @property
    def name(self) -> str: ...

    @property
    def not_ready(self) -> str | None:
        """Why no run can succeed now, in words for the record; None when one can."""

    @property
    def refusal(self) -> str | None:
        """Why a run would be skipped now, in words; None when it would not be."""

    async def run(self, slot: float | None, record: Callable[[Measurement], None]) -> None:
        """Run once; ``record`` gets each measurement as soon as it is complete, whatever happened.

        ``slot`` is the scheduled time (seconds since the epoch), None outside a schedule. Cancelling the
        Deferred around this coroutine ends the run at once, with a record of outcome ``cancelled``.
        """

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Sequence[Measurement]:
        """The records of a slot in which nothing could be run, or whose runs were lost: one for each run."""


class Tor(Protocol):
    """A way into Tor: a launched tor, an attached one, or any SOCKS proxy in its place."""

    @property
    def name(self) -> Any: ...  # a str; Twisted types the name of a service loosely

    @property
    def version(self) -> str | None:
        """Tor's version, as it says itself (``0.4.9.11``); None while unknown."""

    @property
    def not_ready(self) -> str | None:
        """Why no measurement can run now, in words for the record; None when one can."""

    async def when_ready(self) -> None:
        """Return when a measurement can run (bootstrapped, SOCKS port open)."""

    def socks_port(self) -> SOCKSPort:
        """The SOCKS port to measure through. Raises RuntimeError while there is none."""


class WayToServer(Protocol):
    """A way to our own web server: its public address, or an onion service."""

    @property
    def name(self) -> str:
        """``public`` or ``onion``."""

    @property
    def not_ready(self) -> str | None:
        """Why the server cannot be reached this way now; None when it can."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class HoldUps(Protocol):
    """Tells of times in which the reactor did not get to its work, as long as anybody watches."""

    def watched(self) -> AbstractContextManager[None]:
        """Look out for them within the context."""

    def between(self, since: float, until: float) -> float:
        """For how many seconds there were any between two moments (raw monotonic seconds), 0 if never."""


class ReceivedBody(Protocol):
    """What came of a request's body, with stamps in raw monotonic seconds; None: it did not happen."""

    @property
    def count(self) -> int:
        """The bytes that came."""

    @property
    def first(self) -> float | None: ...

    @property
    def last(self) -> float | None: ...

    @property
    def dataperc(self) -> Mapping[int, float]: ...

    @property
    def partial(self) -> Mapping[int, float]: ...

    @property
    def digest(self) -> str | None:
        """SHA-256 of the whole body, in hexadecimal."""


class Echoed(Protocol):
    """What an echo of our web server did, with stamps in raw monotonic seconds."""

    @property
    def arrivals(self) -> Sequence[float]:
        """When each of the client's probes came."""

    @property
    def returns(self) -> Returns:
        """The server's own probes."""


class ServerTimes(Protocol):
    """What our web server stamped for one measurement, in raw monotonic seconds; None: it did not happen."""

    @property
    def request(self) -> float | None: ...

    @property
    def response(self) -> float | None: ...

    @property
    def complete(self) -> float | None: ...

    @property
    def received(self) -> ReceivedBody | None:
        """The body of the request, if it had one."""

    @property
    def exact(self) -> bool:
        """Whether the kernel stamped all that arrived."""

    @property
    def echoed(self) -> Echoed | None:
        """What came of an echo, if there was one."""

    @property
    def tcp(self) -> TCPSeries | None:
        """Looks at the server's end of the connection while it sent the response."""


class ServerStamps(Protocol):
    """The register of what our web server stamps."""

    def expect(self, measurement: str) -> None:
        """Announce the id of a measurement."""

    def look(self, measurement: str) -> ServerTimes:
        """The stamps of the measurement so far."""

    def take(self, measurement: str) -> ServerTimes:
        """The stamps of the measurement, which is then forgotten."""
