"""Which parts of a whole have more than their share of something: relays that are slow, or fail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul

import attrs

from perfd.analysis.multiplicity import benjamini_hochberg
from perfd.analysis.proportion import exact_interval

SMALLEST = 1e-50
"""Less likely numbers of hits are left out of distributions, and no p of ``sum_tail`` is told to be smaller."""


@attrs.frozen
class Enrichment:
    """How often something happened to one part, against all others.

    ``expected`` are the hits that it would have, had each stratum's been dealt out evenly. ``low`` and ``high``
    are the exact 95 % interval of its share; ``q`` is p adjusted by Benjamini and Hochberg for all parts that were
    looked at: of those with q below 0.05 at most 5 % are expected to be there by chance.
    """

    name: str
    hits: int
    count: int
    expected: float
    low: float
    high: float
    p: float
    q: float

    @property
    def share(self) -> float:
        return self.hits / self.count


@attrs.frozen
class Draw:
    """A part of a stratum: so many of its ``count`` things, of which ``hits`` are hits, are ``drawn``."""

    drawn: int
    hits: int
    count: int

    @property
    def expected(self) -> float:
        """The hits among those that are drawn, on average."""
        return self.drawn * self.hits / self.count

    @property
    def variance(self) -> float:
        """Of the number of hits among those that are drawn."""
        if self.count < 2:
            return 0.0
        return self.expected * (1 - self.hits / self.count) * (self.count - self.drawn) / (self.count - 1)

    @property
    def certain(self) -> int | None:
        """The hits among those that are drawn, if chance has no say in it."""
        if self.drawn == self.count:
            return self.hits
        return self.drawn * self.hits // self.count if self.hits in (0, self.count) or not self.drawn else None


Counts = tuple[int, int]
"""Hits, and how many things there are."""


def enrichments(parts: Mapping[str, Mapping[int, Counts]], strata: Sequence[Counts]) -> list[Enrichment]:
    """Those of ``parts``, each with its hits and its count by the places of its strata; least p first.

    p is the exact test, one-sided, of Mantel and Haenszel's hypothesis: within each stratum the hits are dealt out
    by chance, while strata may have many or few of them. It is the chance of at least as many hits in all strata
    together (``sum_tail``); with one stratum it is Fisher's. Where these are not a standard deviation more than
    expected, so that p is too large to matter, it is from the normal distribution, a hundred times faster.
    """
    intervals: dict[Counts, tuple[float, float]] = {}  # many parts have the same numbers
    tested = []
    for name, counts in parts.items():
        hits, count = sum(own for own, _ in counts.values()), sum(of for _, of in counts.values())
        draws = [Draw(of, *strata[stratum]) for stratum, (_, of) in counts.items()]
        expected = math.fsum([draw.expected for draw in draws])
        if (hits, count) not in intervals:
            intervals[hits, count] = exact_interval(hits, count)
        tested.append((name, hits, count, expected, *intervals[hits, count], _p(hits, expected, draws)))
    adjusted = benjamini_hochberg([p for *_, p in tested])
    found = [Enrichment(*each, q) for each, q in zip(tested, adjusted, strict=True)]
    return sorted(found, key=lambda each: (each.p, -each.count, each.name))


def _p(hits: int, expected: float, draws: Sequence[Draw]) -> float:
    """The chance of at least so many hits; half a hit is taken off for the normal distribution, which is smooth."""
    if not hits:
        return 1.0
    error = math.sqrt(math.fsum([draw.variance for draw in draws]))
    if hits - 0.5 < expected + error:
        return math.erfc((hits - 0.5 - expected) / (error * math.sqrt(2))) / 2 if error else 1.0
    return sum_tail(hits, draws)


def sum_tail(least: int, draws: Iterable[Draw]) -> float:
    """The chance of at least ``least`` hits in all of the independent ``draws`` together; ``SMALLEST`` or more.

    The number of hits is a sum of hypergeometric numbers, whose distribution is the convolution of theirs: the
    exact conditional test of a common odds ratio of 1 in 2 x 2 tables. The hypothesis is that of N. Mantel and
    W. Haenszel, Journal of the National Cancer Institute 22 (1959), the exact distribution that of C. R. Mehta,
    N. R. Patel and R. Gray, Journal of the American Statistical Association 80 (1985).
    """
    certain, spread = 0, []
    for draw in draws:
        if draw.certain is None:
            spread.append(_distribution(draw.drawn, draw.hits, draw.count))
        else:
            certain += draw.certain
    rest = least - certain
    if not spread:
        return 1.0 if rest <= 0 else SMALLEST
    spread.sort(key=lambda each: len(each.chances))
    *others, last = spread
    first, chances = 0, [1.0]
    for each in others:
        skipped, chances = _without_ends(_convolved(chances, each.chances))
        first += each.first + skipped
    # The last and longest one need not be convolved: of it the chance of at least so many is enough.
    tails = [*accumulate(reversed(last.chances))][::-1]
    terms = []
    for n, chance in enumerate(chances):
        place = rest - first - n - last.first
        if place < len(tails):
            terms.append(chance * tails[max(0, place)])
    return min(1.0, max(SMALLEST, math.fsum(terms)))


def hypergeometric_tail(least: int, drawn: int, hits: int, count: int) -> float:
    """The chance of at least ``least`` hits among ``drawn`` of ``count`` things of which ``hits`` are hits.

    R. A. Fisher, "Statistical Methods for Research Workers" (1934), section 21.02. Raises ValueError for numbers
    that cannot be.
    """
    if not (0 <= hits <= count and 0 <= least <= drawn <= count and least <= hits):
        raise ValueError(f"{least} hits of {drawn} drawn cannot be, with {hits} of {count}")
    if least <= max(0, drawn - (count - hits)):
        return 1.0
    whole = _log_choose(count, drawn)
    terms = (
        math.exp(_log_choose(hits, k) + _log_choose(count - hits, drawn - k) - whole)
        for k in range(least, min(hits, drawn) + 1)
        if drawn - k <= count - hits
    )
    return min(1.0, math.fsum(terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


@attrs.frozen
class _Distribution:
    """The chances of ``first`` hits, one more, and so on."""

    first: int
    chances: Sequence[float]


@lru_cache(maxsize=1024)
def _distribution(drawn: int, hits: int, count: int) -> _Distribution:
    """The hypergeometric one, from its mode outwards by the ratio of neighbours, without what is below SMALLEST."""
    low, high = max(0, drawn + hits - count), min(hits, drawn)
    mode = min(high, max(low, (drawn + 1) * (hits + 1) // (count + 2)))
    above, below = [1.0], []
    for k in range(mode, high):
        above.append(above[-1] * ((hits - k) * (drawn - k)) / ((k + 1) * (count - hits - drawn + k + 1)))
        if above[-1] < SMALLEST:
            break
    chance = 1.0
    for k in range(mode, low, -1):
        chance *= k * (count - hits - drawn + k) / ((hits - k + 1) * (drawn - k + 1))
        below.append(chance)
        if chance < SMALLEST:
            break
    whole = math.fsum(above) + math.fsum(below)
    chances = [chance / whole for chance in (*reversed(below), *above)]
    return _Distribution(mode - len(below), chances)


def _convolved(short: Sequence[float], long: Sequence[float]) -> list[float]:
    """The distribution of the sum of two independent numbers."""
    if len(short) > len(long):
        short, long = long, short
    turned, width = short[::-1], len(short)
    found = []
    for end in range(1, width + len(long)):  # the sum of all products whose places add up to end - 1
        begin = end - width
        found.append(sum(map(mul, turned[max(0, -begin) :], long[max(0, begin) : end])))
    return found


def _without_ends(chances: Sequence[float]) -> tuple[int, list[float]]:
    """Without what is below SMALLEST at both ends, and how many of the beginning are gone."""
    known = [place for place, chance in enumerate(chances) if chance >= SMALLEST]
    return known[0], list(chances[known[0] : known[-1] + 1])
