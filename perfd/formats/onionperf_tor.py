"""The members of ``tor`` in OnionPerf's analysis document: circuits and Tor streams.

Readers find the stream of a run by its local port and the circuit by the stream. Where there is none, since it was
deleted or never known, what the run's record knows of them is written in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import attrs

from perfd.formats import imported
from perfd.formats.errors import FormatError, shown
from perfd.formats.onionperf import CIRC_STATUS
from perfd.formats.onionperf_runs import STEPS
from perfd.formats.values import INT32
from perfd.record import Attach, Circuit, Event, Guard, Hop, Measurement, Stream

STREAM_STATUS = frozenset(
    (
        *("NEW", "NEWRESOLVE", "REMAP", "SENTCONNECT", "SENTRESOLVE", "SUCCEEDED", "FAILED", "CLOSED", "DETACHED"),
        *("CONTROLLER_WAIT", "XOFF_SENT", "XOFF_RECV", "XON_SENT", "XON_RECV"),
    )
)
"""StreamStatus (control-spec 4.1.2)."""

_RELAY = re.compile(r"\$[0-9A-F]{40}")
_RELAY_NICKNAME = re.compile(r"[0-9A-Za-z]{1,19}")


def members(
    runs: Iterable[Measurement], circuits: list[Circuit], streams: list[Stream], guards: Iterable[Guard] = ()
) -> dict[str, Any]:
    """The object ``tor`` of a document with these runs."""
    known = {circuit.id: _until_given_up(circuit) for circuit in circuits if circuit.launch and circuit.end}
    written = {stream.id: stream for stream in streams if stream.new and stream.end}
    carriers = {stream.measurement: stream for stream in written.values() if stream.measurement}
    for run in runs:
        if run.used_by is None and run.circ_id is None:
            continue
        stream = carriers.get(run.id) or _stream_of(run)
        if stream.circuit not in known and (circuit := _circuit_of(run)):
            known.setdefault(circuit.id, circuit)
            stream = attrs.evolve(stream, circuit=circuit.id)
        written[stream.id] = stream
    # Where two circuits have one number, that of a stream keeps it.
    used = {stream.circuit for stream in written.values()}
    ordered = sorted(known.values(), key=lambda circuit: circuit.id not in used)
    numbered = dict(_numbered((circuit.circ_id, circuit) for circuit in ordered))
    keys = {circuit.id: number for number, circuit in numbered.items()}
    tor_streams = _numbered((stream.stream_id, stream) for stream in written.values())
    return {
        "circuits": {str(number): _circuit(number, circuit) for number, circuit in numbered.items()},
        "streams": {str(number): _stream(number, stream, keys) for number, stream in tor_streams},
        "guards": [_guard(guard) for guard in guards],
    }


def ended(m: Measurement) -> float:
    """When a run was over; for an imported one that does not say, its last known time."""
    if m.end is not None:
        return m.end
    steps = (m.datacomplete, *(getattr(m, name) for name in STEPS), *m.dataperc.values(), *m.partial.values())
    return max((at for at in steps if at is not None), default=m.start)


def after(start: float, at: float) -> float:
    """Seconds from ``start`` to ``at``, to the microsecond."""
    return (round(at * 1e6) - round(start * 1e6)) / 1e6


def _numbered(records: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Each record with its number, or, if another has that or it is no number of metrics-lib's, with a free one."""
    known = list(records)
    wanted = {number for number, _ in known}
    free = (number for number in count(1) if number not in wanted)
    taken: set[int] = set()
    for own, record in known:
        number = own if own not in taken and 0 <= own <= INT32 else next(free)
        taken.add(number)
        yield number, record


# What a run's record knows.


def _stream_of(m: Measurement) -> Stream:
    """The stream that carried a run."""
    end = m.used_at or ended(m)
    reasons = _reasons(m.errorcode or "")
    return Stream(
        id=f"stream of {m.id}",
        source=m.source,
        tor=m.tor or imported.UNKNOWN_TOR,
        stream_id=-1 if m.used_by is None else m.used_by,  # -1: whichever is free
        new=min(m.request or m.connect or m.start, end),
        end=end,
        status="FAILED" if reasons else "CLOSED",
        target=_address(m.endpointremote),
        source_addr=_address(m.endpointlocal),
        measurement=m.id,
        attaches=() if m.circ_id is None else (Attach(m.circ_id, min(m.request or m.start, end)),),
        failure_local=reasons[0] if reasons else None,
        failure_remote=reasons[1] if len(reasons) > 1 else None,
    )


def _reasons(errorcode: str) -> list[str]:
    """Tor's reasons in TOR/END/MISC and TGEN/READ/END/MISC."""
    area, *parts = errorcode.split("/")
    return {"TOR": parts, "TGEN": parts[1:]}.get(area, [])


def _address(endpoint: str | None) -> str | None:
    """``ip:port`` of an endpoint; ``x.onion:port`` of an onion service's, which has no address."""
    if endpoint is None:
        return None
    host, _, address = endpoint.partition(":")
    return f"{host}:{address.rpartition(':')[2]}" if host.endswith(".onion") else address


def _circuit_of(m: Measurement) -> Circuit | None:
    """The circuit that carried a run, which is one for all that it carried; None if it is not known."""
    if m.circ_id is None or m.launch is None:
        return None
    launch, path, times = m.launch, m.path or (), m.buildtimes or ()
    hops = [Hop(relay, None, launch + time) for relay, time in zip(path, times, strict=False)]
    whole = bool(hops) and len(path) == len(times)
    return Circuit(
        id=f"circuit {m.circ_id} of {m.tor}, {launch:.2f}",
        source=m.source,
        tor=m.tor or imported.UNKNOWN_TOR,
        circ_id=m.circ_id,
        launch=launch,
        built=hops[-1].built if whole else None,
        end=max(m.used_at or ended(m), launch),  # it lived at least as long
        status="CLOSED",
        path=tuple(hops) if whole else (),
        timeout=m.timeout,
        quantile=m.quantile,
        cbt_set=m.cbt_set,
        filtered_out=True if m.extra.get(imported.FILTERED_OUT) else None,
    )


def _until_given_up(circuit: Circuit) -> Circuit:
    """A circuit that tor gave up ended then, for OnionPerf, though tor may have gone on to see its time."""
    failed = [event.at for event in circuit.events if event.name.rpartition(":")[2] == "FAILED"]
    if not failed:
        return circuit
    end = failed[0]
    return attrs.evolve(
        circuit,
        end=end,
        built=circuit.built if circuit.built is not None and circuit.built <= end else None,
        path=tuple(hop for hop in circuit.path if hop.built is None or hop.built <= end),
        events=tuple(event for event in circuit.events if event.at <= end),
    )


# Members.


def _circuit(number: int, c: Circuit) -> dict[str, Any]:
    """A member of ``tor.circuits``, which must not have any but the format's members.

    Its path is written whole or not at all: one without the hops whose times are not known would be another path.
    """
    launch = c.launch or 0.0
    path = [_hop(hop, hop.built, launch) for hop in c.path if hop.built is not None]
    optional = {
        "build_quantile": c.quantile,
        "build_timeout": c.timeout,
        "cbt_set": c.cbt_set,
        "current_guards": [_guard(guard) for guard in c.current_guards] or None,
        "buildtime_seconds": None if c.built is None else after(launch, c.built),
        "failure_reason_local": c.failure_local,
        "failure_reason_remote": c.failure_remote,
        "path": path if path and len(path) == len(c.path) else None,
    }
    return {
        "circuit_id": number,
        "elapsed_seconds": _events(c.events or _circuit_events(c), launch, c.purpose or "GENERAL"),
        "unix_ts_start": launch,
        "unix_ts_end": c.end,
        "filtered_out": bool(c.filtered_out),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _circuit_events(c: Circuit) -> tuple[Event, ...]:
    """The events that a circuit must have had."""
    known = [("LAUNCHED", c.launch), *(("EXTENDED", hop.built) for hop in c.path)]
    known += [("BUILT", c.built), (c.status, c.end)]
    return tuple(Event(at, name) for name, at in known if at is not None)


def _hop(hop: Hop, built: float, launch: float) -> tuple[str, float]:
    fingerprint = f"${hop.fingerprint.removeprefix('$')}"
    if not _RELAY.fullmatch(fingerprint):
        raise FormatError(f"{shown(hop.fingerprint)} is no relay's fingerprint", key="path")
    nickname = hop.nickname if hop.nickname and _RELAY_NICKNAME.fullmatch(hop.nickname) else "Unnamed"
    return f"{fingerprint}~{nickname}", max(0.0, after(launch, built))


def _guard(guard: Guard) -> dict[str, Any]:
    known = {
        "fingerprint": guard.fingerprint,
        "nickname": guard.nickname,
        "country": guard.country,
        "new_ts": guard.new,
        "up_ts": guard.up,
        "down_ts": guard.down,
        "dropped_ts": guard.dropped,
    }
    return {key: value for key, value in known.items() if value is not None}


def _stream(number: int, s: Stream, circuits: Mapping[str, int]) -> dict[str, Any]:
    """A member of ``tor.streams``, which must not have any but the format's members."""
    new = s.new or 0.0
    circuit = circuits.get(s.circuit or "")
    if circuit is None and s.attaches:  # not written, but known, unless another has its number
        known = s.attaches[-1].circ_id
        circuit = known if 0 <= known <= INT32 and known not in circuits.values() else None
    optional = {
        "failure_reason_local": s.failure_local,
        "failure_reason_remote": s.failure_remote,
        "source": s.source_addr,
    }
    return {
        "circuit_id": None if circuit is None else str(circuit),
        "elapsed_seconds": _events(s.events or _stream_events(s), new, s.purpose or "USER"),
        "stream_id": number,
        "target": s.target or "",
        "unix_ts_start": new,
        "unix_ts_end": s.end,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _stream_events(s: Stream) -> tuple[Event, ...]:
    """The events that a stream must have had."""
    known = [("NEW", s.new), *(("SENTCONNECT", attach.at) for attach in s.attaches), (s.status, s.end)]
    return tuple(Event(at, name) for name, at in known if at is not None)


def _events(events: Iterable[Event], start: float, purpose: str) -> list[tuple[str, float]]:
    """Events as OnionPerf names them, statuses as ``PURPOSE:STATUS``, and seconds since the start."""
    statuses = CIRC_STATUS | STREAM_STATUS
    return [(f"{purpose}:{e.name}" if e.name in statuses else e.name, after(start, e.at)) for e in events]
