"""Puts our own streams on a circuit that was built for them, and leaves all others to tor.

With ``__LeaveStreamsUnattached`` (tor's manual) tor attaches no stream of a client by itself, and somebody must for
every one of them. So it is set only while a measurement has the tor for itself, and what is not ours is given back
at once (ATTACHSTREAM to circuit 0; control-spec, section 3.13).
"""

from __future__ import annotations

from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txtorcon import TorControlProtocol

from perfd.tor.events.join import Address, address_of, normal_address
from perfd.tor.events.lines import StreamLine, UnparsedError

_UNATTACHED = ("NEW", "NEWRESOLVE", "DETACHED")

_MISC = 1  # the reason of RELAY_END with which a stream is closed that cannot go on


class Attacher:
    """Attaches the streams of one tor, between ``begin`` and ``end``."""

    _log = Logger()

    def __init__(self, protocol: TorControlProtocol) -> None:
        self._protocol = protocol
        self._circuits: dict[Address | None, int] = {}  # tor's id of the circuit, by where the stream comes from

    async def begin(self) -> None:
        """Raises what txtorcon raises: a RuntimeError."""
        await self._protocol.add_event_listener("STREAM", self._event)
        await self._protocol.queue_command("SETCONF __LeaveStreamsUnattached=1")

    async def end(self) -> None:
        """Tor attaches all streams by itself again; that it is gone is the same to us."""
        with suppress(RuntimeError):
            # The listener goes last: a stream that came before tor knew it waits for us.
            await self._protocol.queue_command("SETCONF __LeaveStreamsUnattached=0")
            await self._protocol.remove_event_listener("STREAM", self._event)

    def claim(self, local: tuple[str, int], circ_id: int) -> None:
        """The stream of the connection from ``local`` (IP address, port) goes on this circuit.

        To be called before the SOCKS request goes out.
        """
        self._circuits[normal_address(*local)] = circ_id

    def _event(self, text: str) -> None:
        try:
            line = StreamLine.parse(text)
        except UnparsedError:
            return
        if line.status in _UNATTACHED:
            Deferred.fromCoroutine(self._attach(line)).addErrback(
                lambda failure: self._log.failure("a stream was not attached", failure)
            )

    async def _attach(self, line: StreamLine) -> None:
        circ_id = self._circuits.get(address_of(line.source_addr)) if line.source_addr else None
        if circ_id is None:
            # Tor's own streams, as to directories, were never ours to attach: it refuses.
            with suppress(RuntimeError):
                await self._protocol.queue_command(f"ATTACHSTREAM {line.stream_id} 0")
            return
        try:
            if line.status == "DETACHED":  # its circuit has failed it, and there is no other
                await self._close(line)
            else:
                await self._protocol.queue_command(f"ATTACHSTREAM {line.stream_id} {circ_id}")
        except RuntimeError:
            await self._close(line)

    async def _close(self, line: StreamLine) -> None:
        with suppress(RuntimeError):
            await self._protocol.queue_command(f"CLOSESTREAM {line.stream_id} {_MISC}")
