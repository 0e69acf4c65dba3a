"""When a payload had come so far: Torperf's DATAPERCn and PARTIALn."""

from __future__ import annotations

from perfd.record import DECILES, PARTIALS


class Marks:
    """When each DATAPERCn and PARTIALn of ``expect`` bytes was reached, as monotonic stamps.

    ``expect`` None: nobody knows how many there will be, so there is no DATAPERCn.
    """

    def __init__(self, expect: int | None) -> None:
        self.dataperc: dict[int, float] = {}
        self.partial: dict[int, float] = {}
        steps = [(max(1, -(-expect * n // 100)), self.dataperc, n) for n in DECILES if expect]
        steps += [(n, self.partial, n) for n in PARTIALS if expect is None or n <= expect]
        self._steps = sorted(steps, key=lambda step: step[0], reverse=True)

    def reached(self, payload: int, stamp: float) -> None:
        """``payload`` bytes had come at ``stamp``."""
        while self._steps and payload >= self._steps[-1][0]:
            _, stamps, n = self._steps.pop()
            stamps[n] = stamp
