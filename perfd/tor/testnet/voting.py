"""When the authorities of the private network vote: as soon as their links allow.

dir-spec, "Vote exchange" and "Timeline": an authority posts its vote to the others when the time of a vote begins,
and takes none that comes later than half of it; then they exchange signatures, in as long a time.
"""

from __future__ import annotations

import math

import attrs

_HALF_HOUR = 1800
"""Seconds, which a voting interval must divide evenly (tor's manual, TestingV3AuthInitialVotingInterval)."""

_EARLY = 2.0
"""Relays that come up so many seconds before an interval ends are in the vote of the next one."""


@attrs.frozen
class Voting:
    """In seconds: how long votes and then signatures are exchanged, and the intervals before the first consensus,
    and after it.
    """

    exchange: int = 2
    first: int = 5
    interval: int = 10

    @classmethod
    def over(cls, delay: float) -> Voting:
        """That of authorities whose links have this delay, one way, at most.

        Between two of them are two links, so a connection takes 4 times as long, and a vote over it 6 times, since
        it is more than what TCP sends at once.
        """
        takes = 10 * delay
        exchange = max(cls().exchange, math.ceil(3 * takes))
        return cls(exchange, _interval(2 * exchange + 1 + math.floor(takes)), _interval(4 * exchange + 2))

    @property
    def options(self) -> tuple[str, ...]:
        """The torrc lines of an authority."""
        return (
            f"TestingV3AuthInitialVotingInterval {self.first}",
            f"TestingV3AuthInitialVoteDelay {self.exchange}",
            f"TestingV3AuthInitialDistDelay {self.exchange}",
            f"V3AuthVotingInterval {self.interval}",
            f"V3AuthVoteDelay {self.exchange}",
            f"V3AuthDistDelay {self.exchange}",
            "V3AuthNIntervalsValid 2",
        )

    def until_good_time(self, wall: float) -> float:
        """How many seconds after the time ``wall`` it is good to start relays.

        Those that come up just before or during a vote miss the first consensus, and the next one is far away.
        """
        return max(0.0, self.first - _EARLY - wall % self.first)


def _interval(least: int) -> int:
    """The shortest that tor allows."""
    return next(each for each in range(least, _HALF_HOUR + 1) if _HALF_HOUR % each == 0)
