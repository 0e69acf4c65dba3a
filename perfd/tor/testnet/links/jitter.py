"""How much longer or shorter than usual a link takes at a time."""

from __future__ import annotations

import math
from random import Random

_SPACING = 8.0
"""So many times ``most`` lie between two draws: then the changes of two links together stay below half of the time
that goes by, and what was sent later arrives later."""

_LEAST_PERIOD = 0.001  # seconds
_MOST_KNOWN = 1000  # draws; those of a second at least


class Jitter:
    """Changes of a delay as a function of time: from -``most`` to ``most`` seconds, each time all equally likely.

    Draws for each packet would let them overtake each other; if those then waited for the ones before, the mean of
    a dense stream would not be zero, but near ``most``. This changes so slowly that the order stays by itself:
    at most by a quarter of the time that goes by.

    At times ``period`` apart there are points on a circle, each place equally likely; between them the point moves
    evenly on the shorter way. The way is independent of where it begins, so the place is uniform at each time, and
    the height on the circle, folded to a zigzag, is as well.
    """

    def __init__(self, most: float, random: Random) -> None:
        self._most = most
        self._period = max(_SPACING * most, _LEAST_PERIOD)
        self._random = random
        self._places: dict[int, float] = {}  # 0 to 1, by number of the period

    def at(self, when: float) -> float:
        """The change at the time ``when``, in seconds."""
        number = math.floor(when / self._period)
        place = self._place(number)
        turn = (self._place(number + 1) - place + 0.5) % 1.0 - 0.5
        place = (place + turn * (when / self._period - number)) % 1.0
        return self._most * (4.0 * abs(place - 0.5) - 1.0)

    def _place(self, number: int) -> float:
        place = self._places.get(number)
        if place is None:
            if len(self._places) >= _MOST_KNOWN:
                del self._places[next(iter(self._places))]  # the one that was drawn first
            place = self._places[number] = self._random.random()
        return place
