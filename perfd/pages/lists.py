"""``/results``, ``/circuits``, ``/streams`` and ``/events``: tables with filters, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

import attrs
from markupsafe import Markup

from perfd.charts.html import join
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.layout import Page
from perfd.pages.records import PageRequest, View
from perfd.pages.words import clipped
from perfd.record import Circuit, Measurement, Outcome, Stream, TorEvent
from perfd.store import parameters
from perfd.store.filters import CircuitFilter, EventFilter, StreamFilter, Window
from perfd.store.parameters import EXCLUDING, Parameter
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, EVENTS, MEASUREMENTS, STREAMS, Table
from perfd.units import format_size

R = TypeVar("R")

ROWS = 50
"""Of a page."""

MOST_ROWS = 500
"""What a browser can ask for by ``limit``."""

PAGED = ("after", "limit", "count")
"""Arguments that are no filters."""


@attrs.frozen(kw_only=True)
class Listed(Generic[R]):
    """A kind of record as a table."""

    title: str
    lead: str
    record: Table[R]
    window: Callable[..., Window]
    parameters: Sequence[Parameter]
    headings: Sequence[Heading]
    row: Callable[[R, View], Sequence[Text]]

    def page(self, reader: StoreReader, request: PageRequest) -> Page:
        """The records that are asked for, the newest first."""
        view = request.view
        arguments = {name: value for name, value in request.arguments.items() if name != "count"}
        limit = min(MOST_ROWS, arguments.pop("limit", None) or ROWS)
        found = reader.select(self.record, self.window(**arguments, limit=limit + 1))
        shown = found[:limit]
        parts = [self._form(view)]
        if shown:
            parts.append(elements.table(self._caption(shown), self.headings, [self.row(r, view) for r in shown]))
            parts.append(self._around(view, shown, is_last=len(found) <= limit))
        else:
            parts.append(elements.paragraph("There are none. Fewer filters may help."))
        return Page(self.title, self.lead, parts)

    def _caption(self, shown: Sequence[R]) -> str:
        return f"{len(shown)} of them, the newest first"

    def _form(self, view: View) -> Markup:
        fields = [
            _field(parameter, view.arguments.get(parameter.name, ""))
            for parameter in self.parameters
            if self._is_shown(parameter, view)
        ]
        kept = [Markup('<input type="hidden" name="theme" value="{}">').format(view.theme)] if view.theme else []
        given = [p.name for p in self.parameters if p.name not in PAGED and view.arguments.get(p.name)]
        opened = Markup(" open") if given else ""
        words = f"Filters ({len(given)} in use)" if given else "Filters"
        return Markup(
            '<details{}><summary>{}</summary><form class="filters" action="{}">{}{}'
            '<button type="submit">Show</button></form></details>'
        ).format(opened, words, view.path, join(fields), join(kept))

    def _is_shown(self, parameter: Parameter, view: View) -> bool:
        """Whether there is a field for it; what is to be left out has one where it is in use."""
        if parameter.name in PAGED:
            return False
        return not parameter.name.startswith(EXCLUDING) or parameter.name in view.arguments

    def _around(self, view: View, shown: Sequence[R], *, is_last: bool) -> Markup:
        links = []
        if view.arguments.get("after"):
            links.append(elements.link(view.here(after=""), "The newest"))
        if not is_last:
            time, record_id = self.record.cursor(shown[-1])
            links.append(elements.link(view.here(after=f"{Decimal(repr(time)):f},{record_id}"), "Older ones"))
        links.append(elements.link(view.here(format="json"), "As JSON"))
        return Markup('<nav class="pages" aria-label="Pages of the table">{}</nav>').format(join(links))


def _field(parameter: Parameter, value: str) -> Markup:
    choices = parameter.words if value in ("", *parameter.words) else ()  # else several are asked for
    doc = parameter.doc.replace("`", "")
    if choices:
        options = join(
            Markup("<option{}>{}</option>").format(Markup(" selected") if str(choice) == value else "", choice)
            for choice in ("", *choices)
        )
        return Markup('<label title="{}">{}<select name="{}">{}</select></label>').format(
            doc, parameter.name, parameter.name, options
        )
    return Markup('<label title="{}">{}<input type="text" name="{}" value="{}"></label>').format(
        doc, parameter.name, parameter.name, value
    )


def _seconds(since: float, at: float | None) -> str:
    return "" if at is None else f"{at - since:.3f}"


def _result(m: Measurement, view: View) -> Sequence[Text]:
    error: Text = m.errorcode or ""
    return (
        elements.link(view.link(f"/results/{m.id}"), elements.time(m.start)),
        elements.link(view.here(experiment=m.experiment, after=""), clipped(m.experiment, 40)),
        elements.outcome(m.outcome.value),
        _seconds(m.start, m.dataresponse),
        _seconds(m.start, m.datacomplete),
        Markup("<strong>{}</strong>").format(error) if m.outcome is not Outcome.SKIPPED else error,
        m.tor or "none",
        m.server or "",
        format_size(m.filesize) if m.filesize else "",
    )


def _relays(circuit: Circuit, view: View) -> Text:
    names = [hop.nickname or hop.fingerprint[:9] for hop in circuit.path]
    links = [
        elements.link(view.here(relay=hop.fingerprint, after=""), clipped(name, 24))
        for hop, name in zip(circuit.path, names, strict=True)
    ]
    return Markup(", ").join(links)


def _circuit(circuit: Circuit, view: View) -> Sequence[Text]:
    began = CIRCUITS.cursor(circuit)[0]
    took = None if circuit.built is None or circuit.launch is None else circuit.built - circuit.launch
    return (
        elements.link(view.link(f"/circuits/{circuit.id}"), elements.time(began)),
        circuit.tor,
        str(circuit.circ_id),
        circuit.status,
        circuit.purpose or "",
        "" if took is None else f"{took:.3f}",
        _relays(circuit, view),
        " ".join(filter(None, (circuit.failure_local, circuit.failure_remote))),
    )


def _stream(stream: Stream, view: View) -> Sequence[Text]:
    began = STREAMS.cursor(stream)[0]
    target: Text = clipped(stream.target or "", 60)
    if stream.measurement:
        target = elements.link(view.link(f"/results/{stream.measurement}"), target or "the measurement")
    circuit: Text = elements.link(view.link(f"/circuits/{stream.circuit}"), "circuit") if stream.circuit else ""
    return (
        elements.time(began),
        stream.tor,
        str(stream.stream_id),
        stream.status,
        stream.purpose or "",
        target,
        circuit,
        " ".join(filter(None, (stream.failure_local, stream.failure_remote))),
    )


def _event(event: TorEvent, view: View) -> Sequence[Text]:
    keyword = elements.link(view.here(keyword=event.keyword, after=""), clipped(event.keyword, 40))
    return (elements.time(event.at), event.tor, keyword, clipped(event.text, 300))


def _number(text: str, *, minor: bool = False) -> Heading:
    return Heading(text, number=True, minor=minor)


RESULTS = Listed(
    title="Results",
    lead="Measurements, the newest first; times are UTC, durations in seconds from the start.",
    record=MEASUREMENTS,
    window=lambda **arguments: parameters.results_filter(arguments),
    parameters=parameters.RESULTS,
    headings=(
        *(Heading("Start"), Heading("Experiment"), Heading("Outcome"), _number("First byte"), _number("Last byte")),
        *(Heading("Error"), Heading("Tor", minor=True), Heading("Server", minor=True), _number("Size", minor=True)),
    ),
    row=_result,
)
CIRCUIT_LIST = Listed(
    title="Circuits",
    lead="What tor told of its circuits, also of those that carried no measurement; times are UTC.",
    record=CIRCUITS,
    window=CircuitFilter,
    parameters=parameters.CIRCUITS,
    headings=(
        *(Heading("Seen"), Heading("Tor"), _number("Circuit"), Heading("Status"), Heading("Purpose")),
        *(_number("Built in (s)"), Heading("Relays"), Heading("Reason", minor=True)),
    ),
    row=_circuit,
)
STREAM_LIST = Listed(
    title="Streams",
    lead="What tor told of its streams; times are UTC.",
    record=STREAMS,
    window=StreamFilter,
    parameters=parameters.STREAMS,
    headings=(
        *(Heading("Seen"), Heading("Tor"), _number("Stream"), Heading("Status"), Heading("Purpose", minor=True)),
        *(Heading("Target"), Heading("Circuit"), Heading("Reason")),
    ),
    row=_stream,
)
EVENT_LIST = Listed(
    title="Events",
    lead="What tor told besides, in its own words; times are UTC.",
    record=EVENTS,
    window=EventFilter,
    parameters=parameters.EVENTS,
    headings=(Heading("At"), Heading("Tor"), Heading("Event"), Heading("What tor told")),
    row=_event,
)
_ALL: Mapping[str, Listed[Any]] = {
    "results": RESULTS,
    "circuits": CIRCUIT_LIST,
    "streams": STREAM_LIST,
    "events": EVENT_LIST,
}
LISTS = {name: listed.page for name, listed in _ALL.items()}
"""The pages, by name."""
