"""Which parts of a whole have more than their share of something: relays that are slow, or fail."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from perfd.analysis.multiplicity import benjamini_hochberg
from perfd.analysis.proportion import exact_interval


@attrs.frozen
class Enrichment:
    """How often something happened to one part, against all others.

    ``low`` and ``high`` are the exact 95 % interval of its share; ``q`` is p adjusted by Benjamini and Hochberg for
    all parts that were looked at: of those with q below 0.05 at most 5 % are expected to be there by chance.
    """

    name: str
    hits: int
    count: int
    low: float
    high: float
    p: float
    q: float

    @property
    def share(self) -> float:
        return self.hits / self.count


def enrichments(parts: Mapping[str, tuple[int, int]], hits: int, count: int) -> list[Enrichment]:
    """Those of ``parts``, each with its hits and its count, among ``hits`` of ``count`` altogether; least p first.

    p is Fisher's exact test, one-sided: the chance of at least as many hits, were they dealt out by chance.
    """
    # Many parts have the same numbers, and what is said of them takes a while.
    known = {
        (own, of): (*exact_interval(own, of), hypergeometric_tail(own, of, hits, count))
        for own, of in {*parts.values()}
    }
    tested = [(name, own, of, *known[own, of]) for name, (own, of) in parts.items()]
    adjusted = benjamini_hochberg([p for *_, p in tested])
    found = [Enrichment(*each, q) for each, q in zip(tested, adjusted, strict=True)]
    return sorted(found, key=lambda each: (each.p, -each.count, each.name))


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
