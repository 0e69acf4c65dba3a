"""Many comparisons at once: adjusted p-values."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: the chance of any false rejection stays below the level.

    The k-th smallest of n is multiplied by n - k + 1, and never becomes smaller than one before it. Holm, "A
    simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    count = len(p_values)
    adjusted = [0.0] * count
    greatest = 0.0
    for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, p_values[place] * (count - rank)))
        adjusted[place] = greatest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: the expected share of false ones among the rejected stays below
    the level.

    The k-th smallest of n is multiplied by n / k, and never becomes larger than one after it. Benjamini and
    Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57 (1995).
    """
    count = len(p_values)
    adjusted = [0.0] * count
    least = 1.0
    for rank, place in reversed(list(enumerate(sorted(range(count), key=p_values.__getitem__), start=1))):
        least = min(least, p_values[place] * count / rank)
        adjusted[place] = least
    return adjusted
