"""Which instances a campaign starts, and which fault happens to each of them when: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count

import attrs

FAULTS_OF_ONE = (4, 9)
"""How many faults an instance gets, at least and at most."""

PAUSE = (0.2, 3.0)
"""Seconds between the recovery from a fault and the next one."""

NETWORKS: Mapping[str, float] = {"socks": 5, "proxy": 2, "testnet": 3, "attach": 2, "page": 1}
"""How often an instance measures over what, as weights.

``socks`` is the embedded SOCKS server, ``proxy`` a SOCKS proxy that can turn hostile, ``testnet`` a tor that Perfd
launches, ``attach`` one that it is attached to, both on a private network; ``page`` are page loads with Firefox.
"""

ALL = frozenset(NETWORKS)


@attrs.frozen
class Kind:
    """A kind of fault: its name, where it can happen, for how many seconds, and what it may cost.

    ``limit`` are the seconds after its end in which there must be a success again. It may cost the ``database`` or
    the ``log`` as they were before; one that ``kills`` also rows that were not committed yet.
    """

    name: str
    networks: frozenset[str] = ALL
    seconds: tuple[float, float] = (0.0, 0.0)
    limit: float = 60.0
    database: bool = False
    log: bool = False
    kills: bool = False


_TORS = frozenset({"testnet", "attach"})
_LOOPBACK = frozenset({"socks", "proxy"})

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("daemon killed", kills=True, seconds=(0, 3)),
        Kind("daemon stopped and started", seconds=(0, 4)),
        Kind("daemon restarted"),
        Kind("daemon frozen", seconds=(0.3, 8)),
        Kind("SIGHUP"),
        Kind("SIGUSR1"),
        Kind("port taken at the start", seconds=(0, 2)),
        Kind("disk full", seconds=(1, 8)),
        Kind("disk frozen", networks=_LOOPBACK, seconds=(2, 12)),
        Kind("database locked", seconds=(1, 12)),
        Kind("database deleted", database=True),
        Kind("database moved away", database=True),
        Kind("database replaced by nothing", database=True),
        Kind("log deleted", log=True),
        Kind("log moved away"),
        Kind("clock stepped forward", networks=_LOOPBACK, seconds=(2, 3000)),
        Kind("clock set back", networks=_LOOPBACK, seconds=(2, 60)),
        Kind("flood of silent connections", seconds=(2, 6)),
        Kind("flood of slow heads", seconds=(2, 6)),
        Kind("flood of downloads", seconds=(2, 6)),
        Kind("flood of slow bodies", seconds=(2, 6)),
        Kind("flood of slow reads", seconds=(2, 6)),
        Kind("flood of all kinds", seconds=(2, 6)),
        Kind("fuzzed HTTP", seconds=(2, 5)),
        Kind("fuzzed SOCKS", networks=frozenset({"socks"}), seconds=(2, 5)),
        Kind("hostile SOCKS proxy", networks=frozenset({"proxy"}), seconds=(2, 5)),
        Kind("hostile server", networks=frozenset({"proxy"}), seconds=(2, 5)),
        Kind("proxy gone", networks=frozenset({"proxy"}), seconds=(1, 5)),
        Kind("tor killed", networks=_TORS),
        Kind("tor frozen", networks=_TORS, seconds=(1, 30)),
        Kind("tor frozen for good", networks=frozenset({"testnet"})),
        Kind("relay frozen for good", networks=frozenset({"testnet"}), limit=90.0),
        Kind("control connection cut", networks=frozenset({"attach"})),
        Kind("control connection hangs", networks=frozenset({"attach"}), seconds=(5, 30)),
        Kind("Firefox killed", networks=frozenset({"page"}), seconds=(0, 5)),
        Kind("Firefox frozen", networks=frozenset({"page"}), seconds=(1, 20), limit=120.0),
    )
}


@attrs.frozen
class PlannedFault:
    """A fault of ``kind`` after ``pause`` seconds; ``seconds`` is how long (or how far) and ``seed`` for what it
    draws itself.
    """

    kind: str
    pause: float
    seconds: float
    seed: int


@attrs.frozen
class Plan:
    """What happens to the instance ``number`` of a campaign."""

    seed: int
    number: int
    network: str
    faults: tuple[PlannedFault, ...]


def plan(seed: int, number: int, networks: frozenset[str] = ALL) -> Plan:
    """The instance ``number`` of the campaign ``seed``, as far as instances of ``networks`` are wanted."""
    draw = random.Random(f"{seed}/{number}")
    weights = {name: weight for name, weight in NETWORKS.items() if name in networks}
    (network,) = draw.choices(list(weights), list(weights.values()))
    possible = [kind for kind in KINDS.values() if network in kind.networks]
    faults = tuple(_fault(draw, draw.choice(possible)) for _ in range(draw.randint(*FAULTS_OF_ONE)))
    return Plan(seed, number, network, faults)


def plans(seed: int, faults: int, networks: frozenset[str] = ALL) -> Iterator[Plan]:
    """The instances of the campaign ``seed``, with so many ``faults`` in all: the last one may have fewer."""
    left = faults
    for number in count(1):
        if left <= 0:
            return
        each = plan(seed, number, networks)
        each = attrs.evolve(each, faults=each.faults[:left])
        left -= len(each.faults)
        yield each


def _fault(draw: random.Random, kind: Kind) -> PlannedFault:
    return PlannedFault(
        kind=kind.name,
        pause=round(draw.uniform(*PAUSE), 3),
        seconds=round(draw.uniform(*kind.seconds), 3),
        seed=draw.randrange(1 << 32),
    )
