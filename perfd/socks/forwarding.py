"""One connection through a SOCKS server: what the client asks for, the way there, the copying, and the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from perfd.clock import Timeline
from perfd.record import Error
from perfd.socks.connection import Hooks
from perfd.socks.end import End, EndCallbacks
from perfd.socks.errors import CommandNotSupported, ConnectionLostEarly, ReplyError, SOCKSError
from perfd.socks.machine import Command, Reply
from perfd.socks.notes import Notes
from perfd.socks.server_machine import (
    GENERAL_FAILURE,
    SUCCEEDED,
    TTL_EXPIRED,
    ClientRequest,
    RequestRefusedError,
    SOCKSServerMachine,
    reply,
)
from perfd.socks.timer import Timer
from perfd.socks.way_out import WayOut

NEGOTIATION_TIMEOUT = 10.0
"""Seconds within which a client must have said where it wants to go."""

ANSWER_TIMEOUT = 180.0
"""Seconds for connecting and a SOCKS port's reply together; tor's own SocksTimeout is 120 s."""

LINGER_TIMEOUT = 300.0
"""Seconds of silence after which a connection that one side has closed is broken off."""

END_WAIT = 2.0
"""Seconds between the end of a connection and the word whether it was orderly; from tor it is 1 ms most often."""

FIRST_BYTES_WAIT = 0.01
"""Seconds that an optimistic SOCKS request waits for the client's first bytes, to go out in one write."""

MOST_EARLY = 65536
"""Bytes that are kept of what a client sends before they may be forwarded; then it is not read from."""


class ForwardedConnection:
    """One client's connection. ``over`` is called when both ends are closed.

    ``notes`` are what happened to it, ``request`` is what it asked for. The copying is back-pressured: who sends
    faster than the other side takes is not read from. A side that sends no more can still receive.
    """

    def __init__(
        self, reactor: IReactorTime, way_out: WayOut, now: Callable[[], float], over: Callable[[Any], None]
    ) -> None:
        self.notes = Notes(now)
        self.request: ClientRequest | None = None
        self.client = End("client", now, self._callbacks(lambda: self.client, self._accepted, self._asked))
        self.remote = End("remote", now, self._callbacks(lambda: self.remote, self._connected, lambda _: None))
        self._way_out = way_out
        self._over = over
        self._machine = SOCKSServerMachine()
        self._early = b""
        self._connecting: Deferred[Any] | None = None
        self._first_bytes: Deferred[None] | None = None  # which the optimistic request waits for
        self._timer = Timer(reactor)
        self._given_up = False

    def abort(self) -> None:
        """Break off both sides."""
        self.notes.close("proxy", "aborted")
        self._give_up()
        self.client.abort()

    # For those who want to know more.

    def timeline(self) -> Timeline | None:
        """Where the steps of the SOCKS request to the port behind are stamped; None: nowhere."""
        return None

    def behind(self, local: IAddress) -> None:
        """There is a connection from ``local`` to the SOCKS port behind, and nothing was written to it yet."""
        self.notes.local_port = getattr(local, "port", None)

    def orderly_end(self) -> Deferred[bool | None] | None:
        """Whether the end that the other side has just passed on is one that the far end meant.

        None: it is taken for that. So it is if the Deferred fires with True or None.
        """
        return None

    # The client's request.

    def _accepted(self) -> None:
        self.notes.mark("start")
        self._expect_within(NEGOTIATION_TIMEOUT, "the client did not say where it wants to go")

    def _asked(self, data: bytes) -> None:
        """Bytes from the client, before they may be forwarded."""
        if self._given_up:
            return
        if self.request is not None:
            self._keep(data)
            self._spoken()
            return
        try:
            to_send, self.request = self._machine.feed(data)
        except RequestRefusedError as refused:
            self.client.transport.write(refused.reply)
            self._fail(Error.SOCKS, f"the client's request: {refused}", None)
            return
        if to_send:
            self.client.transport.write(to_send)
        if self.request is not None:
            self.notes.mark("asked")
            self._keep(self._machine.rest)
            self._connect(self.request)

    def _keep(self, data: bytes) -> None:
        if data:
            self.client.note(data)
            self._early += data
        if len(self._early) > MOST_EARLY:
            self.client.transport.pauseProducing()

    # The way there.

    def _connect(self, request: ClientRequest) -> None:
        """Begin to connect. Only a connection can be granted before it is there."""
        self._expect_answer()
        if self._way_out.optimistic and request.command is Command.CONNECT:
            self._reply(SUCCEEDED)
        hooks = Hooks(self.timeline(), self.behind, self._granted, self._until_spoken)
        try:
            self.notes.username = self._way_out.username(request)
            connecting = self._way_out.connect(request, self.remote, hooks)
        except CommandNotSupported as error:
            self._fail(Error.SOCKS, f"the client's request: {error}", error.code)
            return
        except (RuntimeError, ValueError) as error:
            self._not_connected(Failure(error))
            return
        self.notes.mark("socket")
        self._connecting = connecting
        connecting.addErrback(self._not_connected)

    def _until_spoken(self) -> Deferred[None]:
        """Fires when the client has sent something, or will not within a short time."""
        if self._early or self.client.over:
            return succeed(None)
        self._first_bytes = Deferred()
        self._timer.set(FIRST_BYTES_WAIT, self._spoken)
        return self._first_bytes

    def _spoken(self) -> None:
        waiting, self._first_bytes = self._first_bytes, None
        if waiting is not None:
            self._expect_answer()
            waiting.callback(None)

    def _connected(self) -> None:
        """The remote end can be written to: all the way is there, or the optimistic request is sent."""
        if self._given_up:
            self.remote.abort()
            return
        stamp = self.notes.mark("connect")
        self.notes.stamps.setdefault("socket", stamp)  # an endpoint that connects at once
        self.notes.local_port = getattr(self.remote.transport.getHost(), "port", None)
        if not self._way_out.optimistic:
            self._reply(SUCCEEDED)
        early, self._early = self._early, b""
        if len(early) > MOST_EARLY and not self.client.over:
            self.client.transport.resumeProducing()
        self.client.forward_to(self.remote)
        self.remote.forward_to(self.client)
        if early:
            self.remote.transport.write(early)
        if self.client.over:
            self.remote.close_writing()
        if not self._way_out.awaits_reply:
            self._settled()

    def _granted(self, answer: Reply) -> None:
        """The SOCKS port behind has granted the request."""
        self.notes.code = answer.code
        if self.request is not None and self.request.command is not Command.CONNECT:
            self._resolved(answer.host)
        else:
            self._settled()

    def _resolved(self, answer: str) -> None:
        """The reply is all that was asked for; there is nothing to copy."""
        self.notes.answer = answer
        try:
            self._reply(SUCCEEDED, answer)
        except ValueError:
            self._fail(Error.SOCKS, f"the client's version of SOCKS cannot carry {answer}", GENERAL_FAILURE)
            return
        self.notes.close("proxy", "closed")
        self._give_up()
        self.client.close()

    def _settled(self) -> None:
        """Nothing is expected any more, besides an end."""
        self._timer.cancel()
        if self.client.over:
            self._linger()

    def _not_connected(self, failure: Failure) -> None:
        if isinstance(failure.value, SOCKSError):
            self._refused(failure.value)
        else:
            self._fail(Error.CONNECT, failure.getErrorMessage(), self._way_out.code(failure))
        self._check_over()

    def _refused(self, error: SOCKSError) -> None:
        """The SOCKS port behind refuses the request, breaks off before its reply, or does not speak SOCKS."""
        if isinstance(error, ReplyError):
            self.notes.code = error.code
            self.notes.close("remote", "refused")
            self._fail(error.errorcode, str(error), error.code)
        elif isinstance(error, ConnectionLostEarly):
            clean = error.__cause__ is None or isinstance(error.__cause__, ConnectionDone)
            self.notes.close("remote", "closed" if clean else "reset")
            self._fail(Error.CLOSED if clean else Error.RESET, str(error), None)
        else:
            self._fail(Error.SOCKS, str(error), GENERAL_FAILURE)

    # The end.

    def _half_closed(self, end: End) -> None:
        """The peer of ``end`` sends no more."""
        self.notes.close(end.name, "closed")
        if end.forward is None:
            self._said_all()
        elif self.client.over and self.remote.over:
            self.client.close()
            self.remote.close()
        elif end is self.client:
            self._pass_end(self.remote)
        elif (orderly := self.orderly_end()) is not None:
            self._timer.set(END_WAIT, partial(self._remote_ended, False))
            orderly.addCallback(self._remote_ended)
        else:
            self._pass_end(self.client)

    def _said_all(self) -> None:
        """The client sends no more, before anything could be forwarded."""
        if self._way_out.optimistic and self.request is not None:
            self._spoken()
        else:
            self._give_up()
            self.client.close()

    def _remote_ended(self, ended_well: bool | None) -> None:
        """The other side sends no more, and it is known whether that is the end of what the far end had to say.

        If it is not, as when a circuit breaks or tor is killed, the client must not take it for one.
        """
        if self._given_up or self.client.over:
            return
        if ended_well is False:
            self.notes.fail(Error.CLOSED, "tor closed the connection, and its stream had no orderly end")
            self._give_up()
            self.client.abort()
        else:
            self._pass_end(self.client)

    def _pass_end(self, end: End) -> None:
        end.close_writing()
        self._linger()

    def _lost(self, end: End, reason: Failure) -> None:
        if isinstance(reason.value, SOCKSError):  # an optimistic request
            self._refused(reason.value)
        clean = reason.check(ConnectionDone) is not None
        self.notes.close(end.name, "closed" if clean else "reset")
        if self.notes.closed == ("remote", "reset"):
            self.notes.fail(Error.RESET, "the connection from the other side was reset")
        other = self.remote if end is self.client else self.client
        if not self._given_up and clean and other.alive:
            other.close()
            self._linger()
        elif not self._given_up:
            self._give_up()
            other.abort()
        self._check_over()

    def _fail(self, errorcode: str, reason: str, code: int | None) -> None:
        """The request cannot be fulfilled: say so with ``code``, or break off if success was said already."""
        if self._given_up:
            return
        self.notes.close("proxy", "refused")
        self.notes.fail(errorcode, reason)
        self._give_up()
        if "replied" in self.notes.stamps:
            self.client.abort()
            return
        if code is not None and self.request is not None:
            self._reply(code)
        self.client.close()

    def _expired(self, reason: str) -> None:
        self.notes.close("proxy", "aborted")
        self._fail(Error.TIMEOUT, reason, TTL_EXPIRED)

    def _give_up(self) -> None:
        """Nothing goes to the other side or comes from it any more."""
        self._given_up = True
        self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self.remote.abort()
        if self.client.alive:
            self._linger()

    def _linger(self) -> None:
        """Break off when nothing moves any more for too long."""
        counts = (self.client.count, self.remote.count)

        def look() -> None:
            if counts == (self.client.count, self.remote.count):
                self.abort()
                self._timer.cancel()
            else:
                self._linger()

        self._timer.set(LINGER_TIMEOUT, look)

    def _check_over(self) -> None:
        connecting = self._connecting is not None and not self._connecting.called
        if self.client.lost and not connecting and not self.remote.alive and "end" not in self.notes.stamps:
            self._timer.cancel()
            self.notes.mark("end")
            self._over(self)

    # What all of this needs.

    def _callbacks(
        self, end: Callable[[], End], connected: Callable[[], None], heard: Callable[[bytes], None]
    ) -> EndCallbacks:
        return EndCallbacks(
            connected, heard, lambda: self._half_closed(end()), lambda reason: self._lost(end(), reason)
        )

    def _reply(self, code: int, *answer: str) -> None:
        assert self.request is not None
        self.client.transport.write(reply(self.request.version, code, *answer))
        self.notes.mark("replied")

    def _expect_answer(self) -> None:
        self._expect_within(ANSWER_TIMEOUT, "no reply from the SOCKS port")

    def _expect_within(self, seconds: float, complaint: str) -> None:
        self._timer.set(seconds, partial(self._expired, f"{complaint} within {seconds:g} s"))
