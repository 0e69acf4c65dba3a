"""Circuits that are built over given relays."""

from __future__ import annotations

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.clock import Clock
from perfd.tor.circuits.builder import Builder, BuildError, Built
from tests.support.fake_control import FakeControl

PATH = [f"{number:040X}" for number in (1, 2, 3)]
HOPS = [f"${fingerprint}~relay" for fingerprint in PATH]
EXTEND = f"EXTENDCIRCUIT 0 {','.join(f'${each}' for each in PATH)} purpose=controller"


class BuilderTests(SynchronousTestCase):
    """EXTENDCIRCUIT, and what is told of the circuit."""

    def setUp(self) -> None:
        self.reactor = task.Clock()
        self.tor = FakeControl()
        self.answer: Deferred[str] = Deferred()
        self.tor.answers[EXTEND] = self.answer
        clock = Clock(self.reactor.seconds, self.reactor.seconds)
        self.builder = Builder(self.tor, clock, self.reactor)
        self.built: Deferred[Built] = Deferred.fromCoroutine(self.builder.build(PATH, 60.0))

    def extended(self, circ_id: int, hops: int, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.tor.event("CIRC", f"{circ_id} EXTENDED {','.join(HOPS[:hops])} PURPOSE=CONTROLLER")

    def test_built(self) -> None:
        """The time to each relay is from the command on; other circuits count for nothing."""
        self.tor.event("CIRC", "7 LAUNCHED PURPOSE=CONTROLLER")
        self.answer.callback("EXTENDED 7")
        self.tor.event("CIRC", "nonsense")
        self.extended(8, 1, 0.25)
        self.tor.event("CIRC", "8 FAILED REASON=TIMEOUT")
        for hops in (1, 2, 3):
            self.extended(7, hops, 0.5)
        self.assertNoResult(self.built)
        self.tor.event("CIRC", f"7 BUILT {','.join(HOPS)} PURPOSE=CONTROLLER")
        self.assertEqual(self.successResultOf(self.built), Built(7, (0.75, 1.25, 1.75)))
        self.assertEqual(self.tor.commands, [EXTEND])
        self.tor.event("CIRC", f"7 CLOSED {','.join(HOPS)} REASON=REQUESTED")

    def test_failed(self) -> None:
        """After which relay, and why, also when tor tells it before its answer to the command is read."""
        self.extended(7, 1, 0.5)
        self.tor.event("CIRC", f"7 FAILED {HOPS[0]} REASON=DESTROYED REMOTE_REASON=CONNECTFAILED")
        self.answer.callback("EXTENDED 7")
        error = self.failureResultOf(self.built, BuildError).value
        self.assertEqual((error.reason, error.times), ("CONNECTFAILED", (0.5,)))
        again = Deferred.fromCoroutine(self.builder.build(PATH, 60.0))
        self.assertEqual(len(self.tor.listeners["CIRC"]), 1)
        again.addErrback(lambda _: None)

    def test_too_late(self) -> None:
        """What is not there in time is closed."""
        self.answer.callback("EXTENDED 7")
        self.extended(7, 1, 1.0)
        self.extended(7, 2, 1.0)
        self.reactor.advance(58.0)
        error = self.failureResultOf(self.built, BuildError).value
        self.assertEqual((error.reason, error.times), ("TIMEOUT", (1.0, 2.0)))
        self.assertEqual(self.tor.commands, [EXTEND, "CLOSECIRCUIT 7"])

    def test_cancelled(self) -> None:
        """What is not wanted any more is closed, whether it is there or not."""
        self.answer.callback("EXTENDED 7")
        self.tor.answers["CLOSECIRCUIT 7"] = gone = Deferred()
        self.built.addErrback(lambda _: None)
        self.built.cancel()
        gone.errback(TorProtocolError(552, 'Unknown circuit "7"'))
        self.assertEqual(self.tor.commands, [EXTEND, "CLOSECIRCUIT 7"])

    def test_refused(self) -> None:
        """A relay that tor does not know."""
        self.answer.errback(TorProtocolError(552, f'No such router "${PATH[0]}"'))
        error = self.failureResultOf(self.built, BuildError).value
        self.assertIn("No such router", error.reason)
        self.assertEqual(self.tor.commands, [EXTEND])
