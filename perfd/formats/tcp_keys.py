"""The keys that tell what the kernel knew of the TCP connections at both ends, for the dictionary."""

from __future__ import annotations

_ENDS = (
    ("SERVER", "our server's socket when it took the last byte"),
    ("CLIENT", "our socket to the SOCKS port at the end of the run"),
)
_FIELDS = (
    "RTT float s smoothed round-trip time",
    "RTTVAR float s mean deviation of that time",
    "MINRTT float s smallest round-trip time",
    "RETRANSMITS int segments segments sent again by then",
    "CWND int segments congestion window",
    "DELIVERYRATE int B/s delivery rate",
)


def lines() -> str:
    """The lines of the data dictionary for all of them."""
    return "\n".join(f"{end}TCP{field}, of {what}" for end, what in _ENDS for field in _FIELDS)
