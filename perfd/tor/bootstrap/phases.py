"""The phases of a bootstrap (control-spec 5.5), each with its time and the bytes that tor had moved by then."""

from __future__ import annotations

from collections.abc import Callable

from txtorcon import TorControlProtocol

from perfd.tor.control import Bootstrap

MOST_TAGS = 50
"""Tags that are taken of one bootstrap, with those that control-spec does not have yet."""


class Traffic:
    """The bytes that a tor has read and written over the network since its beginning (GETINFO traffic/read).

    A tor that counts private connections too (CountPrivateBandwidth, as on the private network) counts what goes
    over our control connection. That is subtracted: what was counted before its network was enabled, and what we
    see since.
    """

    def __init__(self) -> None:
        self._protocol: TorControlProtocol | None = None
        self._control = (0, 0)  # what tor had read and written of our connection when it answered last
        self._received = self._sent = 0
        self._before: tuple[int, int] | None = None  # what is to be subtracted besides; None: nothing at all

    async def begin(self, protocol: TorControlProtocol) -> None:
        """Count from now on; the tor's network must not be enabled yet."""
        self._count(protocol)
        self._protocol = protocol
        told = await self._told()
        if told != (0, 0):
            self._before = told[0] - self._control[0], told[1] - self._control[1]

    async def now(self) -> tuple[int, int]:
        """Bytes read and written. Raises what txtorcon raises if the connection is lost."""
        told = await self._told()
        if self._before is None:
            return told
        read, written = (a - b - c for a, b, c in zip(told, self._before, self._control, strict=True))
        return max(0, read), max(0, written)

    async def _told(self) -> tuple[int, int]:
        assert self._protocol is not None
        answer = await self._protocol.get_info("traffic/read", "traffic/written")
        return int(answer["traffic/read"]), int(answer["traffic/written"])

    def _count(self, protocol: TorControlProtocol) -> None:
        receive, write = protocol.dataReceived, protocol.transport.write

        def received(data: bytes) -> None:
            # Before this is counted: what comes with an answer had not left tor as it was made.
            self._control = self._sent, self._received
            self._received += len(data)
            receive(data)

        def sent(data: bytes) -> None:
            self._sent += len(data)
            write(data)

        protocol.dataReceived, protocol.transport.write = received, sent


class DirectoryBytes:
    """The bytes of directory requests: those of circuits of one hop (CIRC and CIRC_BW, control-spec 4.1.22).

    They are payloads of cells, so without TLS. Tor tells them once a second.
    """

    def __init__(self) -> None:
        self.read = 0
        self.written = 0
        self._circuits: set[str] = set()

    def circuit(self, event: str) -> None:
        """Take a CIRC event."""
        words = event.split()
        if any(word.startswith("BUILD_FLAGS=") and "ONEHOP_TUNNEL" in word for word in words):
            self._circuits.add(words[0])

    def bandwidth(self, event: str) -> None:
        """Take a CIRC_BW event."""
        values = dict(word.partition("=")[::2] for word in event.split())
        read, written = values.get("READ", ""), values.get("WRITTEN", "")
        if values.get("ID") in self._circuits and read.isdigit() and written.isdigit():
            self.read += int(read)
            self.written += int(written)


class Phases:
    """What one bootstrap was like, as far as it went. Stamps are monotonic seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.launched: float | None = None  # the process
        self.control: float | None = None  # its control connection was authenticated
        self.network: float | None = None  # its network was enabled
        self.reached: dict[str, float] = {}  # by tag
        self.bytes: dict[str, tuple[int, int]] = {}  # by tag: read and written until then
        self.last: Bootstrap | None = None
        self.directory = DirectoryBytes()
        self._monotonic = monotonic

    @property
    def moved(self) -> dict[str, tuple[int, int]]:
        """``bytes``, of which none is more than a later one.

        What tor had written to our control connection as it counted, and came to us with its answer only, has not
        been subtracted; a later count shows that it was too much.
        """
        found, most = dict[str, tuple[int, int]](), None
        for tag, (read, written) in reversed(self.bytes.items()):
            most = (read, written) if most is None else (min(read, most[0]), min(written, most[1]))
            found[tag] = most
        return dict(reversed(found.items()))

    def take(self, bootstrap: Bootstrap) -> bool:
        """Take what tor said at this moment; whether it is a phase that was not reached before."""
        self.last = bootstrap
        is_new = bootstrap.tag not in self.reached and len(self.reached) < MOST_TAGS
        if is_new:
            self.reached[bootstrap.tag] = self._monotonic()
        return is_new
