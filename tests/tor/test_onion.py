"""Onion services: publishing one, its keys, and what tor's events tell of the way to one."""

from __future__ import annotations

import base64
import gc
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.clock import Clock
from perfd.tor.events.join import Join
from perfd.tor.events.listener import EVENTS, NEWNYM_WAIT, ControlEvents
from perfd.tor.events.rendezvous import MAX_CIRCUITS, MAX_REASONS, onion_address
from perfd.tor.onion import OnionService
from perfd.tor.onion_client import ClientKey, OnionClient, OnionError
from tests.support.tor_recording import ANCHOR, ONION_RECORDING, MemoryEventSink, make_fold, recorded, replay

NAME = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad"
OTHER = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid"
LOCAL = ("127.0.0.1", 40000)
HOP = "$" + "A" * 40


class OnionTestCase(SynchronousTestCase):
    """A directory for keys."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.key_file = self.directory / "onion" / "key"


class Addresses(SynchronousTestCase):
    """What is an onion service's address."""

    def test_targets(self) -> None:
        """Version 3, with any subdomain, port and case."""
        for target in (f"{NAME}.onion:80", f"{NAME}.onion", f"www.{NAME}.ONION:443", f"{NAME.upper()}.onion:1"):
            self.assertEqual(onion_address(target), NAME)
        for target in (
            None,
            "",
            "192.0.2.1:80",
            "expyuzz4wqqyqhjn.onion:80",
            f"{NAME}.onion.example:80",
            f"{NAME}:80",
        ):
            self.assertIsNone(onion_address(target))


class RecordedWays(SynchronousTestCase):
    """What a real tor told."""

    def test_runs_that_built_circuits_again(self) -> None:
        """The first of two runs waits for the descriptor and for a fifth circuit, the second for neither."""
        fold = make_fold()
        first = fold.join(("127.0.0.1", 56358), 3672.0)
        second = fold.join(("127.0.0.1", 56362), 3676.0)
        replay(fold)
        hs = fold.joined(first, ANCHOR).hs
        self.assertEqual(
            {
                key: round(value - ANCHOR.epoch(0.0), 6) if isinstance(value, float) else value
                for key, value in hs.items()
            },
            {
                "HSDESCREQUESTED": 3672.001798,
                "HSDESCRECEIVED": 3672.078905,
                "HSINTROBUILT": 3672.141936,
                "HSRENDBUILT": 3674.477065,
                "HSRENDESTABLISHED": 3674.486153,
                "HSINTROACK": 3674.545095,
                "HSRENDJOINED": 3674.577472,
                "HSINTROS": 1,
                "HSRENDS": 5,
            },
        )
        hs = fold.joined(second, ANCHOR).hs
        self.assertEqual([key for key in hs if key.startswith("HSDESC")], [])
        self.assertEqual((hs["HSINTROS"], hs["HSRENDS"]), (1, 1))
        self.assertGreater(min(value for value in hs.values() if isinstance(value, float)), ANCHOR.epoch(3676.0))

    def test_ways_and_failures(self) -> None:
        """A circuit that was there, one that was not, no key, no answer of the service, no such service."""
        fold = make_fold()
        ports = {"taken": 0, "built": 0, "keyless": 0, "stopped": 0, "missing": 0}
        users = iter(ports)
        for _stamp, keyword, text in recorded(ONION_RECORDING):
            if keyword == "STREAM" and " NEW " in text:
                ports[next(users)] = int(text.partition("SOURCE_ADDR=127.0.0.1:")[2].split()[0])
        joins = {user: fold.join(("127.0.0.1", port), 0.0) for user, port in ports.items()}
        for stamp, keyword, text in recorded(ONION_RECORDING):
            fold.event(stamp or 0.0, keyword, text)
        self.assertEqual((fold.counts.unparsed, fold.counts.unknown), ({}, {}))
        found = {user: dict(fold.joined(join, ANCHOR).hs) for user, join in joins.items()}
        after = ["HSINTROBUILT", "HSINTROACK", "HSRENDBUILT", "HSRENDESTABLISHED", "HSRENDJOINED"]
        self.assertEqual(sorted(found["built"]), sorted([*after, "HSINTROS", "HSRENDS"]))
        self.assertEqual(sorted(found["taken"]), sorted([*found["built"], "HSDESCREQUESTED", "HSDESCRECEIVED"]))
        self.assertLess(float(found["taken"]["HSRENDBUILT"]) - float(found["taken"]["HSDESCRECEIVED"]), 0.001)
        self.assertEqual(sorted(found["keyless"]), ["HSDESCRECEIVED", "HSDESCREQUESTED", "HSINTROS", "HSRENDS"])
        self.assertNotIn("HSRENDJOINED", found["stopped"])
        self.assertEqual({*after} - {*found["stopped"]}, {"HSRENDJOINED"})
        self.assertEqual(
            {key: value for key, value in found["missing"].items() if key != "HSDESCREQUESTED"},
            {"HSDESCFAILED": "NOT_FOUND", "HSINTROS": 0, "HSRENDS": 0},
        )


class Ways(SynchronousTestCase):
    """Cases that are hard to record."""

    def setUp(self) -> None:
        self.fold = make_fold()
        self.now = 0.0

    def tell(self, keyword: str, text: str) -> None:
        """The next event, a second later."""
        self.now += 1.0
        self.fold.event(self.now, keyword, text)

    def circuit(
        self, circ_id: int, status: str, purpose: str, state: str = "", user: str = "u", name: str = NAME
    ) -> None:
        keyword = "CIRC_MINOR" if status == "PURPOSE_CHANGED" else "CIRC"
        words = f'{circ_id} {status} {HOP} PURPOSE={purpose} REND_QUERY={name} SOCKS_USERNAME="{user}"'
        self.tell(keyword, words + (f" HS_STATE={state}" if state else ""))

    def introduce(self, circ_id: int, *, acknowledged: bool = True, **more: str) -> None:
        self.circuit(circ_id, "BUILT", "HS_CLIENT_INTRO", "HSCI_CONNECTING", **more)
        self.circuit(circ_id, "PURPOSE_CHANGED", "HS_CLIENT_INTRO", "HSCI_INTRO_SENT", **more)
        if acknowledged:
            self.circuit(circ_id, "PURPOSE_CHANGED", "HS_CLIENT_INTRO", "HSCI_DONE", **more)

    def meet(self, circ_id: int, *, joined: bool = True, **more: str) -> None:
        self.circuit(circ_id, "BUILT", "HS_CLIENT_REND", "HSCR_CONNECTING", **more)
        self.circuit(circ_id, "PURPOSE_CHANGED", "HS_CLIENT_REND", "HSCR_ESTABLISHED_IDLE", **more)
        if joined:
            self.circuit(circ_id, "PURPOSE_CHANGED", "HS_CLIENT_REND", "HSCR_JOINED", **more)

    def begin(self, user: str = "u", port: int = 40000, stream_id: int = 7) -> Join:
        join = self.fold.join(("127.0.0.1", port), self.now)
        self.tell(
            "STREAM",
            f'{stream_id} NEW 0 {NAME}.onion:80 SOURCE_ADDR=127.0.0.1:{port} PURPOSE=USER SOCKS_USERNAME="{user}"',
        )
        return join

    def attach(self, circ_id: int, stream_id: int = 7) -> None:
        self.tell("STREAM", f"{stream_id} SENTCONNECT {circ_id} {NAME}.onion:80")

    def way(self, join: Join) -> dict[str, float | int | str]:
        """The keys, times by the recording's own clock."""
        hs = self.fold.joined(join, ANCHOR).hs
        return {
            key: round(value - ANCHOR.epoch(0.0), 3) if isinstance(value, float) else value
            for key, value in hs.items()
        }

    def test_second_introduction(self) -> None:
        """Of two introductions, the one that was acknowledged counts."""
        join = self.begin()
        self.introduce(1, acknowledged=False)  # 2, 3
        self.meet(2, joined=False)  # 4, 5
        self.introduce(3)  # 6, 7, 8
        self.circuit(2, "PURPOSE_CHANGED", "HS_CLIENT_REND", "HSCR_JOINED")  # 9
        self.attach(2)
        self.introduce(4)  # nobody waits for it any more
        self.assertEqual(
            self.way(join),
            {
                "HSINTROBUILT": 6.0,
                "HSINTROACK": 8.0,
                "HSRENDBUILT": 4.0,
                "HSRENDESTABLISHED": 5.0,
                "HSRENDJOINED": 9.0,
                "HSINTROS": 3,
                "HSRENDS": 1,
            },
        )

    def test_acknowledged_late(self) -> None:
        """The service may come before the acknowledgement does."""
        join = self.begin()
        self.introduce(1, acknowledged=False)  # 2, 3
        self.meet(2)  # 4, 5, 6
        self.attach(2)
        self.circuit(1, "PURPOSE_CHANGED", "HS_CLIENT_INTRO", "HSCI_DONE")  # 8
        way = self.way(join)
        self.assertEqual((way["HSINTROBUILT"], way["HSRENDJOINED"], way["HSINTROACK"]), (2.0, 6.0, 8.0))

    def test_circuit_extended_to_another_introduction_point(self) -> None:
        """It is built twice: what came before the acknowledgement counts."""
        join = self.begin()
        self.introduce(1, acknowledged=False)
        self.circuit(1, "PURPOSE_CHANGED", "HS_CLIENT_INTRO", "HSCI_CONNECTING")
        self.introduce(1)
        way = self.way(join)
        self.assertEqual((way["HSINTROBUILT"], way["HSINTROACK"], way["HSINTROS"]), (5.0, 7.0, 1))

    def test_circuits_of_others(self) -> None:
        """Neither the circuits of another run to the same service, nor those to another service, are taken."""
        join, other = self.begin(), self.begin("v", 40001, 8)
        self.introduce(1, user="v")
        self.meet(2, user="v")
        self.attach(2, 8)
        self.introduce(3, name=OTHER)
        self.meet(4, name=OTHER)
        self.assertEqual(self.way(join), {"HSINTROS": 0, "HSRENDS": 0})
        self.assertEqual(self.way(other)["HSRENDJOINED"], 8.0)

    def test_reused_circuit(self) -> None:
        """A stream over a circuit that was joined before it has no way of its own."""
        first = self.begin()
        self.introduce(1)
        self.meet(2)
        self.attach(2)
        self.tell("STREAM", f"7 CLOSED 2 {NAME}.onion:80 REASON=END REMOTE_REASON=DONE")
        self.fold.release(first)
        second = self.begin(stream_id=8)
        self.attach(2, 8)
        self.assertEqual(self.way(second), {"HSINTROS": 0, "HSRENDS": 0})

    def test_never_attached(self) -> None:
        """Of several circuits to rendezvous points, the one that got the furthest; nothing after the end."""
        join = self.begin()
        self.meet(1, joined=False)  # 2, 3
        self.circuit(1, "FAILED", "HS_CLIENT_REND", "HSCR_ESTABLISHED_IDLE")
        self.circuit(2, "FAILED", "HS_CLIENT_REND", "HSCR_CONNECTING")
        self.introduce(3, acknowledged=False)  # 6, 7
        self.tell("STREAM", f"7 FAILED 0 {NAME}.onion:80 REASON=TIMEOUT")
        self.meet(4)
        self.assertEqual(
            self.way(join),
            {"HSRENDBUILT": 2.0, "HSRENDESTABLISHED": 3.0, "HSINTROBUILT": 6.0, "HSINTROS": 1, "HSRENDS": 3},
        )

    def test_descriptor(self) -> None:
        """The first request and receipt, each failure once; not those of others, of before, or of uploads."""
        self.tell("HS_DESC", f"REQUESTED {NAME} NO_AUTH {HOP}~old desc")
        join = self.begin()
        for text in (
            f"REQUESTED {OTHER} NO_AUTH {HOP}~a desc",
            f"FAILED {NAME} NO_AUTH {HOP}~a desc REASON=UPLOAD_REJECTED",
            f"REQUESTED {NAME} NO_AUTH {HOP}~a desc HSDIR_INDEX=AA",
            f"FAILED {NAME} NO_AUTH {HOP}~a desc REASON=NOT_FOUND",
            f"REQUESTED {NAME} NO_AUTH {HOP}~b desc HSDIR_INDEX=AA",
            f"FAILED {NAME} NO_AUTH {HOP}~b desc REASON=NOT_FOUND",
            f"FAILED {NAME} NO_AUTH {HOP}~b desc REASON=QUERY_REJECTED",
            f"FAILED {NAME} NO_AUTH UNKNOWN",
            f"RECEIVED {NAME} NO_AUTH {HOP}~c desc",
        ):
            self.tell("HS_DESC", text)
        self.assertEqual(
            self.way(join),
            {
                "HSDESCREQUESTED": 5.0,
                "HSDESCRECEIVED": 11.0,
                "HSINTROS": 0,
                "HSRENDS": 0,
                "HSDESCFAILED": "NOT_FOUND,QUERY_REJECTED,UNEXPECTED",
            },
        )

    def test_no_onion_service(self) -> None:
        """A stream to elsewhere has no such keys."""
        join = self.fold.join(LOCAL, 0.0)
        self.tell("STREAM", "7 NEW 0 192.0.2.1:80 SOURCE_ADDR=127.0.0.1:40000 PURPOSE=USER")
        self.assertEqual(self.way(join), {})
        self.assertEqual(self.way(self.fold.join(("127.0.0.1", 1), 0.0)), {})

    def test_bounds(self) -> None:
        """A tor that talks without end is not remembered without end; nonsense is counted."""
        join = self.begin()
        for number in range(MAX_CIRCUITS + 10):
            self.circuit(100 + number, "EXTENDED", "HS_CLIENT_REND", "HSCR_CONNECTING")
            self.tell("HS_DESC", f"FAILED {NAME} NO_AUTH UNKNOWN REASON=R{number}")
        for text in ("", "FAILED", "FAILED x y", f"FAILED {NAME} NO_AUTH UNKNOWN REASON={'x' * 1000}"):
            self.tell("HS_DESC", text)
        self.tell("HS_DESC", f"SUNK {NAME} NO_AUTH UNKNOWN")
        way = self.way(join)
        self.assertEqual((way["HSRENDS"], str(way["HSDESCFAILED"]).count(",")), (MAX_CIRCUITS, MAX_REASONS - 1))
        self.assertEqual((self.fold.counts.unparsed["HS_DESC"], self.fold.counts.unknown["HS_DESC SUNK"]), (4, 1))


class FakeProtocol:
    """What is used of txtorcon's protocol; ``answers`` to commands, by their first word."""

    def __init__(self, **answers: Any) -> None:
        self.valid_events = dict.fromkeys(EVENTS)
        self.listeners: dict[str, list[Callable[[str], None]]] = {}
        self.commands: list[str] = []
        self.waiting: list[Deferred[str]] = []
        self.answers: dict[str, Any] = {"ADD_ONION": f"ServiceID={NAME}", **answers}

    def queue_command(self, command: str) -> Deferred[str]:
        self.commands.append(command)
        answer = self.answers.get(command.split(maxsplit=1)[0], "OK")
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def add_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred[None]:
        self.listeners.setdefault(keyword, []).append(listener)
        return succeed(None)

    def get_info_raw(self, key: str) -> Deferred[str]:
        self.commands.append(f"GETINFO {key}")
        return succeed(f"{key}=")

    def get_info_single(self, key: str) -> Deferred[str]:
        return succeed("1")

    def tell(self, keyword: str, text: str) -> None:
        for listener in self.listeners[keyword]:
            listener(text)


KEY = "ED25519-V3:" + base64.b64encode(bytes(64)).decode("ascii")


class Publishing(OnionTestCase):
    """``OnionService``."""

    def connect(self, service: OnionService, **answers: str | Exception) -> FakeProtocol:
        protocol = FakeProtocol(**{"ADD_ONION": f"ServiceID={NAME}\nPrivateKey={KEY}", **answers})
        self.successResultOf(Deferred.fromCoroutine(service.connected(protocol)))
        return protocol

    def test_new_and_again(self) -> None:
        """The first time tor makes the key, which only its owner can read; then the service has it."""
        service = OnionService(self.key_file, lambda: 8000)
        self.assertIn("not running", service.not_ready or "")
        self.assertRaises(RuntimeError, lambda: service.host)
        protocol = self.connect(service)
        self.assertEqual(protocol.commands, ["ADD_ONION NEW:ED25519-V3 Port=80,127.0.0.1:8000"])
        self.assertEqual(self.key_file.read_text(), KEY + "\n")
        self.assertEqual(self.key_file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.key_file.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(service.host, f"{NAME}.onion")
        service.disconnected()
        self.assertIn("not running", service.not_ready or "")
        protocol = self.connect(service)
        self.assertEqual(protocol.commands, [f"ADD_ONION {KEY} Flags=DiscardPK Port=80,127.0.0.1:8000"])

    def test_key_that_others_could_read(self) -> None:
        """Its file is made private."""
        self.key_file.parent.mkdir()
        self.key_file.write_text(KEY)
        self.key_file.chmod(0o644)
        self.connect(OnionService(self.key_file, lambda: 8000))
        self.assertEqual(self.key_file.stat().st_mode & 0o777, 0o600)

    def test_all_options(self) -> None:
        """Several ports, a single onion service, client authorisation, proofs of work."""
        key = ClientKey(self.directory / "onion" / "client-key")
        service = OnionService(
            self.key_file,
            lambda: 8000,
            more_ports={81: lambda: 8001},
            single_onion=True,
            client_key=key,
            proof_of_work=True,
        )
        protocol = self.connect(service)
        self.assertEqual(
            protocol.commands,
            [
                "ADD_ONION NEW:ED25519-V3 Flags=NonAnonymous,V3Auth PoWDefensesEnabled=1 "
                f"Port=80,127.0.0.1:8000 Port=81,127.0.0.1:8001 ClientAuthV3={key.public}"
            ],
        )

    def test_publication(self) -> None:
        """It is ready when a directory has taken the descriptor of this address; refusals are told until then."""
        service = OnionService(self.key_file, lambda: 8000)
        protocol = self.connect(service)
        for text in (f"UPLOADED {OTHER} UNKNOWN {HOP}", f"UPLOAD {NAME} UNKNOWN {HOP} d", "UPLOADED", ""):
            protocol.tell("HS_DESC", text)
            self.assertEqual(service.not_ready, f"the onion service {NAME}.onion is being published")
        for _ in range(2):
            protocol.tell("HS_DESC", f"FAILED {NAME} UNKNOWN {HOP} d REASON=UPLOAD_REJECTED")
        self.assertIn("(2 so far): UPLOAD_REJECTED", service.not_ready or "")
        protocol.tell("HS_DESC", f"UPLOADED {NAME} UNKNOWN {HOP}")
        self.assertIsNone(service.not_ready)
        protocol.tell("HS_DESC", f"FAILED {NAME} UNKNOWN {HOP} d REASON=UPLOAD_REJECTED")
        self.assertIsNone(service.not_ready)

    def test_trouble(self) -> None:
        """Whatever keeps it from being published is why it is not ready."""
        refused = TorProtocolError(512, "Tor is in anonymous hidden service mode")
        for answer, reason in (
            (refused, "anonymous hidden service mode"),
            ("ServiceID=short", "no address"),
            (f"ServiceID={NAME}", "no key"),
        ):
            service = OnionService(self.key_file, lambda: 8000)
            self.connect(service, ADD_ONION=answer)
            self.assertIn(reason, service.not_ready or "")
        for damaged in (b"", b"something else", b"\xff" * 90):
            self.key_file.parent.mkdir(exist_ok=True)
            self.key_file.write_bytes(damaged)
            service = OnionService(self.key_file, lambda: 8000)
            self.assertEqual(self.connect(service).commands, [])
            self.assertIn(f"{self.key_file} is not an onion service's key", service.not_ready or "")
            self.assertEqual(self.key_file.read_bytes(), damaged)
        self.flushLoggedErrors()


class Clients(OnionTestCase):
    """``ClientKey`` and ``OnionClient``."""

    def setUp(self) -> None:
        super().setUp()
        self.key = ClientKey(self.directory / "onion" / "client-key")
        self.service = OnionService(self.key_file, lambda: 8000, client_key=self.key)

    def publish(self) -> None:
        protocol = FakeProtocol(ADD_ONION=f"ServiceID={NAME}\nPrivateKey={KEY}")
        self.successResultOf(Deferred.fromCoroutine(self.service.connected(protocol)))

    def connect(self, client: OnionClient, protocol: FakeProtocol) -> FakeProtocol:
        self.successResultOf(Deferred.fromCoroutine(client.connected(protocol)))
        return protocol

    def test_key(self) -> None:
        """Made once, private, the public half fits, and tor's own files can be made of it."""
        path = self.directory / "onion" / "client-key"
        private = X25519PrivateKey.from_private_bytes(base64.b64decode(self.key.private))
        self.assertEqual(base64.b32decode(self.key.public + "===="), private.public_key().public_bytes_raw())
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertRegex(path.read_text(), r"^descriptor:x25519:[A-Z2-7]{52}\n$")
        self.assertEqual(ClientKey(path).private, self.key.private)
        path.write_text("something else")
        self.assertRaises(OnionError, lambda: self.key.public)

    def test_unusable_key(self) -> None:
        """A damaged file is the reason why the service is not ready."""
        self.key_file.parent.mkdir()
        (self.directory / "onion" / "client-key").write_text("something else")
        self.publish()
        self.assertIn("is not a client's key", self.service.not_ready or "")

    def test_given_when_both_are_known(self) -> None:
        """A tor gets the key when it is connected and the address is known, and again with each NEWNYM."""
        command = f"ONION_CLIENT_AUTH_ADD {NAME} x25519:{self.key.private}"
        client = OnionClient(self.service, self.key, tor="default")
        protocol = self.connect(client, FakeProtocol())
        self.assertEqual(protocol.commands, [])
        self.publish()
        self.assertEqual(protocol.commands, [command])
        protocol.tell("SIGNAL", "NEWNYM")
        protocol.tell("SIGNAL", "RELOAD")
        self.assertEqual(protocol.commands, [command] * 2)
        client.disconnected()
        self.publish()
        self.assertEqual(protocol.commands, [command] * 2)
        self.assertEqual(self.connect(client, FakeProtocol()).commands, [command])
        later = OnionClient(self.service, self.key, tor="other")
        self.assertEqual(self.connect(later, FakeProtocol()).commands, [command])

    def test_refused(self) -> None:
        """A tor that does not take the key costs a message."""
        self.publish()
        client = OnionClient(self.service, self.key, tor="default")
        self.connect(client, FakeProtocol(ONION_CLIENT_AUTH_ADD=TorProtocolError(510, "Unrecognized command")))


class Forgetting(SynchronousTestCase):
    """``ControlEvents.forget_descriptors``."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        clock = Clock(wall=lambda: 1000.0, monotonic=self.reactor.seconds)
        self.events = ControlEvents(self.reactor, clock, source="here", tor="default", sink=MemoryEventSink())

    def connect(self, protocol: FakeProtocol) -> FakeProtocol:
        self.successResultOf(Deferred.fromCoroutine(self.events.connected(protocol)))
        protocol.commands.clear()
        return protocol

    def forget(self) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.events.forget_descriptors())

    def test_when_tor_says_so(self) -> None:
        """It is done when tor has acted on it, and on what others asked of it then."""
        protocol = self.connect(FakeProtocol())
        protocol.add_event_listener("SIGNAL", lambda _: protocol.commands.append("of others"))
        first, second = self.forget(), self.forget()
        self.reactor.advance(9.0)
        protocol.tell("SIGNAL", "RELOAD")
        self.reactor.advance(0.5)
        self.assertNoResult(first)
        protocol.commands.clear()
        protocol.tell("SIGNAL", "NEWNYM")
        self.reactor.advance(0.0)
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (True, True))
        self.assertEqual(protocol.commands[0], "of others")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_in_vain(self) -> None:
        """No control connection, one that is lost, a refusal, and a tor that never says so."""
        self.assertIs(self.successResultOf(self.forget()), False)
        self.connect(FakeProtocol())
        forgetting = self.forget()
        self.events.disconnected()
        self.assertIs(self.successResultOf(forgetting), False)
        self.connect(FakeProtocol(SIGNAL=TorProtocolError(552, "Unrecognized signal")))
        self.assertIs(self.successResultOf(self.forget()), False)
        self.connect(FakeProtocol())
        forgetting = self.forget()
        self.reactor.advance(NEWNYM_WAIT)
        self.assertIs(self.successResultOf(forgetting), False)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lost_before_the_answer(self) -> None:
        """The control connection is lost before tor has answered the command: no error is left unhandled."""
        answer: Deferred[str] = Deferred()
        self.connect(FakeProtocol(SIGNAL=answer))
        forgetting = self.forget()
        self.events.disconnected()
        answer.errback(TorDisconnectError("Tor unexpectedly disconnected", None))
        self.assertIs(self.successResultOf(forgetting), False)
        del forgetting, answer
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])


class FailedStream(SynchronousTestCase):
    """A run that ends before its stream was attached."""

    def test_descriptor_that_tells_of_itself_last(self) -> None:
        """A descriptor that cannot be read fails the stream; that it came is told after that, and known."""
        reactor = FakeReactor()
        clock = Clock(wall=lambda: 1000.0 + reactor.seconds(), monotonic=reactor.seconds)
        events = ControlEvents(reactor, clock, source="here", tor="default", sink=MemoryEventSink())
        protocol = FakeProtocol()
        self.successResultOf(Deferred.fromCoroutine(events.connected(protocol)))
        join = events.join(LOCAL, 0.0)
        protocol.tell("STREAM", f"7 NEW 0 {NAME}.onion:80 SOURCE_ADDR=127.0.0.1:40000 PURPOSE=USER")
        protocol.tell("HS_DESC", f"REQUESTED {NAME} NO_AUTH {HOP} d")
        finishing = Deferred.fromCoroutine(events.finish(join, clock.anchor()))
        protocol.tell("STREAM", f"7 FAILED 0 {NAME}.onion:80 REASON=MISC")
        protocol.tell("HS_DESC", f"RECEIVED {NAME} NO_AUTH {HOP} d")
        reactor.advance(0.0)
        self.assertIn("HSDESCRECEIVED", self.successResultOf(finishing).hs)
