"""How a bench says whether a figure reaches its target."""

from __future__ import annotations

from bench.compare import Interval

MISSED = "MISSED"


def verdict(found: float | Interval, target: str) -> str:
    """What was ``found``, its ``target``, such as ``<= 1.05`` or ``>= 0.5``, and whether it was reached.

    A target is missed by an interval only if that excludes it.
    """
    relation, bound = target.split()
    if not isinstance(found, Interval):
        found = Interval(found, found, found)
        shown = f"{found.estimate:.3g}"
    else:
        shown = f"{found.estimate:.3g} (95 % interval {found.low:.3g} to {found.high:.3g})"
    sign = {"<=": 1, ">=": -1}[relation]
    best = found.low if sign > 0 else found.high
    if sign * found.estimate <= sign * float(bound):
        said = "reached"
    elif sign * best <= sign * float(bound):
        said = "not decided"
    else:
        said = MISSED
    return f"{shown} (target {target}: {said})"
