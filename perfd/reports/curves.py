"""The charts of a measurement's curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perfd.analysis.curve import Points, longest_silence
from perfd.charts.axes import Axis
from perfd.charts.build import cdf
from perfd.charts.model import Line, LineChart, Point, tone
from perfd.record import Curve
from perfd.units import format_size

MEGA = 1e6


def of_curves(curves: Sequence[Curve]) -> Iterator[LineChart]:
    """How the payload came, round-trip times, congestion windows, and what each leg of a Conflux set carried."""
    arrivals = [curve for curve in curves if curve.name == "arrival"]
    circuits = [curve for curve in curves if curve.name.startswith("circuit-")]
    servers = [curve for curve in curves if curve.name == "tcp-server"]
    note = "; ".join(filter(None, map(_silence, arrivals))) if len(arrivals) == 1 else ""
    yield from _chart("arrival", "How the payload came", note, arrivals, "payload", ("payload", "MB", 1 / MEGA))
    rtt = "The kernel's of the server's connection, and tor's of its circuits."
    yield from _chart("rtt", "Round-trip times", rtt, [*servers, *circuits], "rtt", ("round trip", "ms", 1e3))
    cells = "Of our tor's sending direction."
    yield from _chart("cwnd", "Windows of the circuits", cells, circuits, "cwnd", ("window", "cells", 1.0))
    if len(circuits) > 1:
        legs = "Cells, with all that Tor adds."
        yield from _chart("leg-bytes", "What each leg brought", legs, circuits, "read", ("cells", "MB", 1 / MEGA))


def silences_of(arrivals: Sequence[tuple[str | None, Curve]], *, points: int) -> Iterator[LineChart]:
    """How long the longest time without a byte was in each run, by tor; nothing for less than two."""
    samples: dict[str, list[float]] = {}
    for tor, curve in arrivals:
        longest = longest_silence(points_of(curve, "payload"))
        if longest is not None:
            samples.setdefault(tor or "without tor", []).append(longest.seconds)
    if sum(map(len, samples.values())) > 1:
        title = "Longest time without a byte"
        yield cdf("silences", title, samples, label="without a byte", unit="s", points=points)


def points_of(curve: Curve, column: str) -> Points:
    """Seconds and the values of a column, where there is one."""
    if column not in curve.columns:
        return []
    place = curve.columns.index(column)
    found = [(sample[0], sample[place]) for sample in curve.samples]
    return [(at, value) for at, value in found if at is not None and value is not None]


def _silence(curve: Curve) -> str:
    longest = longest_silence(points_of(curve, "payload"))
    if longest is None:
        return ""
    after = format_size(int(longest.count)) if longest.count else "nothing"
    return f"The longest time without a byte was {longest.seconds:.3f} s, after {after} had come."


def _chart(
    name: str, title: str, note: str, curves: Sequence[Curve], column: str, scale: tuple[str, str, float]
) -> Iterator[LineChart]:
    """None if no curve has two points."""
    label, unit, factor = scale
    found = [(curve, points_of(curve, column)) for curve in curves]
    found = [(curve, points) for curve, points in found if len(points) > 1]
    if not found:
        return
    name_of = _names([curve for curve, _ in found])
    lines = tuple(
        Line(
            name=name_of(curve),
            points=tuple(Point(at, factor * value) for at, value in points),
            tone=tone(place),
            stepped=True,
        )
        for place, (curve, points) in enumerate(found)
    )
    reach = max(points[-1][0] for _, points in found)
    most = factor * max(value for _, points in found for _, value in points)
    yield LineChart(
        name=name,
        title=title,
        note=note,
        x=Axis(label="since the start", low=0.0, high=1.02 * reach or 1.0, unit="s"),
        y=Axis(label=label, low=0.0, high=1.05 * most or 1.0, unit=unit),
        lines=lines,
    )


def _names(curves: Sequence[Curve]) -> Callable[[Curve], str]:
    """What to call each: its name, or if there are several, its place too."""
    words = {"arrival": "payload", "tcp-server": "server"}
    is_one = len({curve.measurement for curve in curves}) == 1

    def name_of(curve: Curve) -> str:
        word = words.get(curve.name, curve.name.replace("-", " "))
        return word if is_one else f"{word} {curve.measurement.rpartition('-')[2]}"

    return name_of
