"""The SOCKS machines: bytes in, bytes and events out, no network."""

from __future__ import annotations

import ast
import ipaddress
import pickle
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from perfd import socks
from perfd.socks import errors, machine
from perfd.socks.machine import (
    Command,
    Connected,
    Event,
    Failed,
    Machine,
    Negotiated,
    Reply,
    RequestSent,
    Send,
    SOCKS4Machine,
    SOCKS5Machine,
    State,
)
from perfd.socks.testing import FakeSOCKSServer, SOCKSAnswers, SOCKSRequest

GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
BOTH = {"anonymous": (), "login": ("spam", "eggs")}


def run(client: Machine, answers: SOCKSAnswers | None = None) -> tuple[list[Event], FakeSOCKSServer]:
    """Let a machine talk to the fake server until both are silent; all events, and the server."""
    server = FakeSOCKSServer(answers)
    events = list(client.start())
    unread = list(events)
    while unread:
        event = unread.pop(0)
        if isinstance(event, Send) and (answer := server.receive(event.data)):
            news = client.receive(answer)
            events += news
            unread += news
    return events, server


def error_of(events: list[Event]) -> errors.SOCKSError:
    failed = events[-1]
    assert isinstance(failed, Failed)
    return failed.error


def started(client: Machine) -> Machine:
    client.start()
    return client


class SOCKS5Tests(SynchronousTestCase):
    """RFC 1928 and RFC 1929."""

    def test_anonymous(self) -> None:
        """Without authentication: greeting, request, reply, in that order and nothing else."""
        events, server = run(SOCKS5Machine("example.com", 80))
        self.assertEqual(
            events,
            [
                Send(b"\x05\x01\x00"),
                Negotiated(0x00),
                Send(b"\x05\x01\x00\x03\x0bexample.com\x00\x50"),
                RequestSent(),
                Connected(Reply(0, "0.0.0.0", 0), b""),
            ],
        )
        self.assertEqual(server.request, SOCKSRequest(5, "name", "example.com", 80))

    def test_login(self) -> None:
        """User name and password are sent as RFC 1929 says, and the request follows their acceptance."""
        events, server = run(SOCKS5Machine(b"example.com", 80, {"login": ("spam", b"eggs")}))
        self.assertEqual(events[:2], [Send(b"\x05\x01\x02"), Send(b"\x01\x04spam\x04eggs")])
        self.assertEqual(events[2], Negotiated(0x02))
        self.assertEqual(server.request, SOCKSRequest(5, "name", "example.com", 80, b"spam", b"eggs"))

    def test_resolve(self) -> None:
        """Tor's commands: a name, or an address as one; the answer is the address of the reply."""
        for host, command, kind, bound in (
            ("example.com", Command.RESOLVE, "name", "192.0.2.1"),
            ("192.0.2.1", Command.RESOLVE_PTR, "ipv4", "a.example"),
            ("2001:db8::1", Command.RESOLVE_PTR, "ipv6", "a.example"),
        ):
            client = SOCKS5Machine(host, 0, command=command)
            events, server = run(client, SOCKSAnswers(bound=(bound, 0)))
            self.assertEqual(server.request, SOCKSRequest(5, kind, host, 0, command=command))
            self.assertEqual(events[-1], Connected(Reply(0, bound, 0), b""))
        self.assertRaises(ValueError, SOCKS5Machine, "example.com", 0, command=Command.RESOLVE_PTR)

    def test_pipelined(self) -> None:
        """The request goes out with the login, and the answers to both are read in their order."""
        client = started(SOCKS5Machine("example.com", 80, {"login": ("spam", "eggs")}, pipelined=True))
        request = b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
        events = client.receive(b"\x05\x02")
        self.assertEqual(events, [Send(b"\x01\x04spam\x04eggs"), Send(request), RequestSent()])
        self.assertEqual(client.receive(b"\x01\x00"), [Negotiated(2)])
        self.assertEqual(client.receive(GRANTED), [Connected(Reply(0, "0.0.0.0", 0), b"")])
        client = started(SOCKS5Machine("example.com", 80, pipelined=True))
        self.assertEqual(client.receive(b"\x05\x00"), [Negotiated(0), Send(request), RequestSent()])
        refused = started(SOCKS5Machine("a", 80, {"login": ("spam", "eggs")}, pipelined=True))
        refused.receive(b"\x05\x02")
        self.assertIsInstance(error_of(refused.receive(b"\x01\x01")), errors.LoginAuthenticationFailed)

    def test_both_methods(self) -> None:
        """With both methods offered the proxy chooses."""
        for method, user in ((0x00, None), (0x02, b"spam")):
            events, server = run(SOCKS5Machine("example.com", 80, BOTH), SOCKSAnswers(method=method))
            self.assertEqual(server.offered, (0x00, 0x02))
            self.assertIn(Negotiated(method), events)
            assert server.request is not None
            self.assertEqual(server.request.user, user)

    def test_address_types(self) -> None:
        """IPv6 literals are sent as addresses, everything else as a name, str or bytes alike."""
        for host, kind, sent in (
            ("192.0.2.1", "name", "192.0.2.1"),
            ("2001:db8::1", "ipv6", "2001:db8::1"),
            ("127.1", "name", "127.1"),
            ("bücher.example", "name", "xn--bcher-kva.example"),
            ("x" * 255, "name", "x" * 255),
        ):
            for given_host in (host, host.encode()) if host.isascii() else (host,):
                events, server = run(SOCKS5Machine(given_host, 65535))
                self.assertEqual(server.request, SOCKSRequest(5, kind, sent, 65535))
                self.assertIsInstance(events[-1], Connected)

    def test_bound_address(self) -> None:
        """The bound address is read in every form."""
        for bound in (("192.0.2.1", 1), ("2001:db8::1", 65535), ("bound.example", 443), ("", 0)):
            events, _ = run(SOCKS5Machine("example.com", 80), SOCKSAnswers(bound=bound))
            self.assertEqual(events[-1], Connected(Reply(0, *bound), b""))

    def test_leftover(self) -> None:
        """What follows the reply is given out untouched."""
        payload = bytes(range(256)) * 300
        events, _ = run(SOCKS5Machine("example.com", 80), SOCKSAnswers(payload=payload))
        self.assertEqual(events[-1], Connected(Reply(0, "0.0.0.0", 0), payload))

    def test_answers_in_one_segment(self) -> None:
        """A proxy that sends its answers ahead is understood; the client's bytes stay in order."""
        client = started(SOCKS5Machine("example.com", 80))
        events = client.receive(b"\x05\x00" + GRANTED + b"hello")
        self.assertEqual(
            [type(event) for event in events],
            [Negotiated, Send, RequestSent, Connected],
        )
        self.assertEqual(events[-1], Connected(Reply(0, "0.0.0.0", 0), b"hello"))

    def test_refusals(self) -> None:
        """Each reply code is an exception of its own, which carries the code and says it in words."""
        seen = set()
        for code in [*range(0x01, 0x09), *range(0xF0, 0xF8)]:
            events, server = run(SOCKS5Machine("example.com", 80), SOCKSAnswers(code=code))
            refusal = error_of(events)
            self.assertIs(type(refusal), errors.socks5ErrorMap[code])
            self.assertIsInstance(refusal, errors.ReplyError)
            self.assertEqual((refusal.code, str(refusal)), (code, refusal.message))
            self.assertTrue(server.closing)
            seen.add((type(refusal), refusal.message))
        self.assertEqual(len(seen), 16)

    def test_unknown_refusal(self) -> None:
        """A reply code that nobody defined is told as it is."""
        refusal = error_of(run(SOCKS5Machine("example.com", 80), SOCKSAnswers(code=0x42))[0])
        self.assertIs(type(refusal), errors.UnknownReplyCode)
        self.assertEqual(
            (refusal.code, str(refusal)), (0x42, "the proxy answered with the unknown reply code 0x42")
        )

    def test_refusal_without_address(self) -> None:
        """A refusal counts as soon as its code is read, even if the proxy cuts off the rest."""
        client = started(SOCKS5Machine("example.com", 80))
        client.receive(b"\x05\x00")
        self.assertIsInstance(error_of(client.receive(b"\x05\x05")), errors.ConnectionRefused)

    def test_no_acceptable_method(self) -> None:
        """Method 0xFF is a refusal of all that was offered."""
        refusal = error_of(run(SOCKS5Machine("example.com", 80), SOCKSAnswers(method=0xFF))[0])
        self.assertIs(type(refusal), errors.NoAcceptableMethods)
        self.assertIsInstance(refusal, errors.MethodsNotAcceptedError)
        self.assertEqual(refusal.code, 0xFF)
        self.assertEqual(refusal.args, (refusal.message, {b"\x00": ()}, b"\xff"))

    def test_method_not_offered(self) -> None:
        """A method that was not offered is never used: a login is not given to whoever asks for it."""
        for methods, chosen in (({"anonymous": ()}, 0x02), ({"login": ("a", "b")}, 0x00), (BOTH, 0x01)):
            client = started(SOCKS5Machine("example.com", 80, methods))
            events = client.receive(bytes((5, chosen)))
            self.assertEqual(len(events), 1)
            self.assertIs(type(error_of(events)), errors.MethodsNotAcceptedError)
            refusal = error_of(events)
            offered = {{"anonymous": b"\x00", "login": b"\x02"}[name]: given for name, given in methods.items()}
            self.assertEqual((refusal.code, refusal.args), (chosen, (str(refusal), offered, bytes((chosen,)))))

    def test_failed_login(self) -> None:
        """A rejected login carries the proxy's status."""
        client = SOCKS5Machine("example.com", 80, {"login": ("spam", "eggs")})
        refusal = error_of(run(client, SOCKSAnswers(login_status=0x7F))[0])
        self.assertIs(type(refusal), errors.LoginAuthenticationFailed)
        self.assertEqual(refusal.code, 0x7F)
        self.assertNotIn("eggs", str(refusal))

    def test_wrong_versions(self) -> None:
        """A wrong version is told from the first byte on, in each of the three answers."""
        login = {"login": ("spam", "eggs")}
        for methods, before, wrong in (
            (login, b"", b"H"),
            (login, b"\x05\x02", b"\x05"),
            (login, b"\x05\x02\x01\x00", b"\x04"),
        ):
            client = started(SOCKS5Machine("example.com", 80, methods))
            client.receive(before)
            refusal = error_of(client.receive(wrong))
            self.assertIs(type(refusal), errors.InvalidServerVersion)
            self.assertEqual(refusal.code, wrong[0])

    def test_unknown_address_type(self) -> None:
        """A reply whose address cannot be read is no reply."""
        events, _ = run(SOCKS5Machine("example.com", 80), SOCKSAnswers(raw={"reply": b"\x05\x00\x00\x02abc"}))
        self.assertIs(type(error_of(events)), errors.InvalidServerReply)

    def test_bound_name_of_any_bytes(self) -> None:
        """A bound name that is not ASCII is shown escaped."""
        raw = {"reply": b"\x05\x00\x00\x03\x02\xff\n\x00\x01"}
        events, _ = run(SOCKS5Machine("example.com", 80), SOCKSAnswers(raw=raw))
        self.assertEqual(events[-1], Connected(Reply(0, "\\xff\n", 1), b""))

    def test_limits(self) -> None:
        """What SOCKS 5 cannot carry is refused before there is a connection."""
        for args in (
            ("", 80),
            (b"", 80),
            ("x" * 256, 80),
            ("é" * 256, 80),
            ("a\0b", 80),
            ("example.com", 0),
            ("example.com", -1),
            ("example.com", 65536),
            ("example.com", 80, {}),
            ("example.com", 80, {"gssapi": ()}),
            ("example.com", 80, {"anonymous": ("spam",)}),
            ("example.com", 80, {"login": ()}),
            ("example.com", 80, {"login": ("spam",)}),
            ("example.com", 80, {"login": ("x" * 256, "eggs")}),
            ("example.com", 80, {"login": ("spam", b"x" * 256)}),
            ("example.com", 80, {"login": ("é" * 128, "eggs")}),
        ):
            with self.subTest(args=args):
                self.assertRaises(ValueError, SOCKS5Machine, *args)

    def test_empty_login(self) -> None:
        """An empty password, or user name, is sent with a length of 0."""
        for login in (("spam", ""), ("", "eggs"), ("", "")):
            events, server = run(SOCKS5Machine("example.com", 80, {"login": login}))
            user, password = (each.encode() for each in login)
            sent = b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password
            self.assertEqual(events[1], Send(sent))
            assert server.request is not None
            self.assertEqual((server.request.user, server.request.password), (user, password))

    def test_longest_login(self) -> None:
        """255 bytes are the longest user name and password."""
        _, server = run(SOCKS5Machine("example.com", 80, {"login": ("u" * 255, "p" * 255)}))
        assert server.request is not None
        self.assertEqual((server.request.user, server.request.password), (b"u" * 255, b"p" * 255))


class SOCKS4Tests(SynchronousTestCase):
    """The SOCKS 4 and 4a documents."""

    def test_address(self) -> None:
        """An IPv4 literal goes as SOCKS 4."""
        events, server = run(SOCKS4Machine("192.0.2.1", 80, "spam"))
        self.assertEqual(
            events,
            [
                Send(b"\x04\x01\x00\x50\xc0\x00\x02\x01spam\x00"),
                RequestSent(),
                Connected(Reply(0x5A, "0.0.0.0", 0), b""),
            ],
        )
        self.assertEqual(server.request, SOCKSRequest(4, "ipv4", "192.0.2.1", 80, b"spam"))

    def test_name(self) -> None:
        """Anything else goes as a name in SOCKS 4a."""
        for host in ("example.com", b"example.com"):
            events, server = run(SOCKS4Machine(host, 80))
            self.assertEqual(events[0], Send(b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.com\x00"))
            self.assertEqual(server.request, SOCKSRequest(4, "name", "example.com", 80, b""))

    def test_bound_address_and_leftover(self) -> None:
        """The bound address is read, and what follows the reply is given out."""
        events, _ = run(SOCKS4Machine("example.com", 80), SOCKSAnswers(bound=("192.0.2.7", 4321), payload=b"hello"))
        self.assertEqual(events[-1], Connected(Reply(0x5A, "192.0.2.7", 4321), b"hello"))

    def test_refusals(self) -> None:
        """Each reply code is an exception of its own."""
        for code, expected in (
            (0x5B, errors.RequestRejectedOrFailed),
            (0x5C, errors.IdentdUnreachable),
            (0x5D, errors.IdentdMismatch),
            (0x00, errors.UnknownReplyCode),
        ):
            refusal = error_of(run(SOCKS4Machine("example.com", 80), SOCKSAnswers(code=code))[0])
            self.assertIs(type(refusal), expected)
            self.assertEqual(refusal.code, code)

    def test_wrong_version(self) -> None:
        """A reply's version is 0; a SOCKS 5 proxy or a web server does not say that."""
        for answer in (b"\x05\xff", b"HTTP/1.1 400 Bad Request\r\n", b"\x04\x5a"):
            refusal = error_of(started(SOCKS4Machine("example.com", 80)).receive(answer))
            self.assertIs(type(refusal), errors.InvalidServerVersion)
            self.assertEqual(refusal.code, answer[0])

    def test_limits(self) -> None:
        """What SOCKS 4 cannot carry is refused before there is a connection."""
        for args in (
            ("", 80),
            ("x" * 256, 80),
            ("a\0b", 80),
            ("0.0.0.1", 80),
            ("0.0.0.255", 80),
            ("example.com", 0),
            ("example.com", 65536),
            ("example.com", 80, "x" * 256),
            ("example.com", 80, b"a\0b"),
        ):
            with self.subTest(args=args):
                self.assertRaises(ValueError, SOCKS4Machine, *args)


class MachineTests(SynchronousTestCase):
    """What both versions have in common."""

    def test_closed_early(self) -> None:
        """A proxy that closes in the middle of any answer is told with what was missing."""
        for client, received, missing in (
            (SOCKS5Machine("a", 1), b"", "method selection"),
            (SOCKS5Machine("a", 1), b"\x05", "method selection"),
            (SOCKS5Machine("a", 1, BOTH), b"\x05\x02\x01", "answer to user name and password"),
            (SOCKS5Machine("a", 1), b"\x05\x00" + GRANTED[:-1], "reply"),
            (SOCKS4Machine("a", 1), b"\x00\x5a\x00\x00\x00\x00\x00", "reply"),
        ):
            started(client).receive(received)
            refusal = error_of(list(client.close()))
            self.assertIs(type(refusal), errors.ConnectionLostEarly)
            self.assertEqual(str(refusal), f"the proxy closed the connection before its {missing}")
            self.assertIsNone(refusal.code)
            self.assertEqual(list(client.close()), [])

    def test_closed_after_the_end(self) -> None:
        """A close after the reply is the application's business."""
        client = SOCKS4Machine("a", 1)
        run(client)
        self.assertEqual(client.state, State.CONNECTED)
        self.assertEqual(list(client.close()), [])

    def test_silent_after_failure(self) -> None:
        """After a failure nothing more is read or sent."""
        client = started(SOCKS4Machine("a", 1))
        client.receive(b"\x01")
        self.assertEqual(client.state, State.FAILED)
        self.assertEqual(list(client.receive(b"\x00\x5a\x00\x00\x00\x00\x00\x00")), [])

    def test_out_of_turn(self) -> None:
        """A machine that is used out of turn says so, rather than lose bytes."""
        client = SOCKS4Machine("a", 1)
        self.assertRaises(errors.StateError, client.receive, b"\x00")
        run(client)
        self.assertRaises(errors.StateError, client.start)
        self.assertRaises(errors.StateError, client.receive, b"\x00")

    def test_no_twisted(self) -> None:
        """The machines import neither Twisted nor anything else that does I/O."""
        tree = ast.parse(Path(machine.__file__).read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        self.assertNotIn("twisted", {str(name).split(".")[0] for name in imported})


class ErrorTests(SynchronousTestCase):
    """The exception classes."""

    def test_one_base(self) -> None:
        """One except catches them all, and the package exports them all, but no shadow of a builtin."""
        classes = [
            each for each in vars(errors).values() if isinstance(each, type) and each.__module__ == errors.__name__
        ]
        self.assertEqual([each for each in classes if not issubclass(each, errors.SOCKSError)], [])
        names = {each.__name__ for each in classes} - {"ConnectionError"}
        self.assertEqual(names - set(socks.__all__), set())
        self.assertEqual([name for name in socks.__all__ if not hasattr(socks, name)], [])

    def test_txsocksx_style(self) -> None:
        """Without arguments a class has its own code and message; both can be given."""
        self.assertEqual(errors.TTLExpired().args, ("TTL expired",))
        given_error = errors.SOCKSError("spam", 7)
        self.assertEqual((str(given_error), given_error.message, given_error.code), ("spam", "spam", 7))

    def test_lost_early_is_also_twisteds(self) -> None:
        """Code that traps Twisted's errors for a closed connection, as txsocksx gave, still does."""
        lost = errors.ConnectionLostEarly("spam")
        self.assertIsInstance(lost, error.ConnectionDone)
        self.assertIsInstance(lost, error.ConnectionLost)
        self.assertEqual(str(lost), "spam")

    def test_pickle(self) -> None:
        """An error survives the way to another process."""
        copy = pickle.loads(pickle.dumps(errors.UnknownReplyCode("spam", 9)))
        self.assertEqual((type(copy), str(copy), copy.code), (errors.UnknownReplyCode, "spam", 9))
        refused = errors.MethodsNotAcceptedError("spam", {b"\x00": ()}, b"\x01")
        copy = pickle.loads(pickle.dumps(refused))
        self.assertEqual((type(copy), copy.args, copy.code), (type(refused), refused.args, 1))


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def feed(client: Machine, pieces: list[bytes]) -> tuple[list[Event], bytes, Machine]:
    """All events of a machine that gets the pieces, and the application's bytes behind them."""
    events = list(client.start())
    application = b""
    for piece in pieces:
        if client.state is State.CONNECTED:
            application += piece
        else:
            events += client.receive(piece)
    if isinstance(events[-1], Connected):
        application = events[-1].leftover + application
        events[-1] = Connected(events[-1].reply, b"")
    return events, application, client


def comparable(events: list[Event]) -> list[object]:
    """The events with each error as its class, code and message."""
    return [
        (type(event.error), event.error.code, str(event.error)) if isinstance(event, Failed) else event
        for event in events
    ]


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: b"\x01" + ip.packed),
    st.ip_addresses(v=6).map(lambda ip: b"\x04" + ip.packed),
    st.binary(max_size=255).map(lambda name: bytes((3, len(name))) + name),
)
CUTS = st.lists(st.integers(min_value=0, max_value=2**16), max_size=40)
PORTS = st.integers(min_value=0, max_value=65535).map(lambda port: port.to_bytes(2, "big"))
PAYLOADS = st.binary(max_size=600)
METHODS = st.sampled_from([{"anonymous": ()}, {"login": ("spam", "eggs")}, BOTH])


@given(ADDRESSES, PORTS, PAYLOADS, st.booleans(), CUTS)
def test_any_chunking_of_a_grant(address: bytes, port: bytes, payload: bytes, login: bool, cuts: list[int]) -> None:
    """However the proxy's bytes are cut: the same bytes sent, the same events, the same payload."""
    answers = (b"\x05\x02\x01\x00" if login else b"\x05\x00") + b"\x05\x00\x00" + address + port + payload
    whole, _, _ = feed(SOCKS5Machine("example.com", 80, BOTH), [answers])
    cut, application, client = feed(SOCKS5Machine("example.com", 80, BOTH), in_pieces(answers, cuts))
    assert client.state is State.CONNECTED
    assert cut == whole
    assert application == payload


@given(
    st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda rest: b"\x05\x00\x05\x00\x00" + rest)),
    METHODS,
    CUTS,
)
def test_any_garbage_socks5(garbage: bytes, methods: machine.Methods, cuts: list[int]) -> None:
    """Whatever a proxy sends and however it cuts it: connected, waiting or one clear error, never an exception."""
    whole, _, first = feed(SOCKS5Machine("example.com", 80, methods), [garbage])
    cut, _, second = feed(SOCKS5Machine("example.com", 80, methods), in_pieces(garbage, cuts))
    assert comparable(cut) == comparable(whole)
    assert first.state is second.state
    assert comparable(list(first.close())) == comparable(list(second.close()))
    assert first.state in {State.CONNECTED, State.FAILED}


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=99).map(lambda rest: b"\x00" + rest)), CUTS)
def test_any_garbage_socks4(garbage: bytes, cuts: list[int]) -> None:
    """The same for SOCKS 4."""
    whole, _, first = feed(SOCKS4Machine("example.com", 80), [garbage])
    cut, _, second = feed(SOCKS4Machine("example.com", 80), in_pieces(garbage, cuts))
    assert comparable(cut) == comparable(whole)
    assert first.state is second.state


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.text(st.characters(codec="ascii", exclude_characters="\0:"), min_size=1, max_size=255),
    ),
    st.integers(min_value=1, max_value=65535),
    st.binary(min_size=1, max_size=255),
    st.binary(min_size=1, max_size=255),
)
def test_any_request_is_understood(host: str, port: int, user: bytes, password: bytes) -> None:
    """Every host, port and login that is accepted reaches a strict proxy as it was given."""
    _, server = run(SOCKS5Machine(host, port, {"login": (user, password)}))
    assert server.request is not None
    try:
        expected = str(ipaddress.ip_address(host))
    except ValueError:
        expected = host
    request = server.request
    assert (request.host, request.port, request.user, request.password) == (expected, port, user, password)
