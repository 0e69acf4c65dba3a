"""Runs: what reports need to know of a measurement, and the definitions of what they show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

import attrs

from perfd.record import EMPTY, Outcome
from perfd.variant import Variant

MIB = 2**20

STEPS = ("socket", "connect", "negotiate", "request", "response", "datarequest", "dataresponse", "datacomplete")
SERVER_STEPS = ("serverrequest", "serverresponse")
ONION_STEPS = (
    *("HSDESCREQUESTED", "HSDESCRECEIVED", "HSRENDBUILT", "HSRENDESTABLISHED", "HSINTROBUILT", "HSINTROACK"),
    "HSRENDJOINED",
)
PAGE_STEPS = ("FIRSTCONTENTFULPAINT", "LOAD", "FULLYLOADED")
TLS_STEPS = ("TLSSTART", "TLSDONE")
BOOTSTRAP_STEPS = (
    *("TORNETWORK", "BOOTSTRAPHANDSHAKEDONE", "BOOTSTRAPREQUESTINGSTATUS", "BOOTSTRAPREQUESTINGDESCRIPTORS"),
    *("BOOTSTRAPENOUGHDIRINFO", "BOOTSTRAPDONE"),
)
TIMES = (*STEPS, *SERVER_STEPS, *TLS_STEPS, *ONION_STEPS, *PAGE_STEPS, *BOOTSTRAP_STEPS)
"""Times of a record that reports look at; in capitals those that are keys of its ``extra``."""

_LOADS = ("UPLOAD", "BOTH")
RTT_FIGURES = (
    *(f"RTT{load}MEDIAN" for load in _LOADS),
    *(f"{way}{phase}MEDIAN" for way in ("OWDUP", "OWDDOWN") for phase in ("IDLE", "LOAD", *_LOADS)),
    *("RTTLOADDOWNRATE", "RTTUPLOADUPRATE", "RTTBOTHDOWNRATE", "RTTBOTHUPRATE"),
)
"""Keys of round-trip times that charts show: in seconds, and in bytes a second."""

FIGURES = (*RTT_FIGURES, "SPEEDINDEX")
"""All keys of numbers that charts show; SPEEDINDEX is in milliseconds."""

# Asked of each run many times, and the value of an Enum's member takes a while.
_OK = Outcome.OK.value
_FAILED = (Outcome.FAILED.value, Outcome.TIMEOUT.value)

_VARIANT = tuple(field.metadata.get("key", field.name) for field in attrs.fields(Variant))

FIELDS = (
    *("start", "id", "source", "experiment", "type", "filesize", "payloadbytes", "outcome", "errorcode", "COUNT"),
    *("guard", "dataperc", "path", "buildtimes", "RTTIDLEMEDIAN", "RTTLOADMEDIAN", "PATHNICKNAMES", "PATHWEIGHTS"),
    "ARM",
    *FIGURES,
    *_VARIANT,
    *TIMES,
)
"""What must be read of each measurement. Those of ``record`` that are no plain values are JSON."""

_OF_TIMES = slice(len(FIELDS) - len(TIMES), None)
_OF_FIGURES = slice(FIELDS.index(FIGURES[0]), FIELDS.index(FIGURES[0]) + len(FIGURES))

_NUMBERS = frozenset((float, int))
_DECODER = json.JSONDecoder()


@attrs.frozen(kw_only=True)
class Run:
    """A measurement. Durations are in seconds from its start; None is what there is not."""

    start: float
    id: str
    source: str
    experiment: str
    type: str
    filesize: int
    outcome: str
    errorcode: str | None
    slots: int
    guard: str | None
    variant: Variant
    first_payload: float | None  # DATAPERC0; the answer's head came before
    throughput: float | None  # in Mbit/s
    path: tuple[str, ...]
    nicknames: str  # of the relays of ``path``, with commas; empty where they are not known
    weights: str
    hops: tuple[float, ...]  # seconds that each hop of its circuit took
    rtt_idle: float | None
    rtt_load: float | None
    times: Mapping[str, float]  # TIMES that are known
    figures: Mapping[str, float] = EMPTY  # FIGURES that are known
    arm: str | None = None  # of a comparison in the daemon

    @property
    def is_ok(self) -> bool:
        return self.outcome == _OK

    @property
    def has_failed(self) -> bool:
        """Whether it was run and did not end well; what was skipped or cancelled was not run."""
        return self.outcome in _FAILED

    def between(self, first: str, last: str) -> float | None:
        """Seconds from one step to another; None without both."""
        begun, ended = self.times.get(first), self.times.get(last)
        return None if begun is None or ended is None else ended - begun

    @property
    def first_byte(self) -> float | None:
        """From START to DATARESPONSE, the first byte of the answer."""
        return self.times.get("dataresponse")

    @property
    def complete(self) -> float | None:
        """From START to DATACOMPLETE: OnionPerf's time_to_last_byte, and Tor Metrics' download time."""
        return self.times.get("datacomplete")


class RunReader:
    """Makes runs of rows with ``FIELDS``. What many of them have in common is kept once."""

    def __init__(self) -> None:
        self._variants: dict[tuple[Any, ...], Variant] = {}
        self._paths: dict[str, tuple[str, ...]] = {}

    def run(self, row: Sequence[Any]) -> Run:
        """The run of a row."""
        values = dict(zip(FIELDS, row, strict=True))
        start: float = values["start"]
        reached = _decoded(values["dataperc"]) if values["dataperc"] else {}
        return Run(
            start=start,
            id=values["id"],
            source=intern(values["source"]),
            experiment=intern(values["experiment"]),
            type=intern(values["type"]),
            filesize=values["filesize"],
            outcome=intern(values["outcome"]),
            errorcode=None if values["errorcode"] is None else intern(values["errorcode"]),
            slots=int(values["COUNT"] or 1),
            guard=values["guard"] and intern(values["guard"]),
            variant=self._variant(tuple(values[name] for name in _VARIANT)),
            first_payload=None if "0" not in reached else reached["0"] - start,
            throughput=throughput(values["filesize"] or values["payloadbytes"] or 0, reached),
            path=self._path(values["path"]),
            nicknames=str(values["PATHNICKNAMES"] or ""),
            weights=str(values["PATHWEIGHTS"] or ""),
            hops=_hops(values["buildtimes"]),
            rtt_idle=_number(values["RTTIDLEMEDIAN"]),
            rtt_load=_number(values["RTTLOADMEDIAN"]),
            figures=_known(FIGURES, row[_OF_FIGURES]) or EMPTY,
            arm=None if values["ARM"] is None else intern(str(values["ARM"])),
            times={name: t - start for name, t in _known(TIMES, row[_OF_TIMES]).items()},
        )

    def _variant(self, key: tuple[Any, ...]) -> Variant:
        if key not in self._variants:
            self._variants[key] = Variant(*key)
        return self._variants[key]

    def _path(self, text: str | None) -> tuple[str, ...]:
        if text is None:
            return ()
        if text not in self._paths:
            self._paths[text] = tuple(map(intern, _decoded(text)))
        return self._paths[text]


def throughput(filesize: int, reached: Mapping[str, float]) -> float | None:
    """Mbit/s of the end of a payload: the second half, and of 5 MiB the last fifth.

    For 1 MiB and 5 MiB these are the definitions of OnionPerf's ``mbps``: 4.194304 Mbit by DATAPERC100 -
    DATAPERC50, and 8.388608 Mbit by DATAPERC100 - DATAPERC80. ``reached`` is the record's DATAPERC.
    """
    first, share = ("80", 0.2) if filesize == 5 * MIB else ("50", 0.5)
    if not filesize or first not in reached or "100" not in reached:
        return None
    took = reached["100"] - reached[first]
    return float(filesize * share * 8 / 1e6 / took) if took > 0 else None


def _hops(text: str | None) -> tuple[float, ...]:
    """The first build time, then the differences, as Tor Metrics defines them."""
    times = [] if text is None else _decoded(text)
    return tuple([after - before for before, after in zip([0.0, *times], times, strict=False)])


def _decoded(text: str) -> Any:
    """JSON that this program wrote: without spaces around it, for which ``json.loads`` looks twice."""
    return _DECODER.raw_decode(text)[0]


def _known(names: Sequence[str], values: Sequence[Any]) -> dict[str, float]:
    """Those of the values that are numbers. Most are None, which must cost little: there are forty of each run."""
    both = zip(names, values, strict=True)
    return {name: value for name, value in both if value is not None and type(value) in _NUMBERS}


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBERS
