"""Curves for tests."""

from __future__ import annotations

from perfd.record import Curve


def arrival(measurement: str, at: float = 0.0, source: str = "example") -> Curve:
    """A payload of 3 MiB in three seconds, with a silence of one second before its last third."""
    mebi = 1 << 20
    return Curve(
        id=f"{measurement}-arrival",
        source=source,
        measurement=measurement,
        at=at,
        name="arrival",
        columns=("seconds", "payload"),
        samples=((1.0, 0), (1.5, mebi), (2.0, 2 * mebi), (3.0, 3 * mebi)),
    )


def circuit(measurement: str, circ_id: int, at: float = 0.0) -> Curve:
    """Two samples of a circuit, without a round trip in the first."""
    return Curve(
        id=f"{measurement}-circuit-{circ_id}",
        source="example",
        measurement=measurement,
        at=at,
        name=f"circuit-{circ_id}",
        columns=("seconds", "read", "written", "slow_start", "cwnd", "rtt", "min_rtt"),
        samples=((1.0, 514_000, 514, 1, 124, None, None), (2.0, 1_028_000, 1028, 0, 248, 0.08, 0.07)),
    )
