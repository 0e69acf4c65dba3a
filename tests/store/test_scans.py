"""How far a scan had come, by its records."""

from __future__ import annotations

import attrs

from perfd.record import Measurement, Outcome
from perfd.store.scans import last_pass
from tests.support.store import StoreCase


def run(n: int, number: int | None, relay: str | None, outcome: Outcome = Outcome.OK, **fields: str) -> Measurement:
    extra = {} if number is None or relay is None else {"SCANPASS": number, "SCANSEED": 7, "SCANRELAY": f"${relay}"}
    known = {"source": "here", "experiment": "x", "type": "scan", "tor": "default", "server": "public", **fields}
    return Measurement(id=f"m{n}", start=1000.0 + n, filesize=1, outcome=outcome, extra=extra, **known)


class LastPassTests(StoreCase):
    """What the newest records say."""

    def last(self, *records: Measurement) -> tuple[int, int, frozenset[str]] | None:
        return last_pass(self.fill(*records), "here", "x", "default", "public")

    def test_nothing(self) -> None:
        """No record, or none of a relay."""
        self.assertIsNone(self.last(run(1, None, None, Outcome.SKIPPED), run(2, 3, "B", source="there")))

    def test_last(self) -> None:
        """The relays of the last pass, failures too; not what was cancelled, and not what others have measured."""
        records = [run(1, 1, "A"), run(2, 1, "B"), run(3, 2, "C"), run(4, 2, "A", Outcome.FAILED)]
        records += [run(5, 2, "D", Outcome.CANCELLED), run(6, None, None, Outcome.SKIPPED)]
        records += [run(7, 9, "E", tor="other"), run(8, 9, "E", server="url"), run(9, 9, "E", experiment="y")]
        self.assertEqual(self.last(*records), (2, 7, frozenset(("C", "A"))))

    def test_long(self) -> None:
        """A pass over more relays than a page has records."""
        records = [run(n, 4, f"{n:040X}") for n in range(1200)]
        found = self.last(attrs.evolve(records[0], id="first", start=1.0, extra={"SCANPASS": 3}), *records)
        assert found is not None
        self.assertEqual((found[0], len(found[2])), (4, 1200))
