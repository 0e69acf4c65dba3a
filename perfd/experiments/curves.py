"""The curves of a transfer: records of how its payload came, and of what the kernel and tor told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from perfd.client.fetch import Exchange
from perfd.clock import Anchor
from perfd.interfaces import ServerTimes
from perfd.record import Curve, Measurement
from perfd.tor.events.join import CarriedBy, Joined
from perfd.wire.tcp_info import TCPInfo, TCPSeries

Record = Callable[[Curve], None]
"""Takes each curve of a measurement."""

Sample = tuple[float | None, ...]

ARRIVAL = ("seconds", "payload")
TCP = ("seconds", "rtt", "rttvar", "min_rtt", "retransmits", "cwnd", "delivery_rate")
CIRCUIT = ("seconds", "read", "written", "slow_start", "cwnd", "rtt", "min_rtt")
FLOW = ("seconds", "xoff_sent", "xon_sent", "xoff_received", "xon_received")
_WORDS = ("XOFF_SENT", "XON_SENT", "XOFF_RECV", "XON_RECV")  # of tor's STREAM events, in the order of FLOW


def ignore(_curve: Curve) -> None:
    """Keep no curves."""


def curves_of(
    measurement: Measurement, anchor: Anchor, exchange: Exchange, served: ServerTimes, joined: Joined | None
) -> Iterator[Curve]:
    """Those of one transfer, of which there is anything to tell."""

    def curve(name: str, columns: Sequence[str], samples: Iterable[Sample]) -> Iterator[Curve]:
        found = tuple(samples)
        if found:
            yield Curve(
                id=f"{measurement.id}-{name}",
                source=measurement.source,
                measurement=measurement.id,
                at=measurement.start,
                name=name,
                columns=tuple(columns),
                samples=found,
            )

    def since(stamp: float) -> float:
        return round(stamp - anchor.monotonic, 6)

    points = () if exchange.curve is None else exchange.curve.points()
    yield from curve("arrival", ARRIVAL, ((since(stamp), count) for stamp, count in points))
    for name, series in (("tcp-server", served.tcp), ("tcp-client", exchange.tcp)):
        looks = () if series is None else series.taken()
        yield from curve(name, TCP, ((since(stamp), *_tcp(info)) for stamp, info in looks))
    if joined is None:
        return
    for carried in joined.carried:
        yield from curve(f"circuit-{carried.circ_id}", CIRCUIT, _circuit(carried, measurement.start))
    yield from curve("flow", FLOW, _flow(joined, measurement.start))


def tcp_keys(server: TCPSeries | None, client: TCPSeries | None) -> dict[str, float | int]:
    """The last look at either end's socket as keys of the record, such as SERVERTCPRTT."""
    return {
        **{f"SERVERTCP{name}": value for name, value in _last(server)},
        **{f"CLIENTTCP{name}": value for name, value in _last(client)},
    }


def _last(series: TCPSeries | None) -> Iterator[tuple[str, float | int]]:
    if series is not None and series.last is not None:
        for name, value in attrs.asdict(series.last).items():
            if value is not None:
                yield name.upper().replace("_", ""), value


def _tcp(info: TCPInfo) -> Sample:
    return attrs.astuple(info)


def _circuit(carried: CarriedBy, start: float) -> Iterator[Sample]:
    for at, sample in carried.samples:
        seen = sample.congestion
        slow_start = None if seen.slow_start is None else int(seen.slow_start)
        yield (round(at - start, 6), sample.read, sample.written, slow_start, seen.cwnd, seen.rtt, seen.min_rtt)


def _flow(joined: Joined, start: float) -> Iterator[Sample]:
    """How many of each there had been, at each of them."""
    counts = dict.fromkeys(_WORDS, 0)
    for event in () if joined.stream is None else joined.stream.events:
        word = event.name.rpartition(":")[2]
        if word in counts:
            counts[word] += 1
            yield (round(event.at - start, 6), *counts.values())
