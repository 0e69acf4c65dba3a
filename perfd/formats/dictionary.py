"""The data dictionary: every column of the tables that are written for other programs (``table``).

Its names are those of JSON and of the database, in lower case. There is a column for each field of a measurement
that is a single value, for the usual counts of DATAPERCn and PARTIALn, for durations that follow from these, and
for each key that kinds of experiments and imports write into ``extra``. What is left, since nobody wrote it down
here, is in the last column, ``other_keys``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

import attrs

from perfd.config.kinds import kind_of
from perfd.formats import bootstrap_keys, circuit_keys, keyvalue, network_keys, rtt_keys, tcp_keys
from perfd.formats.errors import FormatError
from perfd.formats.values import LARGEST, LATEST
from perfd.record import DECILES, FIELDS, PARTIALS, Kind, Measurement

SECONDS, MILLISECONDS, BYTES, RATE, MEGABITS = "s", "ms", "B", "B/s", "Mbit/s"

_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("conflux_rtt", "cc_rtt", "cc_min_rtt", "buildtimes"), SECONDS),
    **dict.fromkeys(("filesize", "writebytes", "readbytes", "payloadbytes"), BYTES),
    "timeout": MILLISECONDS,
    "cc_cwnd": "cells",
}

# Key, kind of value, unit (- for none), meaning. Lists are comma lists in ``extra``.
_KEYS = """
HELDUP float s Perfd itself was held up for so long during the run, each time for over 0.05 s
CLIENT text - the kind of client that was in the place of a tor: socks or arti
CLIENTVERSION text - its version, as version-command told it
COMPARISON text - the comparison in the daemon that it was made for
BLOCK int - the number of its block in that
ARM text - the name of its arm
OVERLAP texts - other experiments that ran meanwhile
STAMPS text - who stamped the arrivals: kernel, when they came, or user, when Perfd read them
COUNT int - slots that the record covers
FROM time - the first slot that it covers
UNTIL time - the last one
SUSPECT texts - what is known to be wrong in the record, which an earlier version wrote
REPEATED bool - the slot was covered before, and came again as the clock was set back
PATHNICKNAMES texts - nicknames of the relays of path
PATHWEIGHTS floats kB/s their weights in the consensus
PATHFLAGS texts - their flags in the consensus, with + between them
CONFLUXREAD floats B bytes of cells that each leg of the Conflux set had brought by the end
CONFLUXWRITTEN floats B those that each leg had taken
HSDESCREQUESTED time - the descriptor of the onion service was asked for
HSDESCRECEIVED time - it had come
HSDESCFAILED text - why directories gave none
HSRENDBUILT time - the circuit to the rendezvous point was built
HSRENDESTABLISHED time - the rendezvous point waits
HSINTROBUILT time - the circuit to the introduction point was built
HSINTROACK time - the introduction was acknowledged
HSRENDJOINED time - the service came to the rendezvous point
HSINTROS int - circuits to introduction points that were tried
HSRENDS int - circuits to rendezvous points that were tried
FRESHDESCRIPTOR bool - tor had forgotten its descriptors before
URL text - what was fetched from elsewhere
METHOD text - HEAD, if that was the method
REDIRECTS int - redirects that were followed
REDIRECTED time - the request began to which the last of them led
TLSSTART time - the TLS handshake began
TLSDONE time - it was over, and the server's certificate accepted
TLSVERSION text - the version of TLS that was agreed on
TLSCIPHER text - the cipher suite
CERTIFICATEEND time - the end of the certificate's validity
UPLOADBYTES int B bytes of the body that the server received
UPLOADFIRST time - the server read the first byte of the body
UPLOADLAST time - the server read the last byte of the body
UPLOADDIGEST text - SHA-256 of what the server received
SENTFIRST time - the client's socket took the first byte of the body
SENTLAST time - the client's socket took the last byte of the body
SENTPERC10 time - the client's socket took 10 percent of the body
SENTPERC20 time - the client's socket took 20 percent of the body
SENTPERC30 time - the client's socket took 30 percent of the body
SENTPERC40 time - the client's socket took 40 percent of the body
SENTPERC50 time - the client's socket took 50 percent of the body
SENTPERC60 time - the client's socket took 60 percent of the body
SENTPERC70 time - the client's socket took 70 percent of the body
SENTPERC80 time - the client's socket took 80 percent of the body
SENTPERC90 time - the client's socket took 90 percent of the body
SENTPERC100 time - the client's socket took 100 percent of the body
EXPECT bool - the body waited for 100 Continue
CONTINUE time - 100 Continue had come
SERIES text - the id of the series to which the request belongs
REQUESTNUMBER int - the number of the request, from 0
GROUP int - the number of its isolation group, from 0
ATTACHES int - how often tor attached the stream, or those of the series, to a circuit
DETACHES int - how often tor detached it
ATTACHEDTO texts - the circuits that it was attached to, in their order
DETACHREASONS texts - why it was detached
CIRCUITWAIT float s from the stream's beginning until it was attached for the last time
GROUPS int - isolation groups of the series
REQUESTS int - requests of the series, or HTTP requests of the page
REQUESTSOK int - requests of the series that are ok
CIRCUITS int - circuits that the series or the page used
REUSED int - requests on a circuit that had carried another one of the series
CIRCUITWAITMEDIAN float s median of the requests' circuitwait
CIRCUITWAITMAX float s the largest of them
FAILURES texts - CODE:COUNT for each error code
PARALLEL int - streams that were run in parallel
STREAMSOK int - those that are complete
THROUGHPUT float B/s all streams together, from the first request to the last byte
JAIN float - Jain's fairness index of streamrates
STREAMRATES floats B/s of each stream, from its request to its last byte
STREAMRESPONSES floats s of each stream, from the start to its first byte
STREAMCOMPLETES floats s of each stream, from the start to its last byte
STREAMBYTES floats B payload of each stream that came
STREAMCIRCS texts - tor's circuit of each stream
STREAMIDS texts - tor's id of each stream
STREAMERRORS texts - the error code of each stream
OPTIMISTIC bool - the request did not wait for the SOCKS reply
PAIR text - the same in both records of a pair
RATE float 1/s probes per second, as configured
DURATION float s of each phase, as configured
RTTSENT int - probes that were sent
RTTLOST int - probes that did not come back
RTTIDLECOUNT int - probes of the idle phase that came back
RTTIDLEMIN float s the smallest round-trip time of the idle phase
RTTIDLEQ1 float s its first quartile
RTTIDLEMEDIAN float s its median
RTTIDLEQ3 float s its third quartile
RTTIDLEP95 float s its 95th percentile
RTTIDLEMAX float s its largest
RTTIDLEMS floats ms each round trip of the idle phase
RTTLOADCOUNT int - probes of the phase with load that came back
RTTLOADMIN float s the smallest round-trip time of the phase with load
RTTLOADQ1 float s its first quartile
RTTLOADMEDIAN float s its median
RTTLOADQ3 float s its third quartile
RTTLOADP95 float s its 95th percentile
RTTLOADMAX float s its largest
RTTLOADMS floats ms each round trip of the phase with load
LOADS int - downloads that were begun as load
LOADBYTES int B bytes of all of them that came
LOADRESPONSE time - the first byte of the first one
LOADCIRC int - circuit of the first one
LOADSTREAM int - stream of the first one
DATADIRECTORY text - with what the tor was launched: an empty data directory, or one that was copied
TORCONTROL time - its control connection was open
TORNETWORK time - its network was enabled: from here on it bootstraps
TORREADFIRSTBYTE int B tor had read so much when the first byte of the response had come
TORWRITTENFIRSTBYTE int B tor had written so much then
DIRREAD int B cells of directory circuits that tor had read at the end
DIRWRITTEN int B those that it had written
BOOTSTRAPPROGRESS int % how far it came, by tor's own count
BROWSER text - the browser's name in perfd.conf
BROWSERVERSION text - the version that the browser says
DRIVER text - how it is driven: bidi or selenium
PAGE text - the page: version, variant and origins of Perfd's own, or the address
REDIRECTEDTO text - where redirects led to
NAVIGATIONSTART time - the origin of Navigation Timing
LASTBYTE time - the last byte of the page's own response
FIRSTCONTENTFULPAINT time - the first text or image was painted
LARGESTCONTENTFULPAINT time - the largest of them was painted
DOMCONTENTLOADED time - the event of this name began
LOAD time - the load event began
FULLYLOADED time - the last end of a request or the load event, with nothing after it for a while
REQUESTSFAILED int - HTTP requests that ended in an error
REQUESTSOMITTED int - HTTP requests beyond those that are kept
CONNECTIONS int - connections through the proxy
CONNECTIONSUNUSED int - those on which nothing came back
CONNECTIONSTURNEDAWAY int - those that the proxy did not take
CONNECTIONSOMITTED int - those that are in no other key
CONNECTIONERRORS texts - CODE:COUNT for each error code of connections
OPTIMISTICUSED int - connections on which tor could use optimistic data
HAR bool - the HAR file was written
HARBYTES int B its size, compressed
SCREENSHOT bool - there is a screenshot
FILMSTRIP int - pictures in the filmstrip
SPEEDINDEX float ms WebPageTest's measure of how early the page was seen
FIRSTVISUALCHANGE float ms from navigationstart until the first change
VISUALLYCOMPLETE85 float ms from navigationstart until the page looked 85 % complete
FIRSTBYTE time - of imported runs of TGen: the first byte of the payload came
PROXYINIT time - of imported runs of TGen: the proxy's protocol began
CHECKSUM time - of imported runs of TGen: the checksum was made
FILTEREDOUT bool - a filter of OnionPerf's has left the run out of graphs
IMPORTED_DATACOMPLETE time - datacomplete that others wrote of a run that ended with an error
IMPORTED_DIDTIMEOUT bool - didtimeout that others wrote, where it does not follow from the outcome
"""


@attrs.frozen
class Column:
    """A column with values of this ``kind``; None is missing, times are seconds since the epoch.

    ``value`` makes it of a measurement, or, with a ``key``, of the value that ``extra`` has for that.
    """

    name: str
    kind: Kind
    unit: str
    doc: str
    value: Callable[[Any], Any]
    key: str | None = None


def _columns() -> Iterator[Column]:
    for field in FIELDS:
        if field.kind not in (Kind.TIMES, Kind.EXTRA):
            yield Column(field.name, field.kind, _UNITS.get(field.name, ""), field.doc, attrgetter(field.name))
    for name, counts, what in (("dataperc", DECILES, "percent"), ("partial", PARTIALS, "bytes")):
        for n in counts:
            doc = f"{n} {what} of the payload were received"
            yield Column(f"{name}{n}", Kind.TIME, "", doc, partial(_counted, name, n))
    yield from _DERIVED
    made = (bootstrap_keys.lines(), rtt_keys.lines(), tcp_keys.lines(), network_keys.LINES, circuit_keys.LINES)
    for line in "\n".join((_KEYS.strip(), *made)).splitlines():
        key, kind, unit, doc = line.split(" ", 3)
        yield Column(key.lower(), Kind(kind), "" if unit == "-" else unit, doc, _READERS[Kind(kind)], key)


def _counted(name: str, n: int, m: Measurement) -> float | None:
    times: Mapping[int, float] = getattr(m, name)
    return times.get(n)


def _read_text(value: Any) -> str:
    return str(value)


def _read_int(value: Any) -> int | None:
    return value if isinstance(value, int) and -LARGEST - 1 <= value <= LARGEST else None


def _read_float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _read_time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < LATEST else None


def _read_bool(value: Any) -> bool | None:
    return bool(value) if value in (0, 1) else None


def _read_texts(value: Any) -> tuple[str, ...]:
    return tuple(str(value).split(","))


def _read_floats(value: Any) -> tuple[float | None, ...] | None:
    try:
        return tuple(float(item) if item else None for item in str(value).split(","))
    except ValueError:
        return None


_READERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _read_text,
    Kind.INT: _read_int,
    Kind.FLOAT: _read_float,
    Kind.TIME: _read_time,
    Kind.BOOL: _read_bool,
    Kind.TEXTS: _read_texts,
    Kind.FLOATS: _read_floats,
}


def row(m: Measurement) -> list[Any]:
    """The values of all columns."""
    cells: list[Any] = [None] * len(COLUMNS)
    for place, make in _PLAIN:
        cells[place] = make(m)
    others: dict[str, Any] = {}
    for key, value in m.extra.items():
        place, read = _PLACES.get(key, (-1, _read_nothing))
        cell = read(value)
        if cell is None:
            others[key] = value
        else:
            cells[place] = cell
    cells[-1] = _as_pairs(m, others)
    return cells


def _read_nothing(_value: Any) -> None:
    return None


def _as_pairs(m: Measurement, extra: Mapping[str, Any]) -> str | None:
    """What has no other column."""
    found: list[str] = []
    for name, times, usual in (("DATAPERC", m.dataperc, DECILES), ("PARTIAL", m.partial, PARTIALS)):
        found += [f"{name}{n}={at:.6f}" for n, at in times.items() if n not in usual]
    for key, value in extra.items():
        with suppress(FormatError):  # a key that no line can have
            found += keyvalue.extra_pairs({key: value})
    return " ".join(found) or None


# Derived.


def _since(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None or end < begin else round(end - begin, 6)


def _throughput(m: Measurement) -> float | None:
    kind = kind_of(m.type)
    if not kind.has_speed or not m.payloadbytes:
        return None
    seconds = _since(m.dataresponse, m.datacomplete)
    if kind.is_sent:
        seconds = _since(m.dataperc.get(0), m.dataperc.get(100))
    return m.payloadbytes * 8 / 1e6 / seconds if seconds else None


_DERIVED = (
    Column("didtimeout", Kind.BOOL, "", "Torperf's: it ended with a real timeout", attrgetter("didtimeout")),
    Column(
        "circuit_s",
        Kind.FLOAT,
        SECONDS,
        "from start to response: until tor had a circuit and the stream was open",
        lambda m: _since(m.start, m.response),
    ),
    Column(
        "buildtime_s",
        Kind.FLOAT,
        SECONDS,
        "from launch until the circuit's last hop",
        lambda m: m.buildtimes[-1] if m.buildtimes else None,
    ),
    Column(
        "latency_s",
        Kind.FLOAT,
        SECONDS,
        "from datarequest to dataresponse, as Tor Metrics has it",
        lambda m: _since(m.datarequest, m.dataresponse),
    ),
    Column(
        "first_byte_s",
        Kind.FLOAT,
        SECONDS,
        "from start to dataresponse",
        lambda m: _since(m.start, m.dataresponse),
    ),
    Column(
        "complete_s",
        Kind.FLOAT,
        SECONDS,
        "from start to datacomplete",
        lambda m: _since(m.start, m.datacomplete),
    ),
    Column(
        "duration_s", Kind.FLOAT, SECONDS, "from start to end, however it ended", lambda m: _since(m.start, m.end)
    ),
    Column(
        "throughput_mbit_s",
        Kind.FLOAT,
        MEGABITS,
        "the payload over the time from dataresponse to datacomplete; of uploads, over that of its arrival",
        _throughput,
    ),
)

_OTHERS = Column(
    "other_keys",
    Kind.TEXT,
    "",
    "all that has no other column, as KEY=value pairs, encoded as in the log",
    _read_nothing,
)

COLUMNS: tuple[Column, ...] = (*_columns(), _OTHERS)
"""All columns, in their order."""

_PLAIN = [(place, column.value) for place, column in enumerate(COLUMNS[:-1]) if column.key is None]
_PLACES = {column.key: (place, column.value) for place, column in enumerate(COLUMNS) if column.key is not None}

_WORDS: Mapping[Kind, str] = {
    Kind.TEXT: "text",
    Kind.INT: "integer",
    Kind.FLOAT: "number",
    Kind.TIME: "timestamp",
    Kind.BOOL: "boolean",
    Kind.TEXTS: "list of texts",
    Kind.FLOATS: "list of numbers",
}


def markdown() -> str:
    """The dictionary as a table of Markdown, one line for each column."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| {each.name} | {_WORDS[each.kind]} | {each.unit} | {each.doc} |" for each in COLUMNS]
    return "\n".join(lines) + "\n"
