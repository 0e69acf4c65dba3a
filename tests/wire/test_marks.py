"""How far a payload had come, and when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.marks import Marks


class MarksTests(SynchronousTestCase):
    """When DATAPERCn and PARTIALn are reached."""

    def test_one_read(self) -> None:
        """All steps that one read crosses get that read's stamp."""
        marks = Marks(51200)
        marks.reached(15360, 1.0)
        marks.reached(51200, 2.0)
        self.assertEqual(
            marks.dataperc, dict.fromkeys((0, 10, 20, 30), 1.0) | dict.fromkeys(range(40, 101, 10), 2.0)
        )
        self.assertEqual(marks.partial, {10240: 1.0, 20480: 2.0, 51200: 2.0})

    def test_rounding(self) -> None:
        """n percent are reached with the first whole byte at or over them, 0 percent with the first byte."""
        marks = Marks(15)
        for size in range(16):
            marks.reached(size, float(size))
        self.assertEqual(
            marks.dataperc,
            {0: 1, 10: 2, 20: 3, 30: 5, 40: 6, 50: 8, 60: 9, 70: 11, 80: 12, 90: 14, 100: 15},
        )

    def test_nothing_expected(self) -> None:
        """Without payload there is no progress."""
        marks = Marks(0)
        marks.reached(0, 1.0)
        self.assertEqual((marks.dataperc, marks.partial), ({}, {}))
