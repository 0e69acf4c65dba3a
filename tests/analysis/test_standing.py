"""One of many that is slower than the others."""

from __future__ import annotations

from random import Random
from statistics import median

from perfd.analysis.standing import Value, standings


def values(seed: int, passes: int, slower: float = 1.0) -> list[Value]:
    """Ten names, each with a value in each pass, of which some take twice as long; the first is ``slower``."""
    random = Random(seed)
    made: list[Value] = []
    for number in range(passes):
        for name in "abcdefghij":
            factor = (1 + number % 2) * (slower if name == "a" else 1.0)
            made.append((number, name, factor * random.lognormvariate(0.0, 0.1)))
    return made


def test_slow() -> None:
    """The one that is slower by half is seen, its ratio is in the interval, and nobody else is."""
    found = standings(values(1, 20, slower=1.5), 0.1, 5)
    assert {name for name, each in found.items() if each.p < 0.001} == {"a"}
    assert found["a"].ratio.low < 0.5 < found["a"].ratio.high
    assert found["a"].ratio.low > 0.3
    assert found["a"].count == 20
    own = [value for _, name, value in values(1, 20, slower=1.5) if name == "a"]
    assert found["a"].median == median(own)


def test_margin() -> None:
    """Who is slower by less than the margin is not; without a margin that can be seen."""
    few = standings(values(2, 60, slower=1.05), 0.0, 5)["a"].p
    assert few < 0.01 < standings(values(2, 60, slower=1.05), 0.1, 5)["a"].p


def test_level() -> None:
    """Where nobody is slower, p below 0.05 is as rare as it says."""
    found = [each.p for seed in range(40) for each in standings(values(seed, 8), 0.0, 5).values()]
    assert sum(p < 0.05 for p in found) / len(found) < 0.08


def test_too_few() -> None:
    """Nothing is said of few values, nor of values that nothing can be compared with."""
    assert standings(values(1, 4), 0.1, 5) == {}
    assert standings([(number, "a", 1.0) for number in range(9)], 0.1, 5) == {}
    alone = [*values(1, 8), *((number, "k", 1.0) for number in range(100, 109))]
    assert "k" not in standings(alone, 0.1, 5)
