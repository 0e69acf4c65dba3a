"""One connection of a program: what it asks for, the way there through tor, the copying, and the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from perfd.clock import Anchor
from perfd.proxy.end import End, Listener
from perfd.proxy.records import Notes, ProxyConnection, address_text
from perfd.proxy.route import Route, opening
from perfd.proxy.timer import Timer
from perfd.record import Error
from perfd.socks.errors import ReplyError, SOCKSError
from perfd.socks.machine import Connected, Event, Failed, Negotiated, RequestSent, Send, SOCKS5Machine, State
from perfd.socks.server import (
    GENERAL_FAILURE,
    NEGOTIATION_TIMEOUT,
    SUCCEEDED,
    TTL_EXPIRED,
    Request,
    SocksRefusedError,
    SocksServerMachine,
    reply,
    reply_code,
)
from perfd.tor.events.join import Join, Joined

ANSWER_TIMEOUT = 180.0
"""Seconds for connecting and tor's reply together; tor's own SocksTimeout is 120 s."""

LINGER_TIMEOUT = 300.0
"""Seconds of silence after which a connection that one side has closed is broken off."""

STREAM_END_WAIT = 2.0
"""Seconds between the end of tor's connection and that of its stream on the control port; most often it is 1 ms."""

FIRST_BYTES_WAIT = 0.01
"""Seconds that an optimistic SOCKS request waits for the program's first bytes, to go out in one write."""

MOST_EARLY = 65536
"""Bytes that are kept of what a program sends before they may be forwarded; then it is not read from."""

_PAST_GREETING = (State.LOGIN, State.REPLY)


class Passage:
    """One program's connection. ``over`` is called when both ends are closed."""

    def __init__(
        self, route: Route, number: int, address: IAddress | None, over: Callable[[Passage], None]
    ) -> None:
        self.join: Join | None = None
        now = route.clock.monotonic
        self.client = End("client", now, self._listener(lambda: self.client, self._accepted, self._asked))
        self._remote = End("remote", now, self._listener(lambda: self._remote, self._connected, self._answered))
        self._notes = Notes(route.anchor or route.clock.anchor(), now)
        self._route = route
        self._number = number
        self._address = address
        self._over = over
        self._server = SocksServerMachine()
        self._request: Request | None = None
        self._machine: SOCKS5Machine | None = None
        self._opening = b""  # login and request, where they are sent at once
        self._early = b""
        self._connecting: Deferred[Any] | None = None
        self._timer = Timer(route.reactor)
        self._given_up = False

    @property
    def anchor(self) -> Anchor:
        """The clock of its record."""
        return self._notes.anchor

    def abort(self) -> None:
        """Break off both sides."""
        self._notes.close("proxy", "aborted")
        self._give_up()
        self.client.abort()

    def record(self, joined: Joined | None) -> ProxyConnection:
        """The record, when it is over."""
        notes, request = self._notes, self._request
        for end, first, last in (
            (self.client, "datarequest", "datasent"),
            (self._remote, "dataresponse", "datacomplete"),
        ):
            if end.first is not None and end.last is not None:
                notes.stamps |= {first: end.first, last: end.last}
        known = (
            {name: getattr(request, name) for name in ("version", "host", "port")} if request is not None else {}
        )
        return notes.record(
            joined,
            **known,
            number=self._number,
            client=address_text(self._address),
            optimistic=self._route.optimistic,
            username=self._route.username(request),
            writebytes=self.client.count,
            readbytes=self._remote.count,
        )

    # The program's request.

    def _accepted(self) -> None:
        self._notes.mark("start")
        self._expect_within(NEGOTIATION_TIMEOUT, "the client did not say where it wants to go")

    def _asked(self, data: bytes) -> None:
        """Bytes from the program, before they may be forwarded."""
        if self._given_up:
            return
        if self._request is None:
            try:
                to_send, self._request = self._server.feed(data)
            except SocksRefusedError as refused:
                self.client.transport.write(refused.reply)
                self._fail(Error.SOCKS, f"the client's request: {refused}", None)
                return
            if to_send:
                self.client.transport.write(to_send)
            if self._request is None:
                return
            self._notes.mark("asked")
            self._take_early(self._server.rest)
            self._connect(self._request)
        else:
            self._take_early(data)
            if self._may_ask:
                self._ask()

    def _take_early(self, data: bytes) -> None:
        if not data:
            return
        self.client.note(data)
        self._early += data
        if len(self._early) > MOST_EARLY:
            self.client.transport.pauseProducing()

    # The way there.

    def _connect(self, request: Request) -> None:
        self._expect_within(ANSWER_TIMEOUT, "no reply from the SOCKS port")
        optimistic = self._route.optimistic
        try:
            if self._route.socks is not None:
                methods = self._route.methods(request)
                self._machine = SOCKS5Machine(request.host, request.port, methods)
                self._opening = opening(request, methods) if optimistic else b""
            endpoint = self._route.endpoint(request)
        except (RuntimeError, ValueError) as error:
            self._fail(Error.CONNECT, str(error), GENERAL_FAILURE)
            return
        if optimistic:
            self._reply(SUCCEEDED)
        factory = Factory.forProtocol(lambda: self._remote)
        factory.noisy = False
        self._connecting = maybeDeferred(endpoint.connect, factory)
        self._notes.mark("socket")
        self._connecting.addErrback(self._not_connected)

    def _not_connected(self, failure: Failure) -> None:
        code = GENERAL_FAILURE if self._route.socks is not None else reply_code(failure)
        self._fail(Error.CONNECT, failure.getErrorMessage(), code)
        self._check_over()

    def _connected(self) -> None:
        stamp = self._notes.mark("connect")
        self._notes.stamps.setdefault("socket", stamp)  # an endpoint that connects at once
        if self._given_up:
            self._remote.abort()
            return
        local = self._remote.transport.getHost()
        self._notes.local_port = getattr(local, "port", None)
        if self._route.events is not None and self._route.socks is not None:
            # Before anything is written, so before tor can tell about the stream.
            address = (getattr(local, "host", ""), self._notes.local_port or 0)
            self.join = self._route.events.join(address, stamp, self._route.measurement)
        if self._machine is None:
            self._established(b"")
        else:
            self._act(self._machine.start())

    def _answered(self, data: bytes) -> None:
        """Bytes from tor, before they may be forwarded."""
        if self._machine is None or self._given_up:
            return
        self._act(self._machine.receive(data))
        if self._may_ask:
            if self._early or self.client.over:
                self._ask()
            else:
                self._timer.set(FIRST_BYTES_WAIT, self._ask)

    @property
    def _may_ask(self) -> bool:
        """Whether the optimistic request can be sent, and was not yet: tor has answered the greeting.

        The greeting itself is sent alone, as soon as there is a connection: of a greeting and a login that come
        together, tor 0.4.9 answers only the login.
        """
        return self._opening != b"" and self._machine is not None and self._machine.state in _PAST_GREETING

    def _ask(self) -> None:
        """The optimistic request: login, request and the program's first bytes in one write."""
        self._expect_within(ANSWER_TIMEOUT, "no reply from the SOCKS port")
        opening, self._opening = self._opening, b""
        self._early = opening + self._early
        self._notes.mark("request")
        self._forward_from_client()

    def _act(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Send(data) if self._asks_itself:
                    self._remote.transport.write(data)
                case Negotiated():
                    self._notes.mark("negotiate")
                case RequestSent() if self._asks_itself:
                    self._notes.mark("request")
                case Connected(answer, leftover):
                    self._notes.mark("response")
                    self._notes.code = answer.code
                    self._established(leftover)
                case Failed(error):
                    self._refused(error)

    @property
    def _asks_itself(self) -> bool:
        """Whether the machine's bytes go out one by one; of an optimistic connection, only its greeting."""
        greeting = self._machine is not None and self._machine.state is State.METHOD
        return greeting or not self._route.optimistic

    def _established(self, leftover: bytes) -> None:
        self._timer.cancel()
        if not self._route.optimistic:
            self._reply(SUCCEEDED)
        if self.client.forward is None:
            self._forward_from_client()
        self._remote.forward_to(self.client)
        if leftover:
            self._remote.dataReceived(leftover)

    def _forward_from_client(self) -> None:
        early, self._early = self._early, b""
        if len(early) > MOST_EARLY and not self.client.over:
            self.client.transport.resumeProducing()
        self.client.forward_to(self._remote)
        if early:
            self._remote.transport.write(early)
        if self.client.over:
            self._remote.close_writing()
            self._linger()

    def _refused(self, error: SOCKSError) -> None:
        """Tor's reply refuses the request, or it is none."""
        if isinstance(error, ReplyError):
            self._notes.mark("response")
            self._notes.code = error.code
            self._notes.close("remote", "refused")
            self._fail(error.errorcode, str(error), error.code)
        else:
            self._fail(Error.SOCKS, str(error), GENERAL_FAILURE)

    # The end.

    def _half_closed(self, end: End) -> None:
        """The peer of ``end`` sends no more."""
        self._notes.close(end.name, "closed")
        other = self._remote if end is self.client else self.client
        if end.forward is not None and other.over:
            self.client.close()
            self._remote.close()
        elif end.forward is not None and end is self._remote and self.join is not None:
            self._timer.set(STREAM_END_WAIT, partial(self._remote_ended, False))
            self.join.when_ended().addCallback(self._remote_ended)
        elif end.forward is not None:
            other.close_writing()
            self._linger()
        elif end is self._remote:
            self._lost_early()
        elif self._route.optimistic and self._request is not None:
            pass  # it has said all that it wants to say; that will be forwarded
        else:
            self._give_up()
            self.client.close()

    def _remote_ended(self, ended_well: bool | None) -> None:
        """Tor sends no more, and it is known whether that is the end of what the far end had to say.

        If it is not, as when a circuit breaks or tor is killed, the program must not take it for one.
        """
        if self._given_up or self.client.over:
            return
        if ended_well is False:
            self._notes.fail(Error.CLOSED, "tor closed the connection, and its stream had no orderly end")
            self._give_up()
            self.client.abort()
        else:
            self.client.close_writing()
            self._linger()

    def _lost(self, end: End, reason: Failure) -> None:
        clean = reason.check(ConnectionDone) is not None
        self._notes.close(end.name, "closed" if clean else "reset")
        other = self._remote if end is self.client else self.client
        if end is self._remote and end.forward is None:
            self._lost_early()
        elif self._notes.closed == ("remote", "reset"):
            self._notes.fail(Error.RESET, "the connection from tor was reset")
        if not self._given_up and clean and other.alive:
            other.close()
            self._linger()
        elif not self._given_up:
            self._give_up()
            other.abort()
        self._check_over()

    def _lost_early(self) -> None:
        """Tor closed its connection before its reply; so the program gets none."""
        reset = self._notes.closed == ("remote", "reset")
        self._fail(Error.RESET if reset else Error.CLOSED, "tor closed the connection before its reply", None)

    def _fail(self, errorcode: str, reason: str, code: int | None) -> None:
        """The request cannot be fulfilled: say so with ``code``, or break off if success was said already."""
        if self._given_up:
            return
        self._notes.close("proxy", "refused")
        self._notes.fail(errorcode, reason)
        self._give_up()
        if "replied" in self._notes.stamps:
            self.client.abort()
            return
        if code is not None and self._request is not None:
            self._reply(code)
        self.client.close()

    def _expired(self, reason: str) -> None:
        self._notes.close("proxy", "aborted")
        self._fail(Error.TIMEOUT, reason, TTL_EXPIRED)

    def _give_up(self) -> None:
        """Nothing goes to tor or comes from it any more."""
        self._given_up = True
        self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._remote.abort()
        if self.client.alive:
            self._linger()

    def _linger(self) -> None:
        """Break off when nothing moves any more for too long."""
        counts = (self.client.count, self._remote.count)

        def look() -> None:
            if counts == (self.client.count, self._remote.count):
                self.abort()
                self._timer.cancel()
            else:
                self._linger()

        self._timer.set(LINGER_TIMEOUT, look)

    def _check_over(self) -> None:
        if (
            self.client.lost
            and (self._connecting is None or self._connecting.called)
            and not self._remote.alive
            and "end" not in self._notes.stamps
        ):
            self._timer.cancel()
            self._notes.mark("end")
            self._over(self)

    # What all of this needs.

    def _listener(
        self, end: Callable[[], End], connected: Callable[[], None], heard: Callable[[bytes], None]
    ) -> Listener:
        return Listener(
            connected, heard, lambda: self._half_closed(end()), lambda reason: self._lost(end(), reason)
        )

    def _reply(self, code: int) -> None:
        assert self._request is not None
        self.client.transport.write(reply(self._request.version, code))
        self._notes.mark("replied")

    def _expect_within(self, seconds: float, complaint: str) -> None:
        self._timer.set(seconds, partial(self._expired, f"{complaint} within {seconds:g} s"))
