"""``/circuits/ID``: all that tor told of one circuit."""

from __future__ import annotations

from markupsafe import Markup

from perfd.charts.axes import Axis
from perfd.charts.html import Sheet, figure
from perfd.charts.model import Row, Stretch, Waterfall, tone
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.layout import Page
from perfd.pages.records import PageError, PageRequest, View
from perfd.pages.words import clipped
from perfd.record import Circuit
from perfd.store.reader import StoreReader

HOPS = (
    Heading("Hop"),
    Heading("Nickname"),
    Heading("Reached after", number=True),
    Heading("Fingerprint", minor=True),
)
EVENTS = (Heading("At (UTC)"), Heading("What tor told"))

BEFORE = 600.0
"""Seconds that a measurement may have waited for its circuit."""


def circuit(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises PageError if there is no such circuit."""
    found = reader.circuit(request.arguments["id"])
    if found is None:
        raise PageError(404, f"There is no circuit {request.arguments['id'][:64]!r}.")
    view, sheet = request.view, Sheet()
    began = found.launch or (found.events[0].at if found.events else None)
    pairs: list[tuple[str, Text]] = [
        ("Status", found.status),
        ("Tor", found.tor),
        ("Purpose", found.purpose or "not told"),
        ("Launched (UTC)", elements.time(found.launch) or "not seen"),
        ("Built (UTC)", elements.time(found.built) or "never"),
        ("Ended (UTC)", elements.time(found.end) or "not yet"),
    ]
    pairs += [(name, value) for name, value in _besides(found) if value]
    rows = [
        (
            str(n + 1),
            clipped(hop.nickname or "-"),
            "" if hop.built is None or found.launch is None else f"{hop.built - found.launch:.3f} s",
            elements.link(
                view.link("/circuits", {"relay": hop.fingerprint}),
                Markup("<code>{}</code>").format(hop.fingerprint),
            ),
        )
        for n, hop in enumerate(found.path)
    ]
    parts = [elements.facts(pairs)]
    if (waterfall := _hops(found)) is not None:
        parts.append(figure(waterfall, sheet))
    if rows:
        parts.append(elements.section("Relays", [elements.table("From the guard on", HOPS, rows)]))
    told = [(elements.time(event.at), event.name) for event in found.events]
    if told:
        parts.append(elements.section("Events", [elements.table("In order", EVENTS, told)]))
    parts.append(elements.paragraph(elements.link(_measurements(found, began, view), "The measurements over it")))
    lead = Markup("Circuit {} of tor {}, first seen {} UTC").format(found.circ_id, found.tor, elements.time(began))
    return Page(f"Circuit {found.circ_id}", lead, parts, sheet)


def _measurements(found: Circuit, began: float | None, view: View) -> str:
    """The address of those: tor gives a number to another circuit only after a restart."""
    times = {"since": began - BEFORE if began is not None else None, "until": found.end}
    window = {name: f"{at:.6f}" for name, at in times.items() if at is not None}
    return view.link("/results", {"circuit": str(found.circ_id), "tor": found.tor, **window})


def _besides(found: Circuit) -> list[tuple[str, str]]:
    return [
        ("Reason of its end", " ".join(filter(None, (found.failure_local, found.failure_remote)))),
        ("Build flags", ", ".join(found.build_flags)),
        ("Onion service state", found.hs_state or ""),
        ("Onion address", found.rend_query or ""),
        ("Proof of work", "" if found.hs_pow_effort is None else f"effort {found.hs_pow_effort}"),
        ("Build timeout", "" if found.timeout is None else f"{found.timeout} ms"),
        ("Conflux set", found.conflux_id or ""),
        ("Congestion window", "" if found.cc_cwnd is None else f"{found.cc_cwnd} cells"),
        ("Round trip", "" if found.cc_rtt is None else f"{1000 * found.cc_rtt:.0f} ms"),
        ("Known to be wrong", found.suspect or ""),
    ]


def _hops(found: Circuit) -> Waterfall | None:
    """How long each hop took."""
    if found.launch is None:
        return None
    before, rows = 0.0, []
    for n, hop in enumerate(found.path):
        if hop.built is not None and hop.built - found.launch >= before:
            after = hop.built - found.launch
            name = f"{n + 1}. {clipped(hop.nickname or hop.fingerprint[:9], 24)}"
            rows.append(Row(name, (Stretch(before, after, tone(n), "extended"),)))
            before = after
    if len(rows) < 2:
        return None
    x = Axis(label="since its launch", low=0.0, high=before * 1.02 or 1.0, unit="s")
    return Waterfall(name="hops", title="How long each hop took", x=x, rows=tuple(rows))
