"""A session of WebDriver BiDi with a browser that only the test plays, in memory."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from perfd.browser import bidi
from perfd.browser.bidi import BidiError, Session


class Transport(StringTransport):
    """A transport that a TCP connection has."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits here."""

    def abortConnection(self) -> None:
        self.aborted = True


class Endpoint:
    """Connects at once, to ``transport``."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.session: Any = None

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self.session = factory.buildProtocol(None)
        self.session.makeConnection(self.transport)
        connected: Deferred[Any] = Deferred()
        connected.callback(self.session)
        return connected


class Heard:
    """Keeps what a session tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.lost: list[str] = []

    def event_received(self, method: str, params: Mapping[str, Any]) -> None:
        self.events.append((method, params))

    def session_lost(self, reason: str) -> None:
        self.lost.append(reason)


class SessionTests(SynchronousTestCase):
    """Commands, events, and the ways in which a connection ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.server = WSConnection(ConnectionType.SERVER)
        self.connecting = Deferred.fromCoroutine(Session.connect(self.clock, self.endpoint, 4444))  # type: ignore[arg-type]

    def received(self) -> list[Event]:
        """What the browser got since the last time."""
        self.server.receive_data(self.endpoint.transport.value())
        self.endpoint.transport.clear()
        return list(self.server.events())

    def send(self, *events: Event) -> None:
        self.endpoint.session.dataReceived(b"".join(self.server.send(event) for event in events))

    def say(self, **message: Any) -> None:
        self.send(TextMessage(data=json.dumps(message)))

    def open(self) -> Session:
        self.received()
        self.send(AcceptConnection())
        session: Session = self.successResultOf(self.connecting)
        self.heard = session.listener = Heard()
        return session

    def do(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)

    def assertBidiError(self, waiting: Deferred[Any], code: str) -> BidiError:
        error = self.failureResultOf(waiting, BidiError).value
        self.assertEqual(error.code, code)
        return error

    def test_handshake(self) -> None:
        """The Host header has the port, and no Origin is sent: Firefox refuses both otherwise."""
        (request,) = self.received()
        assert isinstance(request, Request)
        self.assertEqual((request.host, request.target), ("127.0.0.1:4444", "/session"))
        self.assertNotIn(b"origin", {name.lower() for name, _ in request.extra_headers})

    def test_refused(self) -> None:
        """A refused websocket fails the connect."""
        self.received()
        self.send(RejectConnection(status_code=400))
        self.assertIn("400", str(self.assertBidiError(self.connecting, bidi.CLOSED)))
        self.assertTrue(self.endpoint.transport.aborted)

    def test_not_a_websocket(self) -> None:
        """Something else at the port fails the connect."""
        self.endpoint.session.dataReceived(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")
        self.assertBidiError(self.connecting, bidi.CLOSED)

    def test_connect_cancelled(self) -> None:
        """A cancelled connect leaves no connection."""
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertTrue(self.endpoint.transport.aborted)

    def test_cannot_connect(self) -> None:
        """A connect that fails is told in the session's own way; one that is cancelled stays so."""
        for given, raised in (
            (ConnectionRefusedError(), BidiError),
            (ConnectingCancelledError(None), CancelledError),
        ):
            self.patch(self.endpoint, "connect", lambda factory, given=given: fail(given))
            connecting = self.do(Session.connect(self.clock, self.endpoint, 4444))  # type: ignore[arg-type]
            self.failureResultOf(connecting, raised)

    def test_commands(self) -> None:
        """Answers find their commands in any order, events the listener; pings are answered."""
        session = self.open()
        first = self.do(session.command("session.status", 5))
        second = self.do(session.command("browser.close", 5, now=True))
        sent = [json.loads(event.data) for event in self.received() if isinstance(event, TextMessage)]
        self.assertEqual([each["method"] for each in sent], ["session.status", "browser.close"])
        self.assertEqual([each["params"] for each in sent], [{}, {"now": True}])
        self.say(type="event", method="log.entryAdded", params={"text": "ü"})
        self.say(type="error", id=sent[1]["id"], error="unknown command", message="what?")
        self.say(type="success", id=sent[0]["id"], result={"ready": True})
        self.send(Ping(payload=b"x"))
        self.assertEqual(self.successResultOf(first), {"ready": True})
        error = self.assertBidiError(second, "unknown command")
        self.assertEqual((error.message, error.lost), ("what?", False))
        self.assertEqual(self.heard.events, [("log.entryAdded", {"text": "ü"})])
        self.assertIsInstance(self.received()[0], Pong)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_answer(self) -> None:
        """A command has its time; an answer that comes later, or after a cancel, harms nobody."""
        session = self.open()
        late, cancelled = self.do(session.command("a.b", 5)), self.do(session.command("c.d", 50))
        numbers = [json.loads(event.data)["id"] for event in self.received() if isinstance(event, TextMessage)]
        self.clock.advance(4.9)
        self.assertNoResult(late)
        self.clock.advance(0.2)
        self.assertTrue(self.assertBidiError(late, bidi.NO_ANSWER).lost)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        for number in numbers:
            self.say(type="success", id=number, result={})
        self.assertIsNone(session.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """A closed websocket fails all commands, those to come too, and the listener is told."""
        session = self.open()
        waiting = self.do(session.command("a.b", 5))
        self.send(CloseConnection(code=1001))
        self.assertBidiError(waiting, bidi.CLOSED)
        self.assertBidiError(self.do(session.command("a.b", 5)), bidi.CLOSED)
        self.assertEqual(len(self.heard.lost), 1)
        self.assertIn("1001", session.closed or "")
        self.assertTrue(self.endpoint.transport.aborted)

    def test_garbage(self) -> None:
        """What is no message of BiDi ends the session with its beginning quoted."""
        for text in (
            "no JSON",
            "[]",
            "{}",
            '{"type": "success"}',
            '{"type": "event"}',
            '{"type": "event", "params": ' + "[" * 100_000 + "]" * 100_000 + "}",
            '{"type": "success", "id": ' + "9" * 5000 + "}",
        ):
            self.setUp()
            session = self.open()
            self.send(TextMessage(data=text))
            self.assertIn("not a message of WebDriver BiDi", session.closed or "", text)

    def test_result_that_is_none(self) -> None:
        """A result that is no object has nothing in it."""
        session = self.open()
        for given in ([], "text", 1, None, [1]):
            answered = self.do(session.command("a.b", 5))
            self.say(type="success", id=session._last_id, result=given)
            self.assertEqual(self.successResultOf(answered), {})

    def test_too_long(self) -> None:
        """A message without end is not collected for ever."""
        self.patch(bidi, "MOST_IN_MESSAGE", 1000)
        session = self.open()
        for _ in range(3):
            self.send(TextMessage(data="x" * 500, message_finished=False))
        self.assertIn("too long", session.closed or "")
