"""How a bench says whether a figure reaches its target."""

from __future__ import annotations

from bench.compare import Interval

MISSED = "MISSED"


def verdict(found: float | Interval, target: str) -> str:
    """What was ``found``, its ``target``, such as ``<= 1.05`` or ``>= 0.5``, and whether it was reached.

    A target is missed by an estimate only if the whole interval around it does.
    """
    relation, bound = target.split()
    shown = str(found) if isinstance(found, Interval) else f"{found:.3g}"
    interval = found if isinstance(found, Interval) else Interval(found, found, found)
    best = interval.low if relation == "<=" else interval.high

    def reaches(value: float) -> bool:
        return {"<=": value <= float(bound), ">=": value >= float(bound)}[relation]

    said = "reached" if reaches(interval.estimate) else "not decided" if reaches(best) else MISSED
    return f"{shown} (target {target}: {said})"
