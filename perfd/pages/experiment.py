"""``/experiments/NAME``: how one experiment went over a period, and how its variants differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import attrs
from markupsafe import Markup

from perfd.analysis.proportion import exact_interval
from perfd.charts.axes import number
from perfd.charts.html import Sheet, join
from perfd.charts.model import Chart, Mark
from perfd.pages import elements
from perfd.pages.drawn import PERIODS, POINTS, charts_of
from perfd.pages.elements import Heading, Text
from perfd.pages.film import median_film
from perfd.pages.histories import MOST_COMPUTED
from perfd.pages.layout import Page
from perfd.pages.marks import marks_of
from perfd.pages.periods import PERIODS as SECONDS
from perfd.pages.periods import USUAL, choice, runs_of
from perfd.pages.progress import MOST as PROGRESS
from perfd.pages.progress import progress
from perfd.pages.records import Experiment, PageError, PageRequest, View
from perfd.pages.summarized import charts_by_day, charts_of_ways, ways
from perfd.pages.words import clipped, with_unit
from perfd.record import Outcome
from perfd.reports.curves import silences_of
from perfd.reports.figures import LINES, of_experiment, of_parts, slug
from perfd.reports.groups import MEASURES, grouped, percentiles
from perfd.store.parameters import Parameter
from perfd.store.reader import StoreReader
from perfd.summaries.kept import read_hours
from perfd.units import format_duration, format_size

REFRESH = 300

BY_VARIANT, BY_DAY = DIVISIONS = ("variant", "day")
"""What distributions are divided by."""


def _read_division(text: str) -> str:
    if text not in DIVISIONS:
        raise ValueError(f"there are {', '.join(DIVISIONS)}")
    return text


BY = Parameter("by", "distributions by `variant` or by `day`", _read_division, {"enum": list(DIVISIONS)})

HEADINGS = (
    *(Heading("Way of measuring"), Heading("Runs", number=True), Heading("Failed", number=True)),
    *(Heading(f"Median {measure.label}", number=True) for measure in MEASURES),
    Heading("Half of them, last byte", number=True, minor=True),
)

MOST_ERRORS = 6

MOST_CURVES = 200
"""Runs, the newest of a period, whose arrival curves are looked at."""

MOST_RUNS = 300
"""The newest successes of a long period, of which what hours do not have is shown."""


LONG = ("month", "year")
"""Periods of which hours are read, and not each run."""


@attrs.frozen(kw_only=True)
class _Row:
    """A way of measuring."""

    name: str
    done: int  # runs that were made
    kind: str  # the type of measurement
    tor: str | None
    errors: Counter[str]  # those of them that failed, by error code
    values: Sequence[Sequence[float]]  # of each of MEASURES, sorted

    @property
    def failed(self) -> int:
        return self.errors.total()


@attrs.frozen
class _Found:
    rows: Sequence[_Row]
    charts: Callable[[Sequence[Mark]], Iterable[Chart]]


def experiment(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises PageError if there is nothing of that name."""
    name, state, view = request.arguments["name"], request.state, request.view
    period, by = request.arguments.get("period", USUAL), request.arguments.get("by", BY_VARIANT)
    since = state.now - SECONDS[period]
    configured = next((each for each in state.experiments if each.name == name), None)
    found = _summed(reader, state.now, period, name) if period in LONG else _each(reader, state.now, period, name)
    if not found.rows and configured is None:
        raise PageError(404, f"No experiment {name[:100]!r} was measured in this {period}, and none is configured.")
    sheet = Sheet()
    parts = [choice(view, period), _divisions(view, by)]
    if configured is not None:
        parts.append(_facts(configured))
    if found.rows:
        parts.append(elements.table("Each way of measuring", HEADINGS, [_cells(row) for row in found.rows]))
        parts += _errors(found.rows, name, view)
        if by == BY_DAY:
            hours = read_hours(reader, since, state.now, name, most_computed=MOST_COMPUTED)
            parts.append(charts_of(charts_by_day(ways(hours), POINTS), sheet))
        else:
            tors = {row.tor for row in found.rows if row.tor is not None}
            marks = marks_of(reader, since, state.now, tors, name)
            parts.append(charts_of(found.charts(marks), sheet))
            parts += _latest(reader, name, period, state.now, sheet)
        if state.files is not None and any(row.kind == "pageload" for row in found.rows):
            parts += median_film(reader, name, since, state.now, state.files, view)
    else:
        parts.append(elements.paragraph(f"Nothing was measured in this {period}."))
    parts.append(elements.paragraph(elements.link(view.link("/results", {"experiment": name}), "All its results")))
    return Page(clipped(name), _lead(found.rows, period), parts, sheet, REFRESH)


def _each(reader: StoreReader, now: float, period: str, name: str) -> _Found:
    """All that the runs of a short period say."""
    groups = grouped(runs_of(reader, now, period, experiment=name))

    def charts(marks: Sequence[Mark]) -> Iterable[Chart]:
        return of_experiment(groups, marks, points=POINTS, most=PERIODS)

    rows = [
        _Row(
            name=group.name,
            kind=group.type,
            tor=group.variant.tor,
            done=group.outcomes["ok"] + group.outcomes["failed"] + group.outcomes["timeout"],
            errors=Counter(run.errorcode or run.outcome for run in group.runs if run.has_failed),
            values=[group.values(measure) for measure in MEASURES],
        )
        for group in groups
    ]
    return _Found(rows, charts)


def _summed(reader: StoreReader, now: float, period: str, name: str) -> _Found:
    """What the hours of a long period say."""
    since = now - SECONDS[period]
    found = ways(read_hours(reader, since, now, name, most_computed=MOST_COMPUTED))

    def charts(marks: Sequence[Mark]) -> Iterable[Chart]:
        return charts_of_ways(found, since, now, POINTS, PERIODS, marks)

    rows = [
        _Row(
            name=way.name,
            kind=way.type,
            tor=way.variant.tor,
            done=way.done,
            errors=way.errors,
            values=[way.values(measure.name) for measure in MEASURES],
        )
        for way in found
    ]
    return _Found(rows, charts)


def _latest(reader: StoreReader, name: str, period: str, now: float, sheet: Sheet) -> list[Markup]:
    """What is told of the newest runs alone: how the payload went on, silences, and of long periods what hours do
    not have.
    """
    since = now - SECONDS[period]
    charts: list[Chart] = []
    if period in LONG:
        groups = grouped(runs_of(reader, now, period, experiment=name, outcome=Outcome.OK, limit=MOST_RUNS))
        charts += of_parts(slug(name), groups[:LINES], points=POINTS)
    charts += progress(reader, name, since, now)
    charts += silences_of(reader.arrivals(name, since, MOST_CURVES), points=POINTS)
    return [elements.section("The newest successes", [_newest(period), charts_of(charts, sheet)])] if charts else []


def _newest(period: str) -> Markup:
    runs = (
        f"Hops, round trips, steps and page loads are those of the newest {MOST_RUNS:,}. " if period in LONG else ""
    )
    return elements.paragraph(
        f"{runs}How the payload went on is of {PROGRESS:,}, times without a byte of {MOST_CURVES:,} at most.",
        "soft",
    )


def _divisions(view: View, by: str) -> Markup:
    """Links to the other ways to divide distributions."""
    links = [
        Markup('<strong aria-current="true">by {}</strong>').format(each)
        if each == by
        else elements.link(view.here(by=each), f"by {each}")
        for each in DIVISIONS
    ]
    return Markup('<nav class="pages" aria-label="Distributions">{}</nav>\n').format(join(links))


def _lead(rows: Sequence[_Row], period: str) -> str:
    done, failed = sum(row.done for row in rows), sum(row.failed for row in rows)
    if not done:
        return f"No run in the last {period}."
    low, high = exact_interval(failed, done)
    share = f"{number(100 * failed / done)} % (95 % interval {number(100 * low)} to {number(100 * high)})"
    return f"{done:,} runs in the last {period}, of which {failed:,} failed: {share}."


def _facts(configured: Experiment) -> Markup:
    size: list[tuple[str, Text]] = [("Size", format_size(configured.size))] if configured.size else []
    return elements.facts(
        [
            ("Kind", configured.type),
            *size,
            ("Every", format_duration(configured.interval)),
            ("Deadline", format_duration(configured.timeout)),
            ("Over", ", ".join(configured.tors)),
            ("Server", ", ".join(configured.servers)),
        ]
    )


def _cells(row: _Row) -> Sequence[Text]:
    values = [percentiles(each) for each in row.values]
    medians = [with_unit(v["p50"], m.unit) if v else "" for v, m in zip(values, MEASURES, strict=True)]
    complete = values[1]
    half = f"{number(complete['p25'])} to {number(complete['p75'])} s" if complete else ""
    share = f"{row.failed:,} ({number(100 * row.failed / row.done)} %)" if row.done else ""
    return (clipped(row.name), f"{row.done:,}", share, *medians, half)


def _errors(rows: Sequence[_Row], name: str, view: View) -> list[Markup]:
    """What failed, by error code."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.errors)
    links = [
        Markup("{} ({:,})").format(
            elements.link(view.link("/results", {"experiment": name, "errorcode": code}), code), count
        )
        for code, count in counts.most_common(MOST_ERRORS)
    ]
    return [elements.paragraph(Markup("Failed: {}").format(Markup(", ").join(links)))] if links else []
