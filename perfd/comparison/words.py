"""A conclusion as people read it: one sentence, and the rows of its tables."""

from __future__ import annotations

import math
from collections.abc import Collection

import attrs

from perfd.comparison.conclusion import INTERRUPTED, NOT_SLOWER, SLOWER, Conclusion, Effect
from perfd.comparison.metrics import METRICS

HEADINGS = ("metric", "runs", "median A", "median B", "change", "95 % interval", "in ms", "p")
NETWORKS = ("network", "runs", "median A", "median B", "change", "95 % interval")
CHANGE = "change: by how much longer B takes; of throughput, for each byte"
DECILES = ("share of runs", "A", "B - A in ms", "95 % band in ms")


def sentence(conclusion: Conclusion) -> str:
    """The answer, in one sentence.

    For example ``noconflux is 4.1 % slower than plain (complete), 95 % interval 1.9 to 6.4, 251 of 370 blocks,
    look 3; 0 is excluded; whether it is slower by the margin of 3 % is not decided``.
    """
    design, effect = conclusion.design, conclusion.primary
    look = f", look {design.look}" if design.look else ""
    zero = "0 is excluded" if effect.excludes_zero else "0 is not excluded"
    return (
        f"{design.b} is {change(effect)} than {design.a} ({effect.metric}), "
        f"95 % interval {_interval(effect)}, {_amount(conclusion)}{look}; {zero}; {_about_margin(conclusion)}"
    )


def change(effect: Effect) -> str:
    """What B is, such as ``4.1 % slower``, or ``without bound faster`` where A fails and B does not."""
    size = f"{_number(abs(effect.ratio) * 100)} %" if math.isfinite(effect.ratio) else "without bound"
    return f"{size} {'slower' if effect.ratio >= 0 else 'faster'}"


def _amount(conclusion: Conclusion) -> str:
    if conclusion.networks:
        return f"{len(conclusion.networks)} networks"
    planned = conclusion.design.blocks
    return f"{conclusion.blocks} of {planned} blocks" if planned else f"{conclusion.blocks} blocks"


def _about_margin(conclusion: Conclusion) -> str:
    margin = f"{conclusion.design.margin * 100:g} %"
    if conclusion.verdict == SLOWER:
        return f"it is slower by more than the margin of {margin}"
    if conclusion.verdict == NOT_SLOWER:
        return f"it is not slower by the margin of {margin}"
    if conclusion.verdict == INTERRUPTED:
        return f"it was interrupted, so that nothing is said about the margin of {margin}"
    return f"whether it is slower by the margin of {margin} is not decided"


def metric_rows(conclusion: Conclusion) -> list[tuple[str, ...]]:
    """A row for each metric under ``HEADINGS``, the primary one first."""
    rows = [_row(effect) for effect in (conclusion.primary, *conclusion.others)]
    return rows if conclusion.design.is_single_look else [(*row[:-1], "") for row in rows]


def _row(effect: Effect) -> tuple[str, ...]:
    metric = METRICS.get(effect.metric)
    if metric is not None and metric.per_byte:
        medians = [f"{8e-6 / each:.1f} Mbit/s" for each in effect.medians]
        in_ms = ""
    else:
        medians = ["failed" if each == math.inf else f"{each * 1e3:.1f} ms" for each in effect.medians]
        estimate, low, high = (_number(value * 1e3) for value in effect.seconds)
        in_ms = f"{estimate} ({low} to {high})"
    return (
        *(effect.metric, f"{effect.runs[0]} + {effect.runs[1]}", *medians),
        *(f"{_number(effect.ratio * 100)} %", f"{_interval(effect)} %", in_ms, f"{effect.p:.2g}"),
    )


def network_rows(conclusion: Conclusion) -> list[tuple[str, ...]]:
    """A row for each private network under ``NETWORKS``, where these are the units."""
    rows = [(each.name, *_row(each.effect)) for each in conclusion.networks]
    return [(name, runs, a, b, change, interval) for name, _, runs, a, b, change, interval, *_ in rows]


def failure_text(conclusion: Conclusion) -> str:
    """How often both failed, and the difference with its interval."""
    found, design = conclusion.failures, conclusion.design
    per_cent = [_number(value * 100, 2) for value in (found.difference, found.low, found.high)]
    return (
        f"failures: {design.a} {found.failures[0]} of {found.runs[0]}, {design.b} {found.failures[1]} of "
        f"{found.runs[1]}; difference {per_cent[0]} % of runs, 95 % interval {per_cent[1]} to {per_cent[2]}"
    )


def decile_rows(conclusion: Conclusion) -> list[tuple[str, ...]]:
    """A row for each decile under ``DECILES``."""
    return [
        (
            f"{each.p:.0%}".replace("%", " %"),
            f"{each.of_a * 1e3:.1f} ms",
            _number(each.difference * 1e3),
            f"{_number(each.low * 1e3)} to {_number(each.high * 1e3)}",
        )
        for each in conclusion.deciles
        if METRICS[conclusion.design.primary].per_byte is False
    ]


def design_text(conclusion: Conclusion) -> str:
    """How the runs were made."""
    design = conclusion.design
    seed = "" if design.seed is None else f"; seed {design.seed}"
    unit = "; the unit is the block, since directories belong to one arm in it" if design.by_block else ""
    look = f"; look {design.look} of {design.looks}, |Z| {design.critical:.3f}" if design.looks else ""
    return f"design: {design.text}{unit}{look}{seed}"


def as_dict(conclusion: Conclusion) -> dict[str, object]:
    """The same ready for JSON; what is infinite is None, and p where it is not what decides."""
    found = attrs.asdict(conclusion, filter=lambda field, _: field.name != "values") | {
        "sentence": sentence(conclusion),
        "verdict": conclusion.verdict,
        "excludes_zero": conclusion.primary.excludes_zero,
    }
    cleaned = _without(found, () if conclusion.design.is_single_look else ("p",))
    assert isinstance(cleaned, dict)
    return cleaned


def _without(value: object, unsaid: Collection[str]) -> object:
    """None in the place of what is infinite, and of the keys that are ``unsaid``."""
    if isinstance(value, dict):
        return {key: None if key in unsaid else _without(each, unsaid) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(each, unsaid) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(effect: Effect) -> str:
    if effect.low == effect.high and math.isinf(effect.low):
        return _number(effect.low)
    return f"{_number(effect.low * 100)} to {_number(effect.high * 100)}"


def _number(value: float, digits: int = 1) -> str:
    """Zero has no sign; an end that failures decide is unbounded."""
    if not math.isfinite(value):
        return "unbounded"
    return f"{round(value, digits) + 0.0:.{digits}f}"
