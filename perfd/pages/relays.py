"""``/relays``: which relays are slow, or fail, more often than the others; ``/onion``: which step hurts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from perfd.analysis.quantiles import quartiles
from perfd.charts.axes import number
from perfd.charts.html import Sheet
from perfd.pages import elements
from perfd.pages.drawn import charts_of
from perfd.pages.elements import Heading, Text
from perfd.pages.layout import Page
from perfd.pages.marks import marks_of
from perfd.pages.periods import PERIODS, choice, runs_of
from perfd.pages.records import PageRequest, View
from perfd.pages.words import clipped
from perfd.reports.figures import ONION, failures_of, of_relays, slug, steps_of
from perfd.reports.groups import Group, grouped
from perfd.reports.relays import RelayFinding, relays
from perfd.reports.runs import Run
from perfd.store.reader import StoreReader

USUAL = "month"
MOST_ROWS = 60
CERTAIN = 0.05

HEADINGS = (
    *(Heading("Relay"), Heading("Place"), Heading("Runs", number=True), Heading("Share", number=True)),
    *(Heading("95 % interval", number=True), Heading("q", number=True), Heading("Weight", number=True, minor=True)),
)
STEPS = (
    Heading("Step"),
    Heading("Median", number=True),
    Heading("Half of them", number=True),
    Heading("Share", number=True),
)
FAILURES = (Heading("Failed before the end of"), Heading("Runs", number=True), Heading("Share", number=True))


def relay_page(reader: StoreReader, request: PageRequest) -> Page:
    """Relays by guard, middle and exit, with intervals."""
    period, view = request.arguments.get("period", USUAL), request.view
    groups = grouped(run for run in runs_of(reader, request.state.now, period) if run.path)
    found = relays(groups)
    sheet = Sheet()
    parts = [choice(view, period), charts_of(of_relays(found), sheet)]
    for heading, findings in (("Slow runs", found.slow), ("Failed runs", found.failing)):
        shown = [finding for finding in findings if finding.found.hits][:MOST_ROWS]
        if shown:
            rows = [_relay(finding, view) for finding in shown]
            parts.append(elements.section(heading, [elements.table(heading, HEADINGS, rows)]))
    if not found.slow and not found.failing:
        parts.append(elements.paragraph("Too few runs: of a relay something is said from five runs on."))
    parts.append(elements.paragraph(HOW, "soft"))
    return Page("Relays", _relays_lead(found.slow, found.failing), parts, sheet)


HOW = (
    "A run is slow that takes longer than 90 % of those of its kind. Share is that of the runs over a relay which "
    "were slow, or failed. q is the share of findings that chance alone would give up to this row (Benjamini and "
    "Hochberg): below 0.05 a relay is worth a look. A relay is not at fault because it stands here: its neighbours "
    "on circuits, its load and the network between play a part."
)


def _relays_lead(slow: Sequence[RelayFinding], failing: Sequence[RelayFinding]) -> str:
    certain = [sum(finding.found.q < CERTAIN for finding in findings) for findings in (slow, failing)]
    if not slow and not failing:
        return "No relay has enough runs yet."
    words = [f"{count} relay{'' if count == 1 else 's'}" for count in certain]
    return f"Slow more often than chance explains: {words[0]} at a place in circuits; failing: {words[1]}."


def _relay(finding: RelayFinding, view: View) -> Sequence[Text]:
    found = finding.found
    name = clipped(finding.nickname or finding.fingerprint[:9], 24)
    weight = f"{int(finding.weight):,}" if finding.weight.isdigit() else finding.weight
    interval = f"{number(100 * found.low)} to {number(100 * found.high)} %"
    q: Text = Markup("<strong>{}</strong>").format(number(found.q)) if found.q < CERTAIN else number(found.q)
    address = view.link("/results", {finding.place: finding.fingerprint})
    return (
        elements.link(address, name),
        finding.place,
        f"{found.count:,}",
        f"{number(100 * found.share)} %",
        interval,
        q,
        weight,
    )


def onion_page(reader: StoreReader, request: PageRequest) -> Page:
    """The steps on the way to the onion service."""
    period = request.arguments.get("period", USUAL)
    groups = grouped(runs_of(reader, request.state.now, period, server="onion"))
    sheet = Sheet()
    parts, charts = [choice(request.view, period)], []
    marks = marks_of(reader, request.state.now - PERIODS[period], request.state.now)
    for n, group in enumerate(groups):
        rows, failures = list(_steps(group)), list(_failures(group))
        tables = [elements.table(group.name, STEPS, rows)] if rows else []
        tables += [elements.table(f"{group.name}: where it failed", FAILURES, failures)] if failures else []
        if tables:
            parts.append(elements.section(clipped(group.name), tables))
        prefix = f"{slug(group.experiment)}-{n + 1}"
        charts += [chart for chart in steps_of(prefix, n + 1, group) if ".onion-" in chart.name]
        charts += failures_of(prefix, [group], marks)
    parts.append(charts_of(charts, sheet))
    runs = sum(len(group.runs) for group in groups)
    lead = f"Where the time goes on the way to the onion service, in {runs:,} runs of the last {period}."
    if not runs:
        lead = f"No run to an onion service in the last {period}; experiments with server = onion make them."
    return Page("Onion service", lead, parts, sheet)


def _failures(group: Group) -> Iterator[Sequence[Text]]:
    """How many runs did not get further than each step."""
    failed = [run for run in group.runs if run.has_failed]
    for words, count in Counter(map(_stopped_at, failed)).most_common():
        yield words, f"{count:,}", f"{100 * count / len(failed):.0f} %"


def _stopped_at(run: Run) -> str:
    """The first step that a run did not do, of those after the last one that it did."""
    done = max((n for n, (_, _, end) in enumerate(ONION) if end in run.times), default=-1)
    return ONION[done + 1][0] if done + 1 < len(ONION) else "after the payload"


def _steps(group: Group) -> Iterator[Sequence[Text]]:
    """Median, quartiles and share of the whole time of each step."""
    done = [run for run in group.runs if run.is_ok]
    times = {
        words: [took for run in done if (took := run.between(first, last)) is not None and took >= 0]
        for words, first, last in ONION
    }
    known = {words: quartiles(values) for words, values in times.items() if values}
    whole = sum(middle for _, middle, _ in known.values())
    for words, (low, middle, high) in known.items():
        share = f"{100 * middle / whole:.0f} %" if whole else ""
        yield (words, f"{number(middle)} s", f"{number(low)} to {number(high)} s", share)
