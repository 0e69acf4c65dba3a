"""The phases of a bootstrap: their times, and the bytes by then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from perfd.formats.bootstrap_keys import TAGS, key_of
from perfd.tor.bootstrap.phases import MOST_TAGS, DirectoryBytes, Phases
from perfd.tor.control import Bootstrap

COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=len(TAGS))


class PhasesTests(SynchronousTestCase):
    """``Phases`` and ``DirectoryBytes``."""

    def test_first_counts(self) -> None:
        """A phase that tor repeats keeps its first time, and a rogue tor does not fill the record."""
        times = iter(range(1000))
        phases = Phases(lambda: float(next(times)))
        self.assertTrue(phases.take(Bootstrap(5, "conn", "Connecting")))
        self.assertFalse(phases.take(Bootstrap(5, "conn", "Connecting", "Connection refused")))
        self.assertTrue(phases.take(Bootstrap(10, "conn_done", "Connected")))
        self.assertEqual(phases.reached, {"conn": 0.0, "conn_done": 1.0})
        self.assertEqual(phases.last, Bootstrap(10, "conn_done", "Connected"))
        for number in range(MOST_TAGS):
            phases.take(Bootstrap(20, f"tag{number}", "Something"))
        self.assertEqual(len(phases.reached), MOST_TAGS)

    @given(COUNTS)
    def test_bytes_grow(self, counts: list[tuple[int, int]]) -> None:
        """What is told of a phase is no more than what was counted, nor than what is told of a later one."""
        phases = Phases(lambda: 0.0)
        phases.bytes = dict(zip(TAGS, counts, strict=False))
        told = list(phases.moved.values())
        self.assertEqual(list(phases.moved), list(phases.bytes))
        for column in (0, 1):
            values = [each[column] for each in told]
            self.assertEqual(values, sorted(values))
            self.assertTrue(all(a <= b[column] for a, b in zip(values, counts, strict=False)))
        self.assertEqual(told[-1:], counts[-1:])

    def test_directory(self) -> None:
        """The cells of circuits of one hop alone."""
        found = DirectoryBytes()
        found.circuit("1 LAUNCHED BUILD_FLAGS=ONEHOP_TUNNEL,IS_INTERNAL,NEED_CAPACITY PURPOSE=GENERAL")
        found.circuit("2 LAUNCHED BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL")
        for event in (
            "ID=1 READ=3054 WRITTEN=1018 TIME=2026-11-27T03:53:15.849300 DELIVERED_READ=1715",
            "ID=2 READ=999 WRITTEN=999",
            "ID=1 READ=509 WRITTEN=0",
            "ID=1 READ=many WRITTEN=1",
            "nonsense",
        ):
            found.bandwidth(event)
        self.assertEqual((found.read, found.written), (3563, 1018))

    def test_keys(self) -> None:
        """Each tag has a key of its own, of letters alone."""
        self.assertEqual(len({key_of(tag) for tag in TAGS}), len(TAGS))
        self.assertEqual(key_of("ap_conn_done_pt"), "APCONNDONEPT")
