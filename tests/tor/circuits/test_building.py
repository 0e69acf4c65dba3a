"""Circuits that are built over given relays, and streams that are put on them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import task
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.clock import Clock
from perfd.tor.circuits.attacher import Attacher
from perfd.tor.circuits.builder import BuildError, Built, build_circuit

PATH = [f"{number:040X}" for number in (1, 2, 3)]
HOPS = [f"${fingerprint}~relay" for fingerprint in PATH]


class Tor:
    """A control connection to a tor that takes the commands for circuits and streams, and no others."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.listeners: dict[str, list[Callable[[str], None]]] = {"CIRC": [], "STREAM": []}
        self.answers: dict[str, Deferred[str]] = {}  # to commands, in the place of OK

    def add_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred[None]:
        self.listeners[keyword].append(listener)
        return succeed(None)

    def remove_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred[None]:
        self.listeners[keyword].remove(listener)
        return succeed(None)

    def queue_command(self, command: str) -> Deferred[str]:
        keyword = command.partition(" ")[0]
        assert keyword in ("EXTENDCIRCUIT", "CLOSECIRCUIT", "SETCONF", "ATTACHSTREAM", "CLOSESTREAM"), command
        self.commands.append(command)
        return self.answers.get(command) or succeed("OK")

    def event(self, keyword: str, text: str) -> None:
        for listener in tuple(self.listeners[keyword]):
            listener(text)


class BuilderTests(SynchronousTestCase):
    """EXTENDCIRCUIT, and what is told of the circuit."""

    def setUp(self) -> None:
        self.reactor = task.Clock()
        self.tor = Tor()
        self.answer: Deferred[str] = Deferred()
        self.extend = f"EXTENDCIRCUIT 0 {','.join(f'${each}' for each in PATH)}"
        self.tor.answers[self.extend] = self.answer
        clock = Clock(self.reactor.seconds, self.reactor.seconds)
        self.built: Deferred[Built] = Deferred.fromCoroutine(
            build_circuit(self.tor, PATH, clock, self.reactor, 60.0)
        )

    def extended(self, circ_id: int, hops: int, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.tor.event("CIRC", f"{circ_id} EXTENDED {','.join(HOPS[:hops])} PURPOSE=GENERAL")

    def test_built(self) -> None:
        """The time to each relay is from the command on; other circuits count for nothing."""
        self.tor.event("CIRC", "7 LAUNCHED PURPOSE=GENERAL")
        self.answer.callback("EXTENDED 7")
        self.tor.event("CIRC", "nonsense")
        self.extended(8, 1, 0.25)
        self.tor.event("CIRC", "8 FAILED REASON=TIMEOUT")
        for hops in (1, 2, 3):
            self.extended(7, hops, 0.5)
        self.assertNoResult(self.built)
        self.tor.event("CIRC", f"7 BUILT {','.join(HOPS)} PURPOSE=GENERAL")
        self.assertEqual(self.successResultOf(self.built), Built(7, (0.75, 1.25, 1.75)))
        self.assertEqual((self.tor.commands, self.tor.listeners["CIRC"]), ([self.extend], []))

    def test_failed(self) -> None:
        """At which relay, and why, also when tor tells it before its answer to the command is read."""
        self.extended(7, 1, 0.5)
        self.tor.event("CIRC", f"7 FAILED {HOPS[0]} REASON=DESTROYED REMOTE_REASON=CONNECTFAILED")
        self.answer.callback("EXTENDED 7")
        error = self.failureResultOf(self.built, BuildError).value
        self.assertEqual((error.reason, error.hop), ("CONNECTFAILED", 1))
        self.assertEqual(self.tor.listeners["CIRC"], [])

    def test_too_late(self) -> None:
        """What is not there in time is closed."""
        self.answer.callback("EXTENDED 7")
        self.extended(7, 1, 1.0)
        self.extended(7, 2, 1.0)
        self.reactor.advance(58.0)
        error = self.failureResultOf(self.built, BuildError).value
        self.assertEqual((error.reason, error.hop), ("TIMEOUT", 2))
        self.assertEqual(self.tor.commands, [self.extend, "CLOSECIRCUIT 7"])

    def test_refused(self) -> None:
        """A relay that tor does not know."""
        self.answer.errback(TorProtocolError(552, f'No such router "${PATH[0]}"'))
        error = self.failureResultOf(self.built, BuildError).value
        self.assertIn("No such router", error.reason)
        self.assertEqual(self.tor.commands, [self.extend])


class AttacherTests(SynchronousTestCase):
    """Our streams on our circuit, all others left to tor."""

    def setUp(self) -> None:
        self.tor = Tor()
        self.attacher = Attacher(self.tor)
        self.successResultOf(Deferred.fromCoroutine(self.attacher.begin()))
        self.attacher.claim(("127.0.0.1", 40001), 7)
        self.tor.commands.clear()

    def stream(self, stream_id: int, status: str, port: int | None) -> list[str]:
        """The commands that a stream's event leads to."""
        source = "" if port is None else f" SOURCE_ADDR=127.0.0.1:{port}"
        self.tor.event("STREAM", f"{stream_id} {status} 0 192.0.2.1:80{source} PURPOSE=USER")
        commands = self.tor.commands[:]
        self.tor.commands.clear()
        return commands

    def test_attached(self) -> None:
        """Each is attached once, when it is new."""
        self.assertEqual(self.stream(1, "NEW", 40001), ["ATTACHSTREAM 1 7"])
        self.assertEqual(self.stream(1, "SENTCONNECT", 40001), [])
        self.assertEqual(self.stream(2, "NEW", 40002), ["ATTACHSTREAM 2 0"])
        self.assertEqual(self.stream(3, "NEWRESOLVE", None), ["ATTACHSTREAM 3 0"])
        self.assertEqual(self.stream(2, "DETACHED", 40002), ["ATTACHSTREAM 2 0"])

    def test_lost(self) -> None:
        """A stream of ours that has lost its circuit, or that tor does not put there, ends."""
        self.assertEqual(self.stream(1, "DETACHED", 40001), ["CLOSESTREAM 1 1"])
        self.tor.answers["ATTACHSTREAM 2 7"] = fail(TorProtocolError(552, "Unknown circuit"))
        self.assertEqual(self.stream(2, "NEW", 40001), ["ATTACHSTREAM 2 7", "CLOSESTREAM 2 1"])
        self.tor.answers["ATTACHSTREAM 3 0"] = fail(TorProtocolError(555, "Connection is not managed"))
        self.assertEqual(self.stream(3, "NEW", None), ["ATTACHSTREAM 3 0"])

    def test_ended(self) -> None:
        """Tor is asked to attach again before nobody listens any more."""
        listening: list[int] = []
        command = "SETCONF __LeaveStreamsUnattached=0"
        answer: Deferred[str] = Deferred()
        self.tor.answers[command] = answer
        ending = Deferred.fromCoroutine(self.attacher.end())
        listening.append(len(self.tor.listeners["STREAM"]))
        self.assertEqual(self.stream(4, "NEW", 40002), [command, "ATTACHSTREAM 4 0"])
        answer.callback("OK")
        self.successResultOf(ending)
        listening.append(len(self.tor.listeners["STREAM"]))
        self.assertEqual(listening, [1, 0])
