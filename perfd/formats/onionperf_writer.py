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

import attrs

from perfd.config.kinds import kind_of
from perfd.formats import imported, onionperf_tor, published
from perfd.formats.errors import FormatError, shown
from perfd.formats.onionperf import OWN, PROGRESS
from perfd.formats.onionperf_runs import STEPS, TGEN_STEPS
from perfd.formats.onionperf_tor import after, ended
from perfd.formats.values import INT32
from perfd.record import Circuit, Document, Measurement, Outcome, Stream

VERSION = "3.1"

SUFFIX = ".onionperf.analysis.json.xz"
"""How the names of published documents end; the UTC date is before it."""

_NICKNAME = re.compile(r"[A-Za-z0-9-]+")

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
    day: Document | None = None,
) -> dict[str, Any]:
    """The document, as what ``json`` takes. Give it all of one UTC date, and what was imported of the ``day``.

    Skipped slots are left out, and so are circuits and streams of which the begin or the end was not seen. Of a run
    whose stream or circuit is not among them, what its record knows of these is written. Where several tors, or one
    before and after its restart, have used the same number, the later ones get other numbers.
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
    runs = _with_ports([m for m in runs if m.outcome is not Outcome.SKIPPED])
    data = {
        "measurement_ip": addresses[-1] if addresses else imported.UNKNOWN_ADDRESS,
        "tgen": {"streams": dict(_run(n, m) for n, m in enumerate(runs, 1))},
        "tor": onionperf_tor.members(
            runs, list(_of(source, circuits)), list(_of(source, streams)), day.guards if day else ()
        ),
    }
    filters = {"filters": dict(day.filters)} if day and day.filters else {}
    return {"type": "onionperf", "version": VERSION, "data": {source: data}, **filters}


def _with_ports(runs: list[Measurement]) -> list[Measurement]:
    """The runs, each with a local endpoint by which readers find its Tor stream, if it has one.

    They go by the port. Where that is not known, as in Torperf's results, it is a number that no other run has.
    """
    numbers = count(1)
    return [
        attrs.evolve(m, endpointlocal=f"{imported.UNKNOWN_END}{next(numbers) % 2**16}")
        if m.endpointlocal is None and (m.used_by or m.circ_id) is not None
        else m
        for m in runs
    ]


def dumps(document: Mapping[str, Any], *, xz: bool = True) -> bytes:
    """The document as the content of a file: sorted, indented, and compressed as OnionPerf publishes it."""
    text = json.dumps(document, sort_keys=True, indent=2, separators=(",", ": "), allow_nan=False).encode()
    return lzma.compress(text) if xz else text


def _of(source: str, records: Iterable[Any]) -> Iterator[Any]:
    for record in records:
        if record.source != source:
            raise FormatError(f"a record is of the source {shown(record.source)}", key="source")
        yield record


def _run(number: int, m: Measurement) -> tuple[str, dict[str, Any]]:
    """A member of ``tgen.streams``. All values of its four info objects are texts."""
    for name in ("filesize", "readbytes", "writebytes"):
        if (getattr(m, name) or 0) > INT32:
            raise FormatError(f"{getattr(m, name)} is more than {INT32}", key=name, remedy="export it as JSON")
    way, other = ("send", "recv") if kind_of(m.type).is_sent else ("recv", "send")
    local = m.endpointlocal or imported.UNKNOWN_ENDPOINT
    stream_id = f"{number}:-1:{local}:{m.endpointremote or imported.UNKNOWN_ENDPOINT}"
    run: dict[str, Any] = {
        "byte_info": _byte_info(m, way, other),
        "is_complete": True,
        "is_error": published.is_error(m),
        "is_success": m.outcome is Outcome.OK,
        "perfd": _own(m),
        "stream_id": stream_id,
        "stream_info": _stream_info(number, m, way, other),
        "time_info": _time_info(m, way, other),
        "transport_info": _transport_info(m, local),
        "unix_ts_end": ended(m),
        "unix_ts_start": m.start,
    }
    if m.outcome is Outcome.OK:
        run["elapsed_seconds"] = {
            f"payload_bytes_{way}": {str(n): after(m.start, at) for n, at in m.partial.items()},
            f"payload_bytes_{other}": {},
            f"payload_progress_{way}": {f"{n / 100:.1f}": after(m.start, at) for n, at in _deciles(m)},
            f"payload_progress_{other}": {},
        }
    return stream_id, run


def _byte_info(m: Measurement, way: str, other: str) -> dict[str, str]:
    payload = _payload(m)
    return {
        f"payload-bytes-{way}": str(payload),
        f"payload-bytes-{other}": "0",
        f"payload-progress-{way}": f"{100.0 * payload / m.filesize if m.filesize else 100.0:.2f}%",
        f"payload-progress-{other}": "100.00%",
        "total-bytes-recv": str(m.readbytes or 0),
        "total-bytes-send": str(m.writebytes or 0),
    }


def _stream_info(number: int, m: Measurement, way: str, other: str) -> dict[str, str]:
    return {
        "error": _error(m),
        "id": str(number),
        "name": m.hostnamelocal or imported.UNKNOWN_HOSTNAMES[0],
        "peername": m.hostnameremote or imported.UNKNOWN_HOSTNAMES[0],
        f"{way}size": str(m.filesize),
        f"{other}size": "0",
        "recvstate": _recvstate(m),
        "sendstate": "SEND_SUCCESS" if m.datarequest else "SEND_COMMAND",
        "vertexid": m.experiment,
    }


def _time_info(m: Measurement, way: str, other: str) -> dict[str, str]:
    return {
        "created-ts": str(round(m.start * 1e6)),
        "now-ts": str(round(ended(m) * 1e6)),
        **{key: _elapsed(m, getattr(m, name)) for name, (_, key) in STEPS.items()},
        **{f"usecs-to-{what}-{other}": "-1" for what in ("first-byte", "last-byte", "checksum")},
        f"usecs-to-last-byte-{way}": _elapsed(m, published.datacomplete(m)),
        **{name.format(way=way): _elapsed(m, _step(m, key)) for key, (_, name) in TGEN_STEPS.items()},
    }


def _step(m: Measurement, key: str) -> float | None:
    """A step of TGen's: the first byte of a run of ours is that of its payload."""
    at = m.extra.get(key)
    if isinstance(at, float):
        return at
    return m.dataperc.get(0, m.dataresponse) if key == "FIRSTBYTE" else None


def _transport_info(m: Measurement, local: str) -> dict[str, str]:
    error = _error(m)
    return {
        "error": "STATUS" if error == "PROXY" else "NONE",
        "fd": "-1",
        "local": local,
        "proxy": m.endpointproxy or imported.UNKNOWN_ENDPOINT,
        "remote": m.endpointremote or imported.UNKNOWN_ENDPOINT,
        "state": _transport_state(m, error),
    }


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


def _payload(m: Measurement) -> int:
    """The payload's bytes; for an imported run that does not say, as many as are known to have arrived."""
    if m.payloadbytes is not None:
        return m.payloadbytes
    if m.outcome is Outcome.OK:
        return m.filesize
    return max((*m.partial, *(m.filesize * n // 100 for n in m.dataperc)), default=0)


def _error(m: Measurement) -> str:
    if not published.is_error(m):
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
    return "-1" if at is None or at < m.start else str(round(at * 1e6) - round(m.start * 1e6))
