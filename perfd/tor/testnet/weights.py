"""What relays weigh in the consensus, and who are guards and exits in it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs

from perfd.tor.files import write_whole
from perfd.tor.testnet.relays import State, Votes, fingerprint

_TEN_YEARS = 10 * 365 * 86400
_MEDIAN = 5000  # kilobytes per second
_SIGMA = 1.0


def drawn_weights(relays: Sequence[str], seed: int) -> tuple[int, ...]:
    """A weight for each relay, in kilobytes per second: log-normal, as a few of the public network's are large."""
    draws = (Random(f"{seed}/{name}/weight").lognormvariate(0.0, _SIGMA) for name in relays)
    return tuple(max(100, round(_MEDIAN * draw)) for draw in draws)


def write_weights(state: State, now: float) -> None:
    """Tell the authorities what to take for measured (bandwidth-file-spec). Raises OSError, ``TestnetError``."""
    # Authorities take no measurements that are older than three days; these are to hold as long as the network.
    lines = [str(int(now) + _TEN_YEARS)]
    for relay, weight in zip(state.listed, state.weights, strict=True):
        lines.append(f"node_id=${fingerprint(relay)} bw={weight} nick={relay.nickname}")
    for authority in state.authorities:
        write_whole(authority.bandwidths, "\n".join(lines) + "\n")


def votes(state: State) -> Votes:
    """What the authorities vote for: in a network with guards, these alone are guards, and exits exits."""
    guards = tuple(fingerprint(relay) for relay in state.relays if relay.role == "guard")
    if not guards:
        return Votes()
    return attrs.evolve(Votes(), guards=guards, exits=tuple(fingerprint(relay) for relay in state.exits))
