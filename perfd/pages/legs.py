"""The legs of the Conflux set that carried a measurement: relays, build times, congestion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from perfd.charts.axes import Axis
from perfd.charts.html import Sheet, figure
from perfd.charts.model import Row, Stretch, Waterfall, tone
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.records import View
from perfd.pages.words import clipped
from perfd.record import Circuit, Measurement
from perfd.store.reader import StoreReader

HEADINGS = (
    *(Heading("Circuit"), Heading("Relays"), Heading("Built after", number=True)),
    *(Heading("Round trip", number=True), Heading("Congestion window", number=True)),
    *(Heading("Least round trip", number=True, minor=True), Heading("State", minor=True)),
)
HOPS = "Each part of a bar is the way to one more relay, from the guard on."


def legs(
    m: Measurement, circuits: Sequence[Circuit], reader: StoreReader, view: View, sheet: Sheet
) -> list[Markup]:
    """The part of the page; nothing of a run on a circuit of its own."""
    found = list(_legs(m, circuits, reader))
    if len(found) < 2:
        return []
    chart = _chart(found)
    drawn = [figure(chart, sheet)] if chart is not None else []
    rows = [_row(each, m, view) for each in found]
    return [elements.section("The Conflux set", [*drawn, elements.table("Its legs", HEADINGS, rows)])]


def _legs(m: Measurement, circuits: Sequence[Circuit], reader: StoreReader) -> Iterator[Circuit]:
    """Those whose records are there. The records of one tor's circuits have its session in their ids."""
    known = {each.circ_id: each for each in circuits}
    ends = ((each.id, f"-c{each.circ_id}") for each in circuits)
    session = next((name.removesuffix(end) for name, end in ends if name.endswith(end)), None)
    for text in m.conflux_circ_ids or ():
        number = int(text) if text.isdigit() else None
        circuit = known.get(number) if number is not None else None
        if circuit is None and session is not None:
            circuit = reader.circuit(f"{session}-c{text}")
        if circuit is not None:
            yield circuit


def _chart(found: Sequence[Circuit]) -> Waterfall | None:
    """When the hops of each leg were reached."""
    rows = []
    begun = min((each.launch for each in found if each.launch is not None), default=None)
    for circuit in found:
        if circuit.launch is None or begun is None:
            continue
        before, spans = circuit.launch - begun, []
        for n, hop in enumerate(circuit.path):
            if hop.built is not None and hop.built - begun >= before:
                name = clipped(hop.nickname or hop.fingerprint[:9], 24)
                spans.append(Stretch(before, hop.built - begun, tone(n), name))
                before = hop.built - begun
        if spans:
            rows.append(Row(f"circuit {circuit.circ_id}", tuple(spans)))
    if len(rows) < 2:
        return None
    reach = max(row.spans[-1].end for row in rows)
    x = Axis(label="since the first was launched", low=0.0, high=reach * 1.02 or 1.0, unit="s")
    return Waterfall(name="legs", title="How the legs were built", note=HOPS, x=x, rows=tuple(rows))


def _row(circuit: Circuit, m: Measurement, view: View) -> Sequence[Text]:
    relays = " ".join(clipped(hop.nickname or hop.fingerprint[:9], 24) for hop in circuit.path)
    took = "" if circuit.launch is None or circuit.built is None else f"{circuit.built - circuit.launch:.3f} s"
    used = Markup(" (linked to the stream)") if circuit.circ_id == m.circ_id else ""
    return (
        elements.link(view.link(f"/circuits/{circuit.id}"), str(circuit.circ_id)) + used,
        relays,
        took,
        _milliseconds(circuit.conflux_rtt if circuit.conflux_rtt is not None else circuit.cc_rtt),
        "" if circuit.cc_cwnd is None else f"{circuit.cc_cwnd} cells",
        _milliseconds(circuit.cc_min_rtt),
        circuit.status,
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
