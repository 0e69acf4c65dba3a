"""OnionPerf's analysis document, version 3.1, written from measurements, circuits and streams of one source.

3.1 is the newest version that metrics-lib, OnionPerf and tornettools all read. Errors get TGen's names; the exact
ones, and all else that the format has no place for, are in a member ``perfd`` of the run (see ``onionperf``).
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from perfd.formats import imported
from perfd.formats.errors import FormatError, shown
from perfd.formats.onionperf import CIRC_STATUS, OWN, PROGRESS, STEPS
from perfd.formats.torperf_line import INT32
from perfd.record import Circuit, Event, Hop, Measurement, Outcome, Stream

VERSION = "3.1"

SUFFIX = ".onionperf.analysis.json.xz"
"""How the names of published documents end; the UTC date is before it."""

STREAM_STATUS = frozenset(
    (
        *("NEW", "NEWRESOLVE", "REMAP", "SENTCONNECT", "SENTRESOLVE", "SUCCEEDED", "FAILED", "CLOSED", "DETACHED"),
        *("CONTROLLER_WAIT", "XOFF_SENT", "XOFF_RECV", "XON_SENT", "XON_RECV"),
    )
)
"""StreamStatus (control-spec 4.1.2)."""

_NICKNAME = re.compile(r"[A-Za-z0-9-]+")
_RELAY = re.compile(r"\$[0-9A-F]{40}")
_RELAY_NICKNAME = re.compile(r"[0-9A-Za-z]{1,19}")

_ERRORS: Mapping[str, str] = {
    "PERFD/TIMEOUT": "TIMEOUT",
    "PERFD/STALL": "STALLOUT",
    "PERFD/SOCKS": "PROXY",
    "PERFD/CLOSED": "READ",
    "PERFD/RESET": "READ",
    "PERFD/SHORT": "READ",
    "PERFD/LONG": "READ",
    "PERFD/STATUS": "HEADER",
    "PERFD/HTTP": "HEADER",
}
"""TGen's names for Perfd's errors; the others are MISC."""


def analysis(
    source: str,
    measurements: Iterable[Measurement],
    circuits: Iterable[Circuit] = (),
    streams: Iterable[Stream] = (),
) -> dict[str, Any]:
    """The document, as what ``json`` takes. Give it all of one UTC date.

    Skipped slots are left out, and so are circuits and streams of which the begin or the end was not seen. Where
    several tors, or one before and after its restart, have used the same number, the later ones get other numbers.
    Raises FormatError if the source's name is not allowed, a record is of another source, or a size is too large.
    """
    if not _NICKNAME.fullmatch(source):
        raise FormatError(
            f"{shown(source)} cannot be a source in OnionPerf's format",
            key="source",
            remedy="use letters, digits and hyphens",
        )
    runs = sorted(_of(source, measurements), key=lambda m: m.start)
    addresses = [m.sourceaddress for m in runs if m.sourceaddress]
    numbered = dict(_numbered((c.circ_id, c) for c in _of(source, circuits) if c.launch and c.end))
    keys = {circuit.id: number for number, circuit in numbered.items()}
    tor_streams = _numbered((s.stream_id, s) for s in _of(source, streams) if s.new and s.end)
    data = {
        "measurement_ip": addresses[-1] if addresses else imported.UNKNOWN_ADDRESS,
        "tgen": {"streams": dict(_run(n, m) for n, m in enumerate(runs, 1) if m.outcome is not Outcome.SKIPPED)},
        "tor": {
            "circuits": {str(number): _circuit(number, circuit) for number, circuit in numbered.items()},
            "streams": {str(number): _stream(number, stream, keys) for number, stream in tor_streams},
            "guards": [],
        },
    }
    return {"type": "onionperf", "version": VERSION, "data": {source: data}}


def dumps(document: Mapping[str, Any], *, xz: bool = True) -> bytes:
    """The document as the content of a file: sorted, indented, and compressed as OnionPerf publishes it."""
    text = json.dumps(document, sort_keys=True, indent=2, separators=(",", ": "), allow_nan=False).encode()
    return lzma.compress(text) if xz else text


def _of(source: str, records: Iterable[Any]) -> Iterator[Any]:
    for record in records:
        if record.source != source:
            raise FormatError(f"a record is of the source {shown(record.source)}", key="source")
        yield record


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


def _run(number: int, m: Measurement) -> tuple[str, dict[str, Any]]:
    """A member of ``tgen.streams``. All values of its four info objects are texts."""
    for name in ("filesize", "readbytes", "writebytes"):
        if (getattr(m, name) or 0) > INT32:
            raise FormatError(f"{getattr(m, name)} is more than {INT32}", key=name, remedy="export it as JSON")
    ok = m.outcome is Outcome.OK
    error = _error(m)
    way, other = ("send", "recv") if m.type == "upload" else ("recv", "send")
    end = _end(m)
    payload = _payload(m)
    local = m.endpointlocal or imported.UNKNOWN_ENDPOINT
    remote = m.endpointremote or imported.UNKNOWN_ENDPOINT
    stream_id = f"{number}:-1:{local}:{remote}"
    first_byte = m.dataperc.get(0, m.dataresponse)
    run: dict[str, Any] = {
        "byte_info": {
            f"payload-bytes-{way}": str(payload),
            f"payload-bytes-{other}": "0",
            f"payload-progress-{way}": f"{100.0 * payload / m.filesize if m.filesize else 100.0:.2f}%",
            f"payload-progress-{other}": "100.00%",
            "total-bytes-recv": str(m.readbytes or 0),
            "total-bytes-send": str(m.writebytes or 0),
        },
        "is_complete": True,
        "is_error": not ok,
        "is_success": ok,
        "perfd": _own(m),
        "stream_id": stream_id,
        "stream_info": {
            "error": error,
            "id": str(number),
            "name": m.hostnamelocal or imported.UNKNOWN_HOSTNAMES[0],
            "peername": m.hostnameremote or imported.UNKNOWN_HOSTNAMES[0],
            f"{way}size": str(m.filesize),
            f"{other}size": "0",
            "recvstate": _recvstate(m),
            "sendstate": "SEND_SUCCESS" if m.datarequest else "SEND_COMMAND",
            "vertexid": m.experiment,
        },
        "time_info": {
            "created-ts": str(round(m.start * 1e6)),
            "now-ts": str(round(end * 1e6)),
            **{key: _elapsed(m, getattr(m, name)) for name, (_, key) in STEPS.items()},
            f"usecs-to-first-byte-{way}": _elapsed(m, first_byte),
            f"usecs-to-last-byte-{way}": _elapsed(m, m.datacomplete),
            **dict.fromkeys((f"usecs-to-first-byte-{other}", f"usecs-to-last-byte-{other}"), "-1"),
            **dict.fromkeys(("usecs-to-proxy-init", "usecs-to-checksum-recv", "usecs-to-checksum-send"), "-1"),
        },
        "transport_info": {
            "error": "STATUS" if error == "PROXY" else "NONE",
            "fd": "-1",
            "local": local,
            "proxy": m.endpointproxy or imported.UNKNOWN_ENDPOINT,
            "remote": remote,
            "state": _transport_state(m, error),
        },
        "unix_ts_end": end,
        "unix_ts_start": m.start,
    }
    if ok:
        run["elapsed_seconds"] = {
            f"payload_bytes_{way}": {str(n): _after(m.start, at) for n, at in m.partial.items()},
            f"payload_bytes_{other}": {},
            f"payload_progress_{way}": {f"{n / 100:.1f}": _after(m.start, at) for n, at in _deciles(m)},
            f"payload_progress_{other}": {},
        }
    return stream_id, run


def _own(m: Measurement) -> dict[str, Any]:
    """What the rest of the run does not tell."""
    own = {field.name: getattr(m, field.name) for field in OWN}
    own["extra"] = dict(m.extra) or None
    own["outcome"] = m.outcome.value
    if m.outcome is not Outcome.OK or any(n % 10 for n in m.dataperc):
        own |= {field.name: {str(n): at for n, at in getattr(m, field.name).items()} or None for field in PROGRESS}
    return {name: value for name, value in own.items() if value is not None}


def _deciles(m: Measurement) -> Iterator[tuple[int, float]]:
    return ((n, at) for n, at in m.dataperc.items() if n % 10 == 0 and 0 <= n <= 100)


def _end(m: Measurement) -> float:
    """When the run was over; for an imported one that does not say, its last known time."""
    if m.end is not None:
        return m.end
    steps = (m.datacomplete, *(getattr(m, name) for name in STEPS), *m.dataperc.values(), *m.partial.values())
    return max((at for at in steps if at is not None), default=m.start)


def _payload(m: Measurement) -> int:
    """The payload's bytes; for an imported run that does not say, as many as are known to have arrived."""
    if m.payloadbytes is not None:
        return m.payloadbytes
    if m.outcome is Outcome.OK:
        return m.filesize
    return max((*m.partial, *(m.filesize * n // 100 for n in m.dataperc)), default=0)


def _error(m: Measurement) -> str:
    if m.outcome is Outcome.OK:
        return "NONE"
    code = m.errorcode or ("PERFD/TIMEOUT" if m.outcome is Outcome.TIMEOUT else "")
    area, _, rest = code.partition("/")
    if area == "TOR":
        return "PROXY"
    if area == "TGEN":
        return rest.partition("/")[0] or "MISC"
    return _ERRORS.get(code, "MISC")


def _recvstate(m: Measurement) -> str:
    if m.outcome is Outcome.OK:
        return "RECV_SUCCESS"
    if m.dataresponse:
        return "RECV_PAYLOAD"
    return "RECV_HEADER" if m.datarequest else "RECV_NONE"


def _transport_state(m: Measurement, error: str) -> str:
    if error == "PROXY":
        return "ERROR"
    if m.response:
        return "SUCCESS_OPEN"
    if m.request:
        return "RESPONSE_STATUS"
    if m.negotiate:
        return "REQUEST"
    return "CHOICE" if m.connect else "CONNECT"


def _elapsed(m: Measurement, at: float | None) -> str:
    """Microseconds since the start as text, -1 if missing."""
    return "-1" if at is None or at < m.start else str(round((at - m.start) * 1e6))


def _after(start: float, at: float) -> float:
    return round(at - start, 6)


def _circuit(number: int, c: Circuit) -> dict[str, Any]:
    """A member of ``tor.circuits``, which must not have any but the format's members."""
    launch = c.launch or 0.0
    optional = {
        "build_quantile": c.quantile,
        "build_timeout": c.timeout,
        "buildtime_seconds": None if c.built is None else _after(launch, c.built),
        "failure_reason_local": c.failure_local,
        "failure_reason_remote": c.failure_remote,
        "path": [_hop(hop, launch) for hop in c.path if hop.built is not None] or None,
    }
    return {
        "circuit_id": number,
        "elapsed_seconds": _events(c.events or _circuit_events(c), launch, c.purpose or "GENERAL"),
        "unix_ts_start": launch,
        "unix_ts_end": c.end,
        "cbt_set": bool(c.cbt_set),
        "filtered_out": False,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _circuit_events(c: Circuit) -> tuple[Event, ...]:
    """The events that a circuit must have had."""
    known = [("LAUNCHED", c.launch), *(("EXTENDED", hop.built) for hop in c.path)]
    known += [("BUILT", c.built), (c.status, c.end)]
    return tuple(Event(at, name) for name, at in known if at is not None)


def _hop(hop: Hop, launch: float) -> tuple[str, float]:
    fingerprint = f"${hop.fingerprint.removeprefix('$')}"
    if not _RELAY.fullmatch(fingerprint):
        raise FormatError(f"{shown(hop.fingerprint)} is no relay's fingerprint", key="path")
    nickname = hop.nickname if hop.nickname and _RELAY_NICKNAME.fullmatch(hop.nickname) else "Unnamed"
    return f"{fingerprint}~{nickname}", max(0.0, _after(launch, hop.built or launch))


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
    return [(f"{purpose}:{e.name}" if e.name in statuses else e.name, _after(start, e.at)) for e in events]
