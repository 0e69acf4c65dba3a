"""Puts our own streams on a circuit that was built for them, and leaves all others to tor.

With ``__LeaveStreamsUnattached`` (tor's manual) tor attaches no stream of a client by itself, and somebody must for
every one of them. So it is set only while streams of ours are being opened, and what is not ours is given back at
once (ATTACHSTREAM to circuit 0; control-spec, section 3.13). A stream is ours if the user name of its SOCKS request
is claimed, which is that of a run, and so nobody else's.

The option outlives the control connection. A tor of our own ends with us; that of somebody else would attach
nothing any more if Perfd were killed in these moments. So a file remembers that it is set, and the next Perfd that
comes to this tor sets it back.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txtorcon import TorControlProtocol

from perfd.tor.events.lines import StreamLine, UnparsedError
from perfd.tor.files import make_private

OPTION = "__LeaveStreamsUnattached"

_UNATTACHED = ("NEW", "NEWRESOLVE", "DETACHED")
_SETTLED = ("SUCCEEDED", "FAILED", "CLOSED")

_MISC = 1  # the reason of RELAY_END with which a stream is closed that cannot go on


class UnusableError(Exception):
    """Streams cannot be put on circuits with this tor; the message says why."""


@attrs.define
class _Claim:
    circ_id: int
    left: int | None  # streams that are yet to be opened; None: it is not known how many


class Attacher:
    """Attaches the streams of one tor. ``marker`` is the file of a tor that is not our own."""

    _log = Logger()

    def __init__(self, protocol: TorControlProtocol, marker: Path | None = None) -> None:
        self._protocol = protocol
        self._marker = marker
        self._claims: dict[str, _Claim] = {}  # by the SOCKS user name
        self._ours: dict[int, _Claim] = {}  # by tor's id of the stream, until it is open
        self._is_listening = False
        self._is_on = False  # our streams are yet to come
        self._is_left = False  # tor leaves streams to us, or may still do so

    async def recover(self) -> None:
        """Set back what a Perfd that was killed has left. Raises what txtorcon raises: a RuntimeError."""
        if self._marker is not None and self._marker.exists():
            self._log.warn("streams are left to tor again, as an earlier Perfd did not come to it")
            await self._protocol.queue_command(f"SETCONF {OPTION}=0")
            self._marker.unlink(missing_ok=True)

    async def claim(self, user: str, circ_id: int, streams: int | None = None) -> None:
        """Streams of the SOCKS user go on this circuit: so many, or all until ``release``.

        To be called before they are opened. Raises a RuntimeError if tor is lost, and ``UnusableError``.
        """
        self._claims[user] = _Claim(circ_id, streams)
        if self._is_on:
            return
        if (await self._protocol.get_conf_raw(OPTION)).strip() == f"{OPTION}=1":
            del self._claims[user]
            raise UnusableError("another program attaches the streams of this tor")
        if self._marker is not None:
            make_private(self._marker.parent)
            self._marker.touch()
        self._is_on = self._is_left = True
        if not self._is_listening:
            self._is_listening = True
            await self._protocol.add_event_listener("STREAM", self._event)
        await self._protocol.queue_command(f"SETCONF {OPTION}=1")

    def release(self, user: str) -> None:
        """No more streams of this user are ours to attach."""
        claim = self._claims.pop(user, None)
        self._ours = {stream: each for stream, each in self._ours.items() if each is not claim}
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_on and not self._ours and all(claim.left == 0 for claim in self._claims.values()):
            self._is_on = False
            # Not awaited: tor does one command after the other, so whatever is asked next comes after it.
            Deferred.fromCoroutine(self._end()).addErrback(
                lambda failure: self._log.failure("streams were not left to tor again", failure)
            )

    async def _end(self) -> None:
        with suppress(RuntimeError):  # that tor is gone is the same to us
            await self._protocol.queue_command(f"SETCONF {OPTION}=0")
            # Only now: a stream that came before tor knew it waits for us.
            if not self._is_on:
                self._is_left = False
                if self._marker is not None:
                    self._marker.unlink(missing_ok=True)

    def _event(self, text: str) -> None:
        if not self._is_left:
            return
        try:
            line = StreamLine.parse(text)
        except UnparsedError:
            return
        if line.status in _UNATTACHED:
            Deferred.fromCoroutine(self._attach(line)).addErrback(
                lambda failure: self._log.failure("a stream was not attached", failure)
            )
        elif line.status in _SETTLED:
            claim = self._ours.pop(line.stream_id, None)
            if claim is not None and claim.left:
                claim.left -= 1
                self._end_if_done()

    async def _attach(self, line: StreamLine) -> None:
        claim = self._ours.get(line.stream_id)
        if claim is None and line.status == "NEW" and line.user is not None:
            claim = self._claims.get(line.user)
        if claim is None:
            # Tor's own streams, as to directories, were never ours to attach: it refuses.
            with suppress(RuntimeError):
                await self._protocol.queue_command(f"ATTACHSTREAM {line.stream_id} 0")
            return
        self._ours[line.stream_id] = claim
        try:
            if line.status == "DETACHED":  # its circuit has failed it, and there is no other
                await self._close(line)
            else:
                await self._protocol.queue_command(f"ATTACHSTREAM {line.stream_id} {claim.circ_id}")
        except RuntimeError:
            await self._close(line)

    async def _close(self, line: StreamLine) -> None:
        with suppress(RuntimeError):
            await self._protocol.queue_command(f"CLOSESTREAM {line.stream_id} {_MISC}")
