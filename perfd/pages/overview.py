"""``/``: is it all right? A sentence, a row for each variant, the last week, and what went wrong lately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from perfd.analysis.periods import DAY
from perfd.charts.axes import Axis
from perfd.charts.html import Sheet
from perfd.pages import elements
from perfd.pages.drawn import charts_of
from perfd.pages.elements import Heading, Text
from perfd.pages.histories import STRIP, History, Last, read_histories
from perfd.pages.layout import Page
from perfd.pages.records import DaemonState, PageRequest, View
from perfd.pages.words import clipped, epoch, experiment_path, summary, with_unit
from perfd.record import Outcome
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.variant import COLUMNS, Variant, names

REFRESH = 60
"""Seconds until it is worth another look."""

MOST_TROUBLES = 8

HEADINGS = (
    Heading("Experiment"),
    Heading("Last result"),
    Heading("Median of 24 h", number=True),
    Heading("beside 28 days", minor=True),
    Heading("24 hours"),
    Heading("Last success", number=True, minor=True),
)


def overview(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises QueryTooLongError, StoreError and sqlite3.Error."""
    state, view = request.state, request.view
    wanted = [
        (experiment["name"], Variant(**{column: each.get(column) for column in COLUMNS}))
        for experiment in state.health["experiments"]
        for each in experiment["variants"]
    ]
    found = read_histories(reader, wanted, state.now)
    sheet = Sheet()
    parts = [_variants(found.histories, state, view, sheet)]
    if found.charts:
        parts.append(elements.section("The last seven days", [charts_of(found.charts, sheet)]))
    parts += [comparisons(state, view), _troubles(reader, state, view), _next(state, view), parts_of_perfd(state)]
    return Page("Overview", summary(state), parts, sheet, REFRESH, _next_run(state))


def _variants(histories: Sequence[History], state: DaemonState, view: View, sheet: Sheet) -> Markup:
    if not histories:
        return elements.paragraph("No experiment is configured; perfd.conf says what is measured.")
    named = _names(histories)
    rows = [_row(history, named[history.experiment, history.variant], state, view, sheet) for history in histories]
    note = elements.paragraph(
        "A bar is what the middle half of the runs of 28 days took, the line in it their median, and the dot the "
        "median of 24 hours.",
        "soft small",
    )
    return elements.section("Experiments", [elements.table("Each way of measuring", HEADINGS, rows), note])


def _names(histories: Sequence[History]) -> Mapping[tuple[str, Variant], str]:
    by_experiment: dict[str, list[Variant]] = {}
    for history in histories:
        by_experiment.setdefault(history.experiment, []).append(history.variant)
    return {
        (experiment, variant): name
        for experiment, variants in by_experiment.items()
        for variant, name in names(experiment, variants).items()
    }


def _axis(history: History) -> Axis:
    """Each has its own: what is unusual for one is not for another. What is usual is in the middle of it."""
    values = [each for each in (*(history.band or ()), history.day_median) if each is not None]
    high = max(values, default=0.0)
    return Axis(label="", low=0.0, high=1.5 * high if high > 0 else 1.0)  # an import may have had anything


def _row(history: History, name: str, state: DaemonState, view: View, sheet: Sheet) -> Sequence[Text]:
    median = with_unit(history.day_median, history.measure.unit)
    told: Text = Markup('{}<br><span class="soft">{}</span>').format(median or "-", history.measure.label)
    success = elements.ago(state.now - history.last_success) if history.last_success is not None else "never"
    return (
        elements.link(view.link(experiment_path(history.experiment)), clipped(name)),
        _last(history.last, state, view),
        told,
        elements.bullet(history.day_median, history.band, _axis(history), sheet),
        elements.strip(history.strip, _strip_words(history)),
        success,
    )


def _last(last: Last | None, state: DaemonState, view: View) -> Text:
    if last is None:
        return "nothing yet"
    path = view.link(f"/results/{last.id}")
    besides = Markup('<br><span class="soft">{}</span>').format(
        elements.link(path, last.errorcode or elements.ago(state.now - last.start))
    )
    return Markup("{}{}").format(elements.outcome(last.outcome), besides)


def _strip_words(history: History) -> str:
    counts = history.counts
    total = sum(counts.values())
    if not total:
        return "nothing was measured in the last 24 hours"
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return f"the last 24 hours, {DAY / STRIP / 60:.0f} minutes each: {words}"


def _troubles(reader: StoreReader, state: DaemonState, view: View) -> Markup:
    since = state.now - DAY
    found = [
        m
        for outcome in (Outcome.FAILED, Outcome.TIMEOUT)
        for m in reader.measurements(Filter(since=since, limit=MOST_TROUBLES, outcome=outcome, requests=False))
    ]
    found.sort(key=lambda m: -m.start)
    if not found:
        return elements.section("What went wrong lately", [elements.paragraph("Nothing in the last 24 hours.")])
    rows = [
        (
            elements.link(view.link(f"/results/{m.id}"), elements.time(m.start)),
            clipped(m.experiment),
            Markup("<strong>{}</strong>").format(m.errorcode or m.outcome.value),
            clipped(m.reason or "no reason was told", 160),
        )
        for m in found[:MOST_TROUBLES]
    ]
    headings = (Heading("When (UTC)"), Heading("Experiment"), Heading("Error"), Heading("In words", minor=True))
    more = elements.paragraph(
        elements.link(view.link("/results", {"outcome": "failed"}), "All that failed"), "small"
    )
    return elements.section("What went wrong lately", [elements.table("The last 24 hours", headings, rows), more])


def comparisons(state: DaemonState, view: View) -> Markup:
    """Links to those of perfd.conf; nothing without any."""
    if not state.comparisons:
        return Markup("")
    links = [
        elements.link(view.link(f"/compare/{quote(name, safe='')}"), clipped(name)) for name in state.comparisons
    ]
    return elements.section("Comparisons", [elements.listed(links)])


def _next(state: DaemonState, view: View) -> Markup:
    coming = sorted(_coming(state))[:5]
    if not coming:
        return Markup("")
    rows = [
        (clipped(name), elements.time(at, date=False), elements.duration(max(0, at - state.now)))
        for at, name in coming
    ]
    headings = (Heading("Experiment"), Heading("At (UTC)", number=True), Heading("In", number=True))
    return elements.section("Next runs", [elements.table("What is due", headings, rows)])


def _coming(state: DaemonState) -> Iterator[tuple[float, str]]:
    for experiment in state.health["experiments"]:
        at = epoch(experiment["next_slot"])
        if at is not None:
            yield at, experiment["name"]


def _next_run(state: DaemonState) -> float | None:
    return min((at for at, _ in _coming(state) if at > state.now), default=None)


def parts_of_perfd(state: DaemonState) -> Markup:
    """The tors, the files and the network, and how each does."""
    health = state.health
    rows: list[tuple[str, Any]] = [
        (f"Tor {tor['name']}", _state(tor["healthy"], f"{tor['state']} {tor['version'] or ''}".strip()))
        for tor in health["tors"]
    ]
    rows += [(name.capitalize(), _state(health[name] == "ok", health[name])) for name in ("database", "log")]
    if state.disk:
        rows.append(("Disk", state.disk))
    rows.append(("Network", _NETWORKS.get(state.network, state.network)))
    return elements.section("Parts of Perfd", [elements.facts(rows)])


def _state(healthy: bool, words: str) -> Markup:
    return Markup('<span class="outcome {}">{}</span>').format("ok" if healthy else "failed", words)


_NETWORKS = {
    "tor": "the public Tor network",
    "testnet": "a private Tor network on this machine",
    "socks": "a SOCKS proxy, without Tor",
}
