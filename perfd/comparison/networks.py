"""One comparison over several private networks, of which each is a unit: what holds of such networks, not of one.

What one network shows is of its relays, their weights and their links as well. Networks with other seeds are drawn
anew, so what their effects have in common is not of one of them: Jansen, Tracey and Goldberg, "Once is never
enough: foundations for sound statistical inference in Tor network experimentation", USENIX Security 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import attrs

from perfd.analysis import student
from perfd.analysis.blocks import Block
from perfd.analysis.failures import failure_difference
from perfd.analysis.multiplicity import holm
from perfd.analysis.quantiles import percentile_cont
from perfd.comparison.conclusion import SLOWER, Conclusion, Effect, OfNetwork, TooLittleError

FEWEST = 2
"""Networks of which something can be said; their interval is wide."""


def over_networks(found: Sequence[Conclusion], names: Sequence[str]) -> Conclusion:
    """What the conclusions of networks with these ``names`` say together. Raises TooLittleError for fewer than two.

    The effect is the mean of the logarithms, with Student's interval: each network counts as much as another.
    """
    if len(found) < FEWEST:
        raise TooLittleError(
            f"{len(found)} networks were measured; at least {FEWEST} are needed to tell them apart"
        )
    first = found[0]
    of_all = [{each.metric: each for each in (one.primary, *one.others)} for one in found]
    effects = {
        name: _together([effects[name] for effects in of_all])
        for name in of_all[0]
        if all(name in effects and -1 < effects[name].ratio < math.inf for effects in of_all)
    }
    if first.design.primary not in effects:
        of_primary = [each.primary for each in found]
        if all(each.verdict == SLOWER for each in found):
            effects[first.design.primary] = _without_bound(of_primary, math.inf)
        elif all(each.high < 0 for each in of_primary):
            effects[first.design.primary] = _without_bound(of_primary, -math.inf)
    if first.design.primary not in effects:
        raise TooLittleError(f"in a network there is no median of {first.design.primary}")
    primary = effects.pop(first.design.primary)
    adjusted = holm([each.p for each in effects.values()])
    return Conclusion(
        design=attrs.evolve(
            first.design,
            text=f"the unit is the network, of which there are {len(found)} ({', '.join(names)}); in the first, "
            f"{first.design.text}",
            blocks=None,
            by_block=False,
        ),
        blocks=sum(each.blocks for each in found),
        primary=primary,
        others=tuple(attrs.evolve(each, p=p) for each, p in zip(effects.values(), adjusted, strict=True)),
        failures=failure_difference([_outcomes(each) for each in found], by_block=True),
        deciles=(),
        warnings=tuple(
            f"{name}: {text}" for name, each in zip(names, found, strict=True) for text in each.warnings
        ),
        values=tuple(tuple(value for each in found for value in each.values[side]) for side in (0, 1)),
        networks=tuple(
            OfNetwork(name=name, blocks=each.blocks, effect=each.primary)
            for name, each in zip(names, found, strict=True)
        ),
    )


def _together(effects: Sequence[Effect]) -> Effect:
    logarithms = [math.log1p(each.ratio) for each in effects]
    mean, freedom = fmean(logarithms), len(effects) - 1
    error = stdev(logarithms) / math.sqrt(len(effects))
    half = student.critical(0.05, freedom) * error
    ends = (math.expm1(mean - half), math.expm1(mean + half))
    return _of_all(
        effects, math.expm1(mean), ends, student.two_sided(mean / error, freedom) if error else float(mean == 0)
    )


def _without_bound(effects: Sequence[Effect], ratio: float) -> Effect:
    """That of networks which all decide alike, and some of them by any amount: ``ratio`` is infinite."""
    return _of_all(effects, ratio, (ratio, ratio), max(each.p for each in effects))


def _of_all(effects: Sequence[Effect], ratio: float, ends: tuple[float, float], p: float) -> Effect:
    return Effect(
        metric=effects[0].metric,
        runs=(sum(each.runs[0] for each in effects), sum(each.runs[1] for each in effects)),
        medians=(
            percentile_cont([each.medians[0] for each in effects], 0.5),
            percentile_cont([each.medians[1] for each in effects], 0.5),
        ),
        ratio=ratio,
        low=ends[0],
        high=ends[1],
        p=p,
    )


def _outcomes(conclusion: Conclusion) -> Block:
    """The runs of a network: 1, or infinite if they failed."""
    sides = zip(conclusion.failures.failures, conclusion.failures.runs, strict=True)
    return Block(*([math.inf] * failed + [1.0] * (runs - failed) for failed, runs in sides))
