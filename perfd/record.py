"""The records: what Perfd knows about a measurement, a Tor stream and a Tor circuit.

Pure and frozen. A success, a failure and a skipped slot have the same shape; what is missing is None, never 0.
Raw observations only: derived numbers belong to the analysis. ``FIELDS`` is the one table of the measurement's
fields, of which log line, JSON, database and documentation are made. Times are seconds since the epoch (UTC) with
microseconds, sizes are bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import attrs

DECILES = tuple(range(0, 101, 10))
"""The n of DATAPERCn."""

PARTIALS = (10240, 20480, 51200, 102400, 204800, 512000, 1048576, 2097152, 5242880)
"""The n of PARTIALn: the sizes that Tor Metrics knows."""

EMPTY: Mapping[Any, Any] = MappingProxyType({})

REQUEST = "request"
"""The type of a measurement that is one request of a series. It is a part of a run, not a run."""


class Outcome(str, Enum):
    """How a slot of the schedule ended."""

    OK = "ok"  # the whole payload arrived
    FAILED = "failed"  # it ended early; ``errorcode`` and ``reason`` say how
    TIMEOUT = "timeout"  # the deadline passed
    SKIPPED = "skipped"  # nothing was run; ``errorcode`` and ``reason`` say why
    CANCELLED = "cancelled"  # stopped by the operator


class Error:
    """Perfd's own error codes (ERRORCODE). Failures inside Tor are ``TOR/...`` instead."""

    TIMEOUT = "PERFD/TIMEOUT"  # the deadline passed while data was still moving, or before any came
    STALL = "PERFD/STALL"  # the deadline passed and nothing had been received for a long while
    CONNECT = "PERFD/CONNECT"  # the SOCKS port (or, without Tor, the server) could not be reached
    SOCKS = "PERFD/SOCKS"  # the SOCKS proxy broke the protocol
    NOSTREAM = "PERFD/NOSTREAM"  # tor never announced the stream: it did not go through this tor
    CLOSED = "PERFD/CLOSED"  # closed cleanly before the response was complete
    RESET = "PERFD/RESET"  # the connection was reset
    SHORT = "PERFD/SHORT"  # complete response, but fewer payload bytes than asked for
    LONG = "PERFD/LONG"  # more payload bytes than asked for
    STATUS = "PERFD/STATUS"  # the HTTP status was not 200, or none that was expected; it is in ``status``
    HTTP = "PERFD/HTTP"  # the response was not HTTP
    STOPPED = "PERFD/STOPPED"  # Perfd was stopped during the run
    NOTREADY = "PERFD/NOTREADY"  # skipped: tor was not ready
    BUSY = "PERFD/BUSY"  # skipped: the run before it was still going on
    NOCBT = "PERFD/NOCBT"  # skipped: tor had not learnt its circuit build timeout (skip-until-cbt)
    NOPATH = "PERFD/NOPATH"  # no circuit can be made of the relays that were chosen
    CIRCUIT = "PERFD/CIRCUIT"  # the circuit over the chosen relays was not built, or the stream not put on it
    BOOTSTRAP = "PERFD/BOOTSTRAP"  # a tor that was launched for the run ended, or could not be launched
    BROWSER = "PERFD/BROWSER"  # the browser could not be started, or died or hung during the load
    CRASH = "PERFD/CRASH"  # the browser's process for the page crashed
    PAGE = "PERFD/PAGE"  # the page could not be loaded: the browser showed an error page, or something else
    DOWNLOAD = "PERFD/DOWNLOAD"  # the address led to a download, not to a page
    REDIRECTS = "PERFD/REDIRECTS"  # too many redirects
    TLS = "PERFD/TLS"  # the server's certificate was not accepted, or TLS could not be agreed on
    DIGEST = "PERFD/DIGEST"  # what came is not what was sent, or not what was expected
    LATE = "PERFD/LATE"  # skipped: the process was held up past the slot
    DOWN = "PERFD/DOWN"  # skipped: Perfd did not run
    INTERNAL = "PERFD/INTERNAL"  # an error in Perfd itself; please report it


class Kind(str, Enum):
    """How a field's value is written as text."""

    TEXT = "text"
    INT = "int"
    FLOAT = "float"
    TIME = "time"  # seconds since the epoch, six decimals
    BOOL = "bool"  # 0 or 1
    TEXTS = "texts"  # comma list
    FLOATS = "floats"  # comma list
    TIMES = "times"  # mapping n -> time, written as KEYn=time
    EXTRA = "extra"  # mapping KEY -> text or number of the experiment's own type


def _field(kind: Kind, doc: str, default: Any = None) -> Any:
    return attrs.field(default=default, metadata={"kind": kind, "doc": doc})


def new_id() -> str:
    """A new measurement's id: unique, and hard to guess for those who must not know it."""
    return uuid.uuid4().hex


@attrs.frozen(kw_only=True)
class Measurement:
    """One run of an experiment, or one slot in which it could not run; then ``start`` is the slot's time.

    The upper-case name of each attribute is its key in the log and in .tpf files, Torperf's where that has it.
    """

    # When: Torperf's steps.
    start: float = _field(Kind.TIME, "the run started", attrs.NOTHING)
    socket: float | None = _field(Kind.TIME, "the socket to the SOCKS port was created")
    connect: float | None = _field(Kind.TIME, "it was connected")
    negotiate: float | None = _field(Kind.TIME, "SOCKS 5 authentication was negotiated")
    request: float | None = _field(Kind.TIME, "the SOCKS request was sent")
    response: float | None = _field(Kind.TIME, "the SOCKS reply was received")
    datarequest: float | None = _field(Kind.TIME, "the HTTP request was sent")
    dataresponse: float | None = _field(Kind.TIME, "the first byte of the HTTP response was received")
    datacomplete: float | None = _field(Kind.TIME, "the last byte of the payload was received")
    dataperc: Mapping[int, float] = _field(Kind.TIMES, "n percent of the payload were received", EMPTY)
    partial: Mapping[int, float] = _field(Kind.TIMES, "n bytes of the payload were received", EMPTY)
    end: float | None = _field(Kind.TIME, "the run was over, well or not")
    slot: float | None = _field(Kind.TIME, "the slot of the schedule; none outside a schedule")
    # What.
    id: str = _field(Kind.TEXT, "the measurement's id", attrs.NOTHING)
    source: str = _field(Kind.TEXT, "the name of this instance", attrs.NOTHING)
    experiment: str = _field(Kind.TEXT, "the experiment's name", attrs.NOTHING)
    type: str = _field(Kind.TEXT, "the experiment's type", "download")
    network: str | None = _field(Kind.TEXT, "tor, testnet or socks")
    links: str | None = _field(Kind.TEXT, "the links of the private network, if it has any")
    tor: str | None = _field(Kind.TEXT, "the name of the tor that was measured")
    torversion: str | None = _field(Kind.TEXT, "its version")
    server: str | None = _field(Kind.TEXT, "the way to our server: public or onion; url: it is not ours")
    filesize: int = _field(Kind.INT, "the payload asked for, in bytes; 0: of any size", attrs.NOTHING)
    # How it ended.
    outcome: Outcome = _field(Kind.TEXT, "ok, failed, timeout, skipped or cancelled", attrs.NOTHING)
    errorcode: str | None = _field(Kind.TEXT, "what went wrong, as TOR/... or PERFD/...")
    reason: str | None = _field(Kind.TEXT, "the same in words")
    status: int | None = _field(Kind.INT, "the HTTP status")
    writebytes: int | None = _field(Kind.INT, "all bytes written after the SOCKS handshake")
    readbytes: int | None = _field(Kind.INT, "all bytes read after the SOCKS handshake, headers included")
    payloadbytes: int | None = _field(Kind.INT, "bytes of the payload read")
    # Where.
    endpointlocal: str | None = _field(Kind.TEXT, "our end of the connection to the proxy, host:ip:port")
    endpointproxy: str | None = _field(Kind.TEXT, "the SOCKS port, host:ip:port")
    endpointremote: str | None = _field(Kind.TEXT, "the server as asked for, host:ip:port")
    hostnamelocal: str | None = _field(Kind.TEXT, "the client's host name")
    hostnameremote: str | None = _field(Kind.TEXT, "the server's host name")
    sourceaddress: str | None = _field(Kind.TEXT, "the client's public address")
    # The server's view of the same exchange, by the same clock.
    serverrequest: float | None = _field(Kind.TIME, "the server saw the request")
    serverresponse: float | None = _field(Kind.TIME, "the server handed the first byte to the socket")
    servercomplete: float | None = _field(Kind.TIME, "the server handed the last byte to the socket")
    # Tor's view, joined by local port.
    used_by: int | None = _field(Kind.INT, "tor's stream id")
    used_at: float | None = _field(Kind.TIME, "tor's stream ended")
    circ_id: int | None = _field(Kind.INT, "tor's circuit id")
    launch: float | None = _field(Kind.TIME, "the circuit was launched")
    path: tuple[str, ...] | None = _field(Kind.TEXTS, "its relays, as $fingerprint")
    buildtimes: tuple[float, ...] | None = _field(Kind.FLOATS, "seconds from launch until each hop was built")
    timeout: int | None = _field(Kind.INT, "the circuit build timeout, in ms")
    quantile: float | None = _field(Kind.FLOAT, "the quantile of build times that it stands for")
    cbt_set: bool | None = _field(Kind.BOOL, "tor had learnt its circuit build timeout")
    guard: str | None = _field(Kind.TEXT, "the circuit's first relay, as $fingerprint")
    conflux: bool | None = _field(Kind.BOOL, "the circuit was one leg of a Conflux set")
    conflux_id: str | None = _field(Kind.TEXT, "the Conflux set")
    conflux_circ_ids: tuple[str, ...] | None = _field(Kind.TEXTS, "the circuits of the Conflux set")
    conflux_rtt: float | None = _field(Kind.FLOAT, "its round-trip time, in seconds")
    cc_ss: bool | None = _field(Kind.BOOL, "congestion control was in slow start when last reported")
    cc_cwnd: int | None = _field(Kind.INT, "the congestion window when last reported, in cells")
    cc_rtt: float | None = _field(Kind.FLOAT, "the circuit's round-trip time when last reported, in seconds")
    cc_min_rtt: float | None = _field(Kind.FLOAT, "the smallest one, in seconds")
    transport: str | None = _field(Kind.TEXT, "the pluggable transport of the bridge")
    # What belongs to one type of experiment only.
    extra: Mapping[str, str | int | float] = _field(Kind.EXTRA, "keys of the experiment's type", EMPTY)

    @property
    def didtimeout(self) -> bool:
        """Torperf's DIDTIMEOUT: only for real timeouts."""
        return self.outcome is Outcome.TIMEOUT

    @property
    def slots(self) -> int:
        """How many slots of the schedule it covers: COUNT of them, or one."""
        return int(self.extra.get("COUNT", 1))

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; what is missing is None."""
        values = {field.name: getattr(self, field.name) for field in FIELDS}
        values["outcome"] = self.outcome.value
        for name in ("dataperc", "partial"):
            values[name] = {str(n): time for n, time in sorted(values[name].items())}
        values["extra"] = dict(self.extra)
        return values


@attrs.frozen
class Field:
    """A field of ``Measurement``: its attribute, the key in key=value lines, and how it is written."""

    name: str
    key: str
    kind: Kind
    doc: str
    required: bool


def _fields() -> tuple[Field, ...]:
    return tuple(
        Field(a.name, a.name.upper(), a.metadata["kind"], a.metadata["doc"], a.default is attrs.NOTHING)
        for a in attrs.fields(Measurement)
    )


FIELDS: tuple[Field, ...] = _fields()
"""All fields of a measurement, in the order in which they are written."""


MAX_EVENT_TEXT = 2000
"""Characters kept of each text of a ``TorEvent``."""


def _cut(text: str) -> str:
    return text if len(text) <= MAX_EVENT_TEXT else text[: MAX_EVENT_TEXT - 3] + "..."


def _told(doc: str, default: Any = attrs.NOTHING, converter: Any = None) -> Any:
    """A field of what tor tells; ``doc`` says what it is."""
    return attrs.field(default=default, converter=converter, metadata={"doc": doc})


def _may(doc: str) -> Any:
    """The same, None if it is not known."""
    return _told(doc, None)


@attrs.frozen
class Hop:
    """A relay of a circuit."""

    fingerprint: str = _told("$ and 40 hexadecimal digits")
    nickname: str | None = _may("its nickname, if tor said it")
    built: float | None = _may("when the circuit reached it")


@attrs.frozen
class Event:
    """Something that happened to a stream or a circuit: tor's own words, and when they arrived."""

    at: float = _told("when it arrived")
    name: str = _told("tor's words, such as GENERAL:BUILT")


@attrs.frozen
class Guard:
    """A guard of tor's, as its GUARD events told of it (control-spec 4.1.20) and OnionPerf's documents have it."""

    fingerprint: str = _told("40 hexadecimal digits, with or without $")
    nickname: str | None = _may("its nickname")
    country: str | None = _may("its country's code, in lower case")
    new: float | None = _may("when tor took it")
    up: float | None = _may("when it was last said to be up")
    down: float | None = _may("when it was last said to be down")
    dropped: float | None = _may("when tor dropped it")


@attrs.frozen(kw_only=True)
class Circuit:
    """A circuit's life as tor's CIRC, CIRC_MINOR and CIRC_BW events told it (control-spec 4.1.1, 4.1.12)."""

    id: str = _told("unique over restarts of tor")
    source: str = _told("the name of the instance")
    tor: str = _told("the name of the tor")
    circ_id: int = _told("tor's circuit id")
    launch: float | None = _may("when it was launched, by tor's TIME_CREATED if it existed before Perfd listened")
    built: float | None = _may("when it was built")
    end: float | None = _may("when it was closed or failed")
    status: str = _told("the last CircStatus, such as BUILT or CLOSED")
    purpose: str | None = _may("the last PURPOSE, such as GENERAL or HS_CLIENT_REND")
    build_flags: tuple[str, ...] = _told("BUILD_FLAGS", ())
    hs_state: str | None = _may("HS_STATE, of circuits to onion services")
    rend_query: str | None = _may("REND_QUERY: the onion service's address")
    path: tuple[Hop, ...] = _told("its relays, from the guard on", ())
    failure_local: str | None = _may("REASON: why it failed or was closed")
    failure_remote: str | None = _may("REMOTE_REASON: why, by the relay that closed it")
    timeout: int | None = _may("the circuit build timeout at its launch, in ms")
    quantile: float | None = _may("the quantile of build times that it stands for")
    cbt_set: bool | None = _may("whether tor had learnt its circuit build timeout")
    conflux_id: str | None = _may("the Conflux set of which it is a leg")
    conflux_rtt: float | None = _may("the leg's round-trip time, in seconds")
    cc_ss: bool | None = _may("whether congestion control was in slow start when last reported")
    cc_cwnd: int | None = _may("the congestion window when last reported, in cells")
    cc_rtt: float | None = _may("its round-trip time when last reported, in seconds")
    cc_min_rtt: float | None = _may("the smallest one, in seconds")
    events: tuple[Event, ...] = _told("what happened to it, in order", ())
    filtered_out: bool | None = _may("whether a filter of OnionPerf's left it out; missing if none was used")
    current_guards: tuple[Guard, ...] = _told("tor's guards at its launch, of imported circuits that tell them", ())
    suspect: str | None = _may("what is known to be wrong with it, as an older version stored it")
    hs_pow_effort: int | None = _may("the effort of its proof of work for an onion service (HS_POW)")


@attrs.frozen
class Attach:
    """One try to carry a stream over a circuit."""

    circ_id: int = _told("tor's circuit id")
    at: float = _told("when the stream was attached")
    detached: float | None = _may("when it was detached, if it was")
    reason: str | None = _may("why it was detached")
    remote_reason: str | None = _may("why, by the far end")


@attrs.frozen(kw_only=True)
class Stream:
    """A stream's life as tor's STREAM events told it (control-spec 4.1.2)."""

    id: str = _told("unique over restarts of tor")
    source: str = _told("the name of the instance")
    tor: str = _told("the name of the tor")
    stream_id: int = _told("tor's stream id")
    new: float | None = _may("when it was new; missing if it existed before Perfd listened")
    end: float | None = _may("when it was closed or failed")
    status: str = _told("the last StreamStatus, such as SUCCEEDED or CLOSED")
    purpose: str | None = _may("PURPOSE, such as USER or DIR_FETCH")
    target: str | None = _may("where it goes, host:port")
    source_addr: str | None = _may("the client, ip:port")
    measurement: str | None = _may("the id of the measurement that it carried")
    circuit: str | None = _may("the id of the last circuit that it was attached to")
    attaches: tuple[Attach, ...] = _told("each try to carry it over a circuit, in order", ())
    failure_local: str | None = _may("REASON: why it failed or was closed")
    failure_remote: str | None = _may("REMOTE_REASON: why, by the far end")
    events: tuple[Event, ...] = _told("what happened to it, in order", ())


@attrs.frozen(kw_only=True)
class Document:
    """What an imported analysis document says of a UTC day, beside its runs, circuits and streams."""

    id: str = _told("made of source and day")
    source: str = _told("the instance that measured")
    day: float = _told("the begin of the UTC day")
    filters: Mapping[str, Any] = _told("the filters that were used, as in the document", EMPTY)
    guards: tuple[Guard, ...] = _told("tor's guards", ())


@attrs.frozen(kw_only=True)
class Curve:
    """Something of a measurement over its time, in a few hundred samples at most.

    ``name`` is ``arrival`` (how the payload came), ``tcp-server`` and ``tcp-client`` (the kernel's view of our
    server's socket and of our own to the SOCKS port), ``circuit-N`` (the congestion control of tor's circuit N, and
    what it carried) or ``flow`` (the XON and XOFF of the stream). Samples have a value for each of ``columns``,
    None where it is not known; the first one is ``seconds``, counted from ``at``.
    """

    id: str = _told("made of the measurement's id and the name")
    source: str = _told("the name of the instance")
    measurement: str = _told("the id of the measurement")
    at: float = _told("when the measurement started")
    name: str = _told("what is shown: arrival, tcp-server, tcp-client, circuit-N or flow")
    columns: tuple[str, ...] = _told("what the values of a sample are")
    samples: tuple[tuple[float | None, ...], ...] = _told("the samples, by their time")


@attrs.frozen(kw_only=True)
class StoredComparison:
    """How a comparison is designed that the daemon makes; its measurements have its name as COMPARISON."""

    id: str = _told("its name")
    source: str = _told("the name of the instance")
    begun: float = _told("when it began")
    seed: int = _told("of its random order")
    design: str = _told("its arms and what decides, as a JSON object")


@attrs.frozen(kw_only=True)
class Note:
    """What the operator wants remembered of a time, or what Perfd saw to change."""

    source: str = _told("the name of the instance")
    at: float = _told("when it was")
    text: str = _told("what it was")
    id: str = attrs.field(factory=new_id, metadata={"doc": "unique"})
    kind: str | None = _told("perfd, tor, configuration or consensus; of the operator's there is none", None)
    subject: str | None = _told(
        "what it is about, as perfd.conf names sections: tor:NAME; of all there is none", None
    )


@attrs.frozen
class TorEvent:
    """An event of tor that is no circuit's and no stream's, or that Perfd does not understand, in tor's words.

    Texts that are too long are cut. Two events are equal if they say the same, whatever their ids.
    """

    at: float = _told("when it arrived")
    source: str = _told("the name of the instance")
    tor: str = _told("the name of the tor")
    keyword: str = _told("the event's name, such as STATUS_CLIENT", converter=_cut)
    text: str = _told("the rest of its line, cut if it was very long", converter=_cut)
    id: str = attrs.field(factory=new_id, eq=False, metadata={"doc": "unique"})
