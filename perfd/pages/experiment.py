"""``/experiments/NAME``: how one experiment went over a period, and how its variants differ."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from perfd.analysis.proportion import exact_interval
from perfd.charts.axes import number
from perfd.charts.html import Sheet
from perfd.pages import elements
from perfd.pages.drawn import PERIODS, POINTS, charts_of
from perfd.pages.elements import Heading, Text
from perfd.pages.layout import Page
from perfd.pages.periods import USUAL, choice, runs_of
from perfd.pages.records import Experiment, PageError, PageRequest, View
from perfd.pages.words import clipped, with_unit
from perfd.reports.figures import of_experiment
from perfd.reports.groups import MEASURES, Group, grouped
from perfd.reports.groups import percentiles as percentiles_of
from perfd.store.reader import StoreReader
from perfd.units import format_duration, format_size

REFRESH = 300

HEADINGS = (
    *(Heading("Way of measuring"), Heading("Runs", number=True), Heading("Failed", number=True)),
    *(Heading(f"Median {measure.label}", number=True) for measure in MEASURES),
    Heading("Half of them, last byte", number=True, minor=True),
)

MOST_ERRORS = 6


def experiment(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises PageError if there is nothing of that name."""
    name, state, view = request.arguments["name"], request.state, request.view
    period = request.arguments.get("period", USUAL)
    configured = next((each for each in state.experiments if each.name == name), None)
    groups = grouped(runs_of(reader, state.now, period, experiment=name))
    if not groups and configured is None:
        raise PageError(404, f"No experiment {name[:100]!r} was measured in this {period}, and none is configured.")
    sheet = Sheet()
    parts = [choice(view, period)]
    if configured is not None:
        parts.append(_facts(configured))
    if groups:
        parts.append(elements.table("Each way of measuring", HEADINGS, [_row(group) for group in groups]))
        parts += _errors(groups, name, view)
        parts.append(charts_of(of_experiment(groups, (), points=POINTS, most=PERIODS), sheet))
    else:
        parts.append(elements.paragraph(f"Nothing was measured in this {period}."))
    parts.append(elements.paragraph(elements.link(view.link("/results", {"experiment": name}), "All its results")))
    return Page(clipped(name), _lead(groups, period), parts, sheet, REFRESH)


def _lead(groups: Sequence[Group], period: str) -> str:
    done = sum(group.outcomes["ok"] for group in groups)
    failed = sum(group.outcomes["failed"] + group.outcomes["timeout"] for group in groups)
    if not done + failed:
        return f"No run in the last {period}."
    low, high = exact_interval(failed, done + failed)
    share = f"{number(100 * failed / (done + failed))} % ({number(100 * low)} to {number(100 * high)})"
    return f"{done + failed:,} runs in the last {period}, of which {failed:,} failed: {share}."


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


def _row(group: Group) -> Sequence[Text]:
    values = [percentiles_of(group.values(measure)) for measure in MEASURES]
    medians = [with_unit(v["p50"], m.unit) if v else "" for v, m in zip(values, MEASURES, strict=True)]
    complete = values[1]
    half = f"{number(complete['p25'])} to {number(complete['p75'])} s" if complete else ""
    failed = group.outcomes["failed"] + group.outcomes["timeout"]
    done = failed + group.outcomes["ok"]
    share = f"{failed:,} ({number(100 * failed / done)} %)" if done else ""
    return (clipped(group.name), f"{done:,}", share, *medians, half)


def _errors(groups: Sequence[Group], name: str, view: View) -> list[Markup]:
    """What did not end well, by error code; also what was not run."""
    counts: dict[str, int] = {}
    for group in groups:
        for code, count in group.errors.items():
            counts[code] = counts.get(code, 0) + count
    if not counts:
        return []
    links = [
        Markup("{} ({:,})").format(
            elements.link(view.link("/results", {"experiment": name, "errorcode": code}), code), count
        )
        for code, count in sorted(counts.items(), key=lambda each: -each[1])[:MOST_ERRORS]
    ]
    return [elements.paragraph(Markup("Did not end well: {}").format(Markup(", ").join(links)))]
