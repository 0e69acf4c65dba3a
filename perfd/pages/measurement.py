"""``/results/ID``: one measurement, its steps at both ends, its circuit, and what tor told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import attrs
from markupsafe import Markup

from perfd.charts.axes import Axis
from perfd.charts.html import Sheet, figure
from perfd.charts.model import Row, Stretch, Tone, Waterfall, tone
from perfd.pages import elements
from perfd.pages.drawn import charts_of
from perfd.pages.elements import Heading, Text
from perfd.pages.explained import explained
from perfd.pages.layout import Page
from perfd.pages.legs import legs
from perfd.pages.load import load_parts
from perfd.pages.records import PageError, PageRequest, View
from perfd.pages.words import clipped, experiment_path
from perfd.record import FIELDS, Circuit, Kind, Measurement, Stream
from perfd.reports.curves import of_curves
from perfd.reports.figures import BOOTSTRAP, ONION, PAGE, STEPS
from perfd.reports.hops import hops_of
from perfd.reports.probes import probes
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.units import format_size
from perfd.variant import Variant

HOPS = (
    *(Heading("Hop"), Heading("Nickname"), Heading("Reached after", number=True)),
    *(Heading("Weight", number=True, minor=True), Heading("Flags", minor=True), Heading("Version", minor=True)),
    *(Heading("Country", minor=True), Heading("CGO", minor=True), Heading("Fingerprint", minor=True)),
)
EVENTS = (Heading("After", number=True), Heading("Stream", number=True), Heading("What tor told"))

MOST_STREAMS = 100
"""Parallel streams whose curves are drawn."""

A_RUN = 86400.0
"""Seconds; see ``_is_time``."""


def measurement(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises PageError if there is no such measurement."""
    m = reader.measurement(request.arguments["id"])
    if m is None:
        raise PageError(404, f"There is no measurement {request.arguments['id'][:64]!r}.")
    streams = reader.streams_of(m.id)
    circuits = [c for c in map(reader.circuit, {s.circuit for s in streams if s.circuit}) if c is not None]
    sheet = Sheet()
    state, view = request.state, request.view
    parts = [_ending(m), _facts(m, view)]
    parts += [figure(chart, sheet) for chart in (*_waterfalls(m), *probes(m.extra))]
    parts.append(charts_of(of_curves(reader.curves_of(m.id, *_streams(m))), sheet))
    parts += load_parts(m, state.files, view, sheet) if m.type == "pageload" else []
    parts += [*_series(m, view), *_circuit(m, circuits, view), *legs(m, circuits, reader, view, sheet)]
    parts += _told(m, streams)
    parts += [*_others(m), _raw(m, view), _neighbours(reader, m, view)]
    size = f" of {format_size(m.filesize)}" if m.filesize else ""
    started = elements.time(m.start)
    lead = Markup("{}{}, {} UTC: {}").format(m.type, size, started, elements.outcome(m.outcome.value))
    return Page(clipped(m.experiment), lead, parts, sheet)


def _streams(m: Measurement) -> list[str]:
    """The ids of its parallel streams, which have curves of their own."""
    count = m.extra.get("PARALLEL")
    return [f"{m.id}-{n}" for n in range(count)] if isinstance(count, int) and count <= MOST_STREAMS else []


def _ending(m: Measurement) -> Markup:
    """What went wrong, and what that means."""
    if m.errorcode is None:
        return Markup("")
    said = Markup("<strong>{}</strong>: {}").format(m.errorcode, m.reason or "no reason was told")
    meaning = explained(m.errorcode)
    return elements.paragraph(said) + (elements.paragraph(meaning, "soft") if meaning else Markup(""))


def _facts(m: Measurement, view: View) -> Markup:
    variant = Variant.of(m)
    pairs: list[tuple[str, Text]] = []
    for name, at in (("First byte", m.dataresponse), ("Last byte", m.datacomplete), ("Ended", m.end)):
        if at is not None:
            pairs.append((name, f"after {at - m.start:.3f} s"))
    if m.payloadbytes is not None:
        pairs.append(
            (
                "Payload",
                f"{m.payloadbytes:,} of {m.filesize:,} bytes" if m.filesize else f"{m.payloadbytes:,} bytes",
            )
        )
    tor = " ".join(filter(None, (variant.tor, m.torversion)))
    pairs += [
        ("Tor", tor or "none"),
        ("Network", m.network or "not known"),
        ("Server", str(m.extra.get("URL") or m.server or "not known")),
    ]
    if m.status is not None:
        pairs.append(("HTTP status", str(m.status)))
    if m.links:
        pairs.append(("Links", m.links))
    if "HELDUP" in m.extra:
        pairs.append(("Perfd itself was held up", f"{m.extra['HELDUP']} s"))
    pairs += _of_circuits(m)
    if "COUNT" in m.extra:
        pairs.append(("Covers", f"{m.slots:,} slots"))
    pairs.append(("Experiment", elements.link(view.link(experiment_path(m.experiment)), m.experiment)))
    return elements.facts(pairs)


def _of_circuits(m: Measurement) -> Iterator[tuple[str, Text]]:
    """The relay that was measured, the proof of work, the consensus: as far as the record has them."""
    extra = m.extra
    if "SCANRELAY" in extra:
        words = (extra.get("SCANNICKNAME"), extra["SCANRELAY"], "as", extra.get("SCANPLACE"))
        yield "Scanned relay", " ".join(str(word) for word in words if word)
    if "HSPOWEFFORT" in extra:
        yield "Proof of work", f"effort {extra['HSPOWEFFORT']}"
    valid_after = extra.get("CONSENSUS")
    if isinstance(valid_after, int | float):
        digest = extra.get("CONSENSUSPARAMS")
        said = Markup("valid after {} UTC").format(elements.time(float(valid_after)))
        yield "Consensus", said if digest is None else said + f", parameters {digest}"


def _waterfalls(m: Measurement) -> Iterator[Waterfall]:
    """Its steps one after the other; of onion services and page loads what there is besides."""
    known = _times(m)
    yield from _waterfall("steps", "Where the time went", STEPS, known)
    yield from _waterfall("onion", "On the way to the onion service", ONION, known)
    yield from _waterfall("bootstrap", "From the launch to the first byte", BOOTSTRAP, known)
    page = [(words, "start", key) for words, key in PAGE]
    yield from _waterfall("page", "The page", page, {**known, "start": 0.0})


def _times(m: Measurement) -> dict[str, float]:
    """Seconds from the start to each step that is known."""
    found = {
        field.name: value - m.start
        for field in FIELDS
        if field.kind is Kind.TIME and (value := getattr(m, field.name)) is not None
    }
    extra = {key: at - m.start for key, at in m.extra.items() if isinstance(at, float) and _is_time(at, m)}
    return {**found, **extra}


def _is_time(value: object, m: Measurement) -> bool:
    """A number of a record that is so near to its start is a time."""
    return isinstance(value, float) and value > A_RUN and abs(value - m.start) < A_RUN


def _waterfall(
    name: str, title: str, steps: Sequence[tuple[str, str, str]], known: dict[str, float]
) -> Iterator[Waterfall]:
    rows: list[Row] = []
    for words, first, last in steps:
        if first in known and last in known and known[last] >= known[first] >= 0:
            span = Stretch(known[first], known[last], _TONES.get(words, tone(len(rows))), words)
            rows.append(Row(words, (span,)))
    if len(rows) > 1:
        reach = max(row.spans[0].end for row in rows)
        x = Axis(label="since the start", low=0.0, high=reach * 1.02 or 1.0, unit="s")
        yield Waterfall(name=name, title=title, x=x, rows=tuple(rows))


_TONES = {"server": Tone.C, "payload": Tone.A, "circuit and stream": Tone.B}


def _series(m: Measurement, view: View) -> list[Markup]:
    if m.type != "series":
        return []
    address = view.link("/results", {"series": m.id})
    return [elements.paragraph(elements.link(address, "The requests of this series"))]


def _circuit(m: Measurement, circuits: Sequence[Circuit], view: View) -> list[Markup]:
    if not m.path:
        return []
    circuit = next((each for each in circuits if each.circ_id == m.circ_id), None)
    rows = []
    for hop in hops_of(m, circuit):
        reached = "" if hop.reached is None else f"{hop.reached:.3f} s"
        print_link = elements.link(
            view.link("/results", {"relay": hop.fingerprint}), Markup("<code>{}</code>").format(hop.fingerprint)
        )
        named = (str(hop.number), clipped(hop.nickname) or "-", reached, _grouped(hop.weight), hop.flags)
        rows.append((*named, hop.version, hop.country, hop.cgo, print_link))
    told: list[Text] = [f"Circuit {m.circ_id}" if m.circ_id is not None else "The circuit"]
    if m.launch is not None and m.launch < m.start:
        told.append(f"launched {m.start - m.launch:.1f} s before the run")
    if circuit is not None:
        told.append(elements.link(view.link(f"/circuits/{circuit.id}"), "all that tor told of it"))
    if m.conflux_circ_ids:
        told.append(f"a leg of a Conflux set with {', '.join(m.conflux_circ_ids)}")
    if m.cc_cwnd is not None:
        told.append(f"congestion window {m.cc_cwnd} cells")
    if m.cc_rtt is not None:
        told.append(f"round trip {1000 * m.cc_rtt:.0f} ms")
    said = elements.paragraph(Markup(", ").join(told), "soft")
    return [elements.section("The circuit", [said, elements.table("Its relays", HOPS, rows)])]


def _grouped(weight: str) -> str:
    return f"{int(weight):,}" if weight.isdigit() else weight


def _told(m: Measurement, streams: Sequence[Stream]) -> list[Markup]:
    told = sorted((event.at, stream.stream_id, event.name) for stream in streams for event in stream.events)
    if not told:
        return []
    rows = [(f"{at - m.start:.3f} s", str(number), name) for at, number, name in told]
    return [elements.section("What tor told", [elements.table("Its streams", EVENTS, rows)])]


def _others(m: Measurement) -> list[Markup]:
    """What its kind recorded besides."""
    found: list[Markup] = []
    extra = [
        (key, str(value)) for key, value in m.extra.items() if not _is_time(value, m) and not key.startswith("PATH")
    ]
    if extra:
        found.append(elements.section("What else was recorded", [elements.facts(extra)]))
    return found


def _raw(m: Measurement, view: View) -> Markup:
    text = json.dumps(m.as_dict(), indent=2)
    address = view.here(format="json")
    return Markup(
        '<details><summary>The whole record</summary><p>{}</p><pre tabindex="0">{}</pre></details>\n'
    ).format(elements.link(address, "As JSON"), text)


def _neighbours(reader: StoreReader, m: Measurement, view: View) -> Markup:
    """The runs of the same experiment before and after it."""
    near = Filter(experiment=m.experiment, limit=1, requests=False, after=(m.start, m.id))
    before = reader.measurements(near)
    later = reader.measurements(attrs.evolve(near, oldest_first=True))
    links = [
        elements.link(view.link(f"/results/{found[0].id}"), words)
        for found, words in ((before, "The run before"), (later, "The run after"))
        if found
    ]
    if not links:
        return Markup("")
    return Markup('<nav class="pages" aria-label="Neighbours">{}</nav>').format(Markup("").join(links))
