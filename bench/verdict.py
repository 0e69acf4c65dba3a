"""How a bench says whether a figure reaches its target."""

from __future__ import annotations

MISSED = "MISSED"


def verdict(value: float, target: str) -> str:
    """``value`` and its ``target``, such as ``<= 1.05`` or ``>= 0.5``, and whether it was reached."""
    relation, bound = target.split()
    reached = {"<=": value <= float(bound), ">=": value >= float(bound)}[relation]
    return f"{value:.3g} (target {target}: {'reached' if reached else MISSED})"
