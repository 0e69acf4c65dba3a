"""Streams that are put on circuits, and those that are left to tor."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.tor.circuits.attacher import OPTION, Attacher, UnusableError
from tests.support.fake_control import FakeControl

ON, OFF = f"SETCONF {OPTION}=1", f"SETCONF {OPTION}=0"


class AttacherTests(SynchronousTestCase):
    """Our streams on our circuit, all others left to tor."""

    def setUp(self) -> None:
        self.tor = FakeControl()
        self.marker = Path(self.mktemp()) / "marker"
        self.attacher = Attacher(self.tor, self.marker)

    def claim(self, user: str = "ours", streams: int | None = None) -> list[str]:
        self.successResultOf(Deferred.fromCoroutine(self.attacher.claim(user, 7, streams)))
        return self.tor.taken()

    def stream(self, stream_id: int, status: str, user: str | None = "ours", circ_id: int = 0) -> list[str]:
        """The commands that a stream's event leads to."""
        who = "" if user is None else f' SOCKS_USERNAME="{user}" SOCKS_PASSWORD="perfd"'
        self.tor.event("STREAM", f"{stream_id} {status} {circ_id} 192.0.2.1:80{who} PURPOSE=USER")
        return self.tor.taken()

    def test_attached(self) -> None:
        """Each is attached once, when it is new; others are given back."""
        self.assertEqual(self.claim(), [f"GETCONF {OPTION}", ON])
        self.assertEqual(self.stream(1, "NEW"), ["ATTACHSTREAM 1 7"])
        self.assertEqual(self.stream(1, "SENTCONNECT", circ_id=7), [])
        self.assertEqual(self.stream(2, "NEW", "theirs"), ["ATTACHSTREAM 2 0"])
        self.assertEqual(self.stream(3, "NEWRESOLVE", None), ["ATTACHSTREAM 3 0"])
        self.assertEqual(self.stream(2, "DETACHED", "theirs"), ["ATTACHSTREAM 2 0"])
        self.tor.event("STREAM", "nonsense")
        self.assertEqual(self.tor.taken(), [])

    def test_lost(self) -> None:
        """A stream of ours that has lost its circuit, or that tor does not put there, ends."""
        self.claim()
        self.stream(1, "NEW")
        self.assertEqual(self.stream(1, "DETACHED"), ["CLOSESTREAM 1 1"])
        self.tor.answers["ATTACHSTREAM 2 7"] = fail(TorProtocolError(552, "Unknown circuit"))
        self.assertEqual(self.stream(2, "NEW"), ["ATTACHSTREAM 2 7", "CLOSESTREAM 2 1"])
        self.tor.answers["ATTACHSTREAM 3 0"] = fail(TorProtocolError(555, "Connection is not managed"))
        self.assertEqual(self.stream(3, "NEW", None), ["ATTACHSTREAM 3 0"])

    def test_as_short_as_can_be(self) -> None:
        """Tor attaches again by itself as soon as all streams of ours are open."""
        self.claim(streams=2)
        self.stream(1, "NEW")
        self.assertEqual(self.stream(1, "SUCCEEDED", circ_id=7), [])
        self.stream(2, "NEW")
        answer: Deferred[str] = Deferred()
        self.tor.answers[OFF] = answer
        self.assertEqual(self.stream(2, "FAILED"), [OFF])
        self.assertEqual(self.stream(3, "NEW", "theirs"), ["ATTACHSTREAM 3 0"])  # tor has not heard yet
        answer.callback("OK")
        self.assertEqual(self.stream(4, "NEW", "theirs"), [])
        del self.tor.answers[OFF]
        self.assertEqual(self.claim("again"), [f"GETCONF {OPTION}", ON])
        self.assertEqual(self.stream(5, "NEW", "again"), ["ATTACHSTREAM 5 7"])
        self.attacher.release("again")
        self.assertEqual(self.tor.taken(), [OFF])
        self.attacher.release("ours")
        self.assertEqual(self.tor.taken(), [])

    def test_killed(self) -> None:
        """What a Perfd left that was killed in these moments is set back by the next."""
        self.claim()
        self.assertTrue(self.marker.exists())
        after = Attacher(self.tor, self.marker)
        self.successResultOf(Deferred.fromCoroutine(after.recover()))
        self.assertEqual(self.tor.taken(), [OFF])
        self.assertFalse(self.marker.exists())
        self.successResultOf(Deferred.fromCoroutine(after.recover()))
        self.assertEqual(self.tor.taken(), [])
        self.attacher.release("ours")
        self.assertFalse(self.marker.exists())

    def test_another(self) -> None:
        """A program that attaches streams already is not disturbed."""
        self.tor.answers[f"GETCONF {OPTION}"] = succeed(f"{OPTION}=1")
        self.failureResultOf(Deferred.fromCoroutine(self.attacher.claim("ours", 7)), UnusableError)
        self.assertEqual(self.tor.taken(), [f"GETCONF {OPTION}"])
