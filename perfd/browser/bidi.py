"""WebDriver BiDi: one session with a browser over its websocket, as commands and events.

Source: the W3C's WebDriver BiDi, section 3 (transport, and the message framing) and 5 (the session). Firefox
listens on loopback without any authentication and takes one session at a time; it wants a Host header with the
port, and none with Origin.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import ProtocolError

MOST_IN_MESSAGE = 64 * 1024 * 1024
"""Characters of one message; the longest that are wanted are screenshots, as base64."""

CLOSED = "closed"
NO_ANSWER = "no answer"


class Listener(typing.Protocol):
    """Who is told of what the browser does."""

    def event_received(self, method: str, params: Mapping[str, Any]) -> None: ...

    def session_lost(self, reason: str) -> None: ...


class BidiError(Exception):
    """A command did not succeed. ``code`` is the browser's error code, ``closed`` or ``no answer``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message

    @property
    def lost(self) -> bool:
        """Whether the browser did not even answer."""
        return self.code in (CLOSED, NO_ANSWER)


class Session(Protocol):
    """The connection to a browser: commands that are answered in any order, and events in between."""

    transport: ITCPTransport
    _log = Logger()

    def __init__(self, reactor: IReactorTime, host: str) -> None:
        self.listener: Listener | None = None
        self.opened: Deferred[None] = Deferred()
        self._reactor = reactor
        self._host = host
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._text: list[str] = []
        self._length = 0
        self._last_id = 0
        self._pending: dict[int, Deferred[dict[str, Any]]] = {}
        self._closed: str | None = None

    @classmethod
    async def connect(cls, reactor: IReactorTime, endpoint: IStreamClientEndpoint, port: int) -> Session:
        """Open the websocket of a browser that listens on ``port``. Raises ``BidiError``."""
        host = f"127.0.0.1:{port}"
        factory = Factory.forProtocol(lambda: cls(reactor, host))
        factory.noisy = False
        try:
            session: Session = await endpoint.connect(factory)  # type: ignore[assignment]
        except (CancelledError, ConnectingCancelledError) as error:
            raise CancelledError from error
        except Exception as error:
            raise BidiError(CLOSED, f"{host}: {error}") from error
        try:
            await session.opened
        except BaseException:
            session.abort()
            raise
        return session

    @property
    def closed(self) -> str | None:
        """Why the connection is gone; None while it stands."""
        return self._closed

    async def command(self, method: str, timeout: float, **params: Any) -> dict[str, Any]:
        """The result of a command. Raises ``BidiError``: after ``timeout`` seconds with the code ``no answer``.

        An answer that comes later is dropped.
        """
        if self._closed is not None:
            raise BidiError(CLOSED, self._closed)
        self._last_id += 1
        number = self._last_id
        answer: Deferred[dict[str, Any]] = Deferred()
        self._pending[number] = answer
        overdue: IDelayedCall = self._reactor.callLater(timeout, self._give_up, number, method, timeout)
        try:
            self._send(TextMessage(data=json.dumps({"id": number, "method": method, "params": params})))
            return await answer
        finally:
            self._pending.pop(number, None)
            if overdue.active():
                overdue.cancel()

    def _give_up(self, number: int, method: str, timeout: float) -> None:
        self._pending.pop(number).errback(BidiError(NO_ANSWER, f"{method} was not answered in {timeout:g} s"))

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._send(Request(host=self._host, target="/session"))

    def dataReceived(self, data: bytes) -> None:
        try:
            self._websocket.receive_data(data)
            for event in self._websocket.events():
                self._take(event)
        except ProtocolError as error:
            self._end(f"websocket: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(reason.getErrorMessage())

    def _send(self, event: Event) -> None:
        self.transport.write(self._websocket.send(event))

    def _take(self, event: Event) -> None:
        match event:
            case TextMessage():
                self._text.append(event.data)
                self._length += len(event.data)
                # The browser is what is measured, and shows pages of strangers: it must not fill our memory.
                if self._length > MOST_IN_MESSAGE:
                    raise ProtocolError("a message is too long")
                if event.message_finished:
                    text, self._text, self._length = "".join(self._text), [], 0
                    self._message(text)
            case AcceptConnection():
                self.opened.callback(None)
            case RejectConnection():
                self._end(f"the browser refused the websocket with status {event.status_code}")
            case Ping():
                self._send(event.response())
            case CloseConnection():
                self._end(f"the browser closed the websocket with {event.code}")
            case _:
                pass

    def _message(self, text: str) -> None:
        try:
            message = json.loads(text)
            kind = message["type"]
            if kind == "event":
                if self.listener is not None:
                    self.listener.event_received(str(message["method"]), message["params"])
                return
            answer = self._pending.pop(message["id"], None)
            result = message.get("result")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"not a message of WebDriver BiDi: {text[:100]!r}") from error
        if answer is None:
            return  # given up, or cancelled
        if kind == "success":
            answer.callback(result if isinstance(result, dict) else {})
        else:
            answer.errback(BidiError(str(message.get("error")), str(message.get("message"))))

    def _end(self, reason: str) -> None:
        if self._closed is not None:
            return
        self._closed = reason
        self.abort()
        if self.listener is not None:
            self.listener.session_lost(reason)
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            answer.errback(BidiError(CLOSED, reason))
        if not self.opened.called:
            self.opened.errback(BidiError(CLOSED, reason))
