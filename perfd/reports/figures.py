"""The charts of a report: one set for each experiment, and one for relays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import median
from zlib import crc32

from perfd.analysis.periods import DAY, MOST, common_width, divided, periods
from perfd.charts.axes import Axis, Scale, covering, number
from perfd.charts.build import POINTS, cdf, over_time, parts_of, single_runs
from perfd.charts.model import (
    Bar,
    Bars,
    Chart,
    Column,
    HeatMap,
    Line,
    Mark,
    Point,
    Row,
    Stacks,
    Stretch,
    Waterfall,
    tone,
)
from perfd.reports.delays import figures_of, round_trips
from perfd.reports.groups import MEASURES, Group, Measure
from perfd.reports.relays import RelayFinding, Relays

LINES = 6
"""Variants in one chart."""

MOST_CODES = 5
MOST_RELAYS = 12
MOST_WATERFALLS = 4
FEWEST_OF_TAIL = 50  # runs of which a tail is worth a chart

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

ONION = (
    ("descriptor", "HSDESCREQUESTED", "HSDESCRECEIVED"),
    ("rendezvous point", "HSRENDBUILT", "HSRENDESTABLISHED"),
    ("introduction", "HSINTROBUILT", "HSINTROACK"),
    ("service comes", "HSINTROACK", "HSRENDJOINED"),
    ("first byte", "HSRENDJOINED", "dataresponse"),
    ("payload", "dataresponse", "datacomplete"),
)
STEPS = (
    ("connect to SOCKS", "socket", "connect"),
    ("SOCKS methods", "connect", "negotiate"),
    ("circuit and stream", "request", "response"),
    ("TLS", "TLSSTART", "TLSDONE"),
    ("request to server", "datarequest", "serverrequest"),
    ("server", "serverrequest", "serverresponse"),
    ("first byte back", "serverresponse", "dataresponse"),
    ("payload", "dataresponse", "datacomplete"),
)
BOOTSTRAP = (
    ("way in", "TORNETWORK", "BOOTSTRAPHANDSHAKEDONE"),
    ("consensus", "BOOTSTRAPREQUESTINGSTATUS", "BOOTSTRAPREQUESTINGDESCRIPTORS"),
    ("descriptors", "BOOTSTRAPREQUESTINGDESCRIPTORS", "BOOTSTRAPENOUGHDIRINFO"),
    ("circuit", "BOOTSTRAPENOUGHDIRINFO", "BOOTSTRAPDONE"),
    ("first byte", "BOOTSTRAPDONE", "dataresponse"),
)
PAGE = (("first paint", "FIRSTCONTENTFULPAINT"), ("load", "LOAD"), ("fully loaded", "FULLYLOADED"))
MOMENTS = (
    *((f"page-{words.replace(' ', '-')}", f"Page load: {words}", words, key) for words, key in PAGE),
    ("bootstrapped", "Bootstrap", "the end of the bootstrap", "BOOTSTRAPDONE"),
)
"""Name and title of a chart, what was reached, and the key of that."""


def of_experiment(
    groups: Sequence[Group], marks: Sequence[Mark], *, points: int = POINTS, most: int = MOST
) -> Iterator[Chart]:
    """The charts of the variants of one experiment, for as much of it as there are values.

    A distribution has at most so many ``points``, a line over time so many periods (``most``).
    """
    for prefix, some in _parts(groups):
        for measure in MEASURES:
            yield from _distributions(prefix, some, measure, points)
            yield from over_time_of(prefix, some, measure, marks, most=most)
        yield from failures_of(prefix, some, marks, most)
        yield from of_parts(prefix, some, points=points)
        yield from _by_hour(prefix, max(some, key=lambda group: len(group.done)))


def runs_of_experiment(groups: Sequence[Group], marks: Sequence[Mark]) -> Iterator[Chart]:
    """The single runs of its variants over time: too much for a page that is made again and again."""
    for prefix, some in _parts(groups):
        for measure in MEASURES:
            yield from _single_runs(prefix, some, measure, marks)


def _parts(groups: Sequence[Group]) -> Iterator[tuple[str, Sequence[Group]]]:
    """As many variants as a chart can show, with what the names of their charts begin with."""
    for part, some in enumerate(groups[n : n + LINES] for n in range(0, len(groups), LINES)):
        yield slug(groups[0].experiment) + (f".{part + 1}" if part else ""), some


def of_parts(prefix: str, groups: Sequence[Group], *, points: int = POINTS) -> Iterator[Chart]:
    """The charts of what runs consist of: hops, round trips, moments of page loads, steps one after the other."""
    yield from _hops(prefix, groups, points)
    yield from round_trips(prefix, groups, points)
    yield from _moments(prefix, groups, points)
    for n, group in enumerate(groups[:MOST_WATERFALLS]):
        yield from steps_of(prefix, n + 1, group)


def steps_of(prefix: str, number: int, group: Group) -> Iterator[Chart]:
    """Where the time of the runs of a group goes; ``number`` tells the charts from those of other groups."""
    yield from _waterfall(f"{prefix}.steps-{number}", "Where the time goes", STEPS, group)
    yield from _waterfall(f"{prefix}.onion-{number}", "On the way to the onion service", ONION, group)
    yield from _waterfall(f"{prefix}.bootstrap-{number}", "From the launch to the first byte", BOOTSTRAP, group)


def of_relays(found: Relays) -> Iterator[Chart]:
    """Relays with more than their share of slow runs, and of failures."""
    both = (
        ("slow", "slow", found.slow, found.share_slow),
        ("failing", "failed", found.failing, found.share_failing),
    )
    for name, what, findings, share in both:
        shown = [finding for finding in findings if finding.found.hits][:MOST_RELAYS]
        if shown:
            marks = () if share is None else (Mark(share, "all runs"),)
            yield _relay_bars(f"relays.{name}", what, shown, len(findings), marks)


def slug(name: str) -> str:
    """``name`` as a part of a file's name: as it is if perfd.conf allows it, else with digits of its own."""
    if _PLAIN.fullmatch(name):
        return name
    found = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:50] or "experiment"
    return f"{found}-{crc32(name.encode()):08x}"


def _distributions(prefix: str, groups: Sequence[Group], measure: Measure, points: int) -> Iterator[Chart]:
    samples = {group.name: sample for group in groups if (sample := group.sample(measure))}
    if not samples:
        return
    of_failures = "Runs that failed count as infinitely slow." if measure.counts_failures else "Of the successes."
    drawn = partial(cdf, label=measure.label, unit=measure.unit, points=points, note=of_failures)
    name, title = f"{prefix}.{measure.name}", measure.label.capitalize()
    yield drawn(f"{name}.cdf", title, samples)
    many = {group: sample for group, sample in samples.items() if len(sample) >= FEWEST_OF_TAIL}
    if many:
        yield drawn(f"{name}.tail", f"{title}: the slowest", many, tail=True, falling=not measure.is_duration)


def over_time_of(
    prefix: str, groups: Sequence[Group], measure: Measure, marks: Sequence[Mark] = (), *, most: int = MOST
) -> Iterator[Chart]:
    """Medians and quartiles of ``measure`` over time, a line for each group; nothing of less than two periods."""
    lines = []
    length = _length(groups, most)
    for n, group in enumerate(groups):
        pairs = [(r.start, v) for r in group.done if (v := measure.value(r)) is not None]
        if not pairs:
            continue
        points = []
        for period in periods(pairs, length):
            low, middle, high = period.quartiles or (None, None, None)
            points.append(Point((period.start + period.end) / 2, middle, low, high))
        lines.append(Line(name=group.name, points=tuple(points), tone=tone(n)))
    if lines and max(len(line.points) for line in lines) > 1:
        yield over_time(
            f"{prefix}.{measure.name}.time",
            f"{measure.label.capitalize()} over time",
            lines,
            label=measure.label,
            unit=measure.unit,
            period=_period(groups, length),
            marks=marks,
            note=f"Median and quartiles of each {words_of(length)}; interrupted where nothing was measured.",
        )


def _single_runs(prefix: str, groups: Sequence[Group], measure: Measure, marks: Sequence[Mark]) -> Iterator[Chart]:
    """Each success by its time; of durations alone, as OnionPerf draws them."""
    samples = {
        group.name: [(r.start, v) for r in group.done if (v := measure.value(r)) is not None] for group in groups
    }
    if measure.is_duration and sum(map(len, samples.values())) > 1:
        yield single_runs(
            f"{prefix}.{measure.name}.scatter",
            f"{measure.label.capitalize()}, run by run",
            samples,
            label=measure.label,
            unit=measure.unit,
            marks=marks,
        )


def failures_of(prefix: str, groups: Sequence[Group], marks: Sequence[Mark], most: int = MOST) -> Iterator[Chart]:
    """The share of runs that failed over time, by error code; nothing if none did."""
    counts = Counter(r.errorcode or r.outcome for group in groups for r in group.runs if r.has_failed)
    if not counts:
        return
    codes = [code for code, _ in counts.most_common(MOST_CODES)]
    has_others = len(counts) > len(codes)
    length = _length(groups, most)
    run = ((r.start, r) for group in groups for r in group.runs if r.is_ok or r.has_failed)
    columns = []
    for start, runs in sorted(divided(run, length).items()):
        found = Counter(r.errorcode or r.outcome for r in runs if r.has_failed)
        others = [found.total() - sum(found[code] for code in codes)] if has_others else []
        shares = tuple(count / len(runs) for count in (*(found[code] for code in codes), *others))
        columns.append(Column(start, start + length, shares))
    first, last = _period(groups, length)
    names = [*(f"{code} ({counts[code]:,})" for code in codes), *(["others"] if has_others else [])]
    yield Stacks(
        name=f"{prefix}.failures",
        title="Failures over time, by error code",
        note=f"Share of the runs of each {words_of(length)} that failed; hatched where nothing was run.",
        x=Axis(label="", low=first, high=last, scale=Scale.TIME),
        y=covering([sum(column.values) for column in columns], "failed", "", Scale.SHARE, zero=True),
        names=tuple(names),
        columns=tuple(columns),
        marks=tuple(mark for mark in marks if first <= mark.at <= last),
    )


def _hops(prefix: str, groups: Sequence[Group], points: int) -> Iterator[Chart]:
    variants: dict[str, dict[str, list[float]]] = {group.name: {} for group in groups}
    for group in groups:
        hops = variants[group.name]
        for r in group.runs:
            for n, seconds in enumerate(r.hops[:4]):
                hops.setdefault(f"hop {n + 1}", []).append(seconds)
    title, label = "Build time of each hop", "time since the hop before"
    if chart := parts_of(f"{prefix}.hops", title, variants, label=label, unit="s", points=points):
        yield chart


def _moments(prefix: str, groups: Sequence[Group], points: int) -> Iterator[Chart]:
    """When what only some kinds have was reached, and how early a page was seen."""
    for name, title, words, key in MOMENTS:
        samples = {group.name: [s for r in group.done if (s := r.times.get(key)) is not None] for group in groups}
        if any(samples.values()):
            yield cdf(f"{prefix}.{name}", title, samples, label=f"time to {words}", unit="s", points=points)
    seen = {group.name: [ms / 1000 for ms in figures_of(group.runs, "SPEEDINDEX")] for group in groups}
    if any(seen.values()):
        yield cdf(
            f"{prefix}.speed-index", "Page load: SpeedIndex", seen, label="SpeedIndex", unit="s", points=points
        )


def _waterfall(name: str, title: str, steps: Sequence[tuple[str, str, str]], group: Group) -> Iterator[Chart]:
    rows: list[Row] = []
    runs = [r.times for r in group.done]
    for words, first, last in steps:
        both = [(times[first], times[last]) for times in runs if first in times and last in times]
        if not both or len(both) * 2 < len(runs):  # most did not do it
            continue
        begun, took = median([a for a, _ in both]), median([b - a for a, b in both])
        if took >= 0 and begun >= 0:  # an import may have had anything
            rows.append(Row(words, (Stretch(begun, begun + took, tone(len(rows)), words),)))
    if len(rows) > 2:
        reach = max(span.end for row in rows for span in row.spans)
        yield Waterfall(
            name=name,
            title=f"{title}: {group.name}",
            note="Medians of when a step began, and of how long it took.",
            x=Axis(label="since the start", low=0, high=reach * 1.02 or 1.0, unit="s"),
            rows=tuple(rows),
        )


def _by_hour(prefix: str, group: Group) -> Iterator[Chart]:
    cells: dict[tuple[int, int], list[float]] = {}
    for r in group.done:
        if r.first_byte is not None:
            time = datetime.fromtimestamp(r.start, UTC)
            cells.setdefault((time.weekday(), time.hour), []).append(r.first_byte)
    if len(cells) < 36:
        return
    medians = {cell: median(values) for cell, values in cells.items()}
    yield HeatMap(
        name=f"{prefix}.hours",
        title=f"By hour and weekday: {group.name}",
        note="In UTC.",
        columns=tuple(f"{hour:02}" for hour in range(24)),
        rows=WEEKDAYS,
        values=tuple(tuple(medians.get((day, hour)) for hour in range(24)) for day in range(7)),
        label="median time to first byte",
        unit="s",
    )


def _relay_bars(name: str, what: str, shown: Sequence[RelayFinding], of: int, marks: tuple[Mark, ...]) -> Chart:
    bars = []
    for finding in shown:
        found = finding.found
        weight = f", weight {int(finding.weight):,}" if finding.weight.isdigit() else ""
        text = f"{found.hits} of {found.count}, expected {number(found.expected)}{weight}, q {found.q:.2g}"
        is_certain = found.q < 0.05
        bars.append(Bar(finding.label, found.share, found.low, found.high, tone(1 if is_certain else 0), text))
    return Bars(
        name=name,
        title=f"Relays by the share of their runs that {'were slow' if what == 'slow' else 'failed'}",
        note=f"Least likely by chance first, of {of:,} relays and places with enough runs; the others' q "
        "(Benjamini and Hochberg) is larger. Expected: were it like the others with runs of its variants. "
        "Intervals are exact, of 95 %.",
        x=covering([0, *(bar.high for bar in bars)], f"{what} runs", "", Scale.SHARE, zero=True),
        bars=tuple(bars),
        marks=marks,
    )


def _length(groups: Sequence[Group], most: int = MOST) -> float:
    """Of the periods of charts over time, at most so many: the same for all variants."""
    return common_width([[r.start for r in group.runs] for group in groups], most)


def _period(groups: Sequence[Group], length: float) -> tuple[float, float]:
    starts = [r.start for group in groups for r in group.runs]
    return min(starts) // length * length, (max(starts) // length + 1) * length


def words_of(length: float) -> str:
    """A length of time as the name of a period."""
    for seconds, word in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        if length >= seconds:
            return word if length == seconds else f"{length / seconds:g} {word}s"
    raise ValueError(length)
