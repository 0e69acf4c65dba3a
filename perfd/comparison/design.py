"""How a comparison by design is made: its arms, the order of its blocks, and which data directory is whose.

Order and assignment come from the seed and the number of the block alone, so that a comparison that was interrupted
goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random

import attrs

from perfd.comparison.metrics import METRICS, Metric
from perfd.config.records import ComparisonConfig
from perfd.config.values import Arm

BLOCK_SIZE = 6
PILOT = 6  # blocks

GUARDS = frozenset(
    (
        *("entrynodes", "excludenodes", "numentryguards", "numprimaryguards", "useentryguards", "strictnodes"),
        *("usebridges", "bridge", "reachableaddresses", "reachableoraddresses", "fascistfirewall", "firewallports"),
    )
)
"""The options of tor, in lower case, that decide which guards there are."""


class DesignError(ValueError):
    """The comparison could not answer its question; the message says why."""


@attrs.frozen
class BlockPlan:
    """One block: ``runs`` are the arm (0 is A) and the place of each, in order; ``places`` the arm of each
    place.
    """

    runs: tuple[tuple[int, int], ...]
    places: tuple[int, ...]


@attrs.frozen
class Plan:
    """The blocks of a comparison over ``places`` data directories.

    ``shared``: the arms differ in nothing of their tors, so that each place serves both.
    """

    seed: int
    places: int
    shared: bool

    def block(self, number: int, size: int) -> BlockPlan:
        """Block ``number``, with ``size`` runs of each arm in fully random order.

        Half of the places are of each arm, drawn anew, and take turns.
        """
        chance = Random(f"{self.seed} {number}")
        arms = [0, 1] * size
        chance.shuffle(arms)
        places = [n % 2 for n in range(self.places)]
        chance.shuffle(places)
        own = [[n for n, arm in enumerate(places) if self.shared or arm == side] for side in (0, 1)]
        begins = chance.randrange(self.places)
        counts = [0, 0]
        runs = []
        for arm in arms:
            runs.append((arm, own[arm][(begins + counts[arm]) % len(own[arm])]))
            counts[arm] += 1
        return BlockPlan(tuple(runs), tuple(places))


def check_design(
    a: Arm,
    b: Arm,
    *,
    kind: str,
    is_onion: bool,
    primary: str,
    common: Collection[str],
    tor: bool,
    clients: Collection[str] = (),
) -> None:
    """Raises DesignError if the comparison can't answer.

    ``common`` are the torrc lines of both arms; ``tor``: there is one, not another SOCKS server. ``clients``: the
    arms that are measured over a client without a control port.
    """
    if a.name == b.name:
        raise DesignError(f"both arms are named {a.name}")
    if primary not in METRICS:
        raise DesignError(f"{primary} is no metric; there is {', '.join(METRICS)}")
    metric = METRICS[primary]
    _check_metric(metric, kind, clients, is_onion=is_onion)
    if a.options.get("size") != b.options.get("size"):
        raise DesignError("the arms have different sizes, so their times say nothing about Tor")
    if not tor:
        for arm in (a, b):
            if arm.torrc or arm.binary:
                raise DesignError(f"{arm.name} has options of tor, and there is no tor with network = socks")
        return
    _check_guards(a, b)
    for arm in (a, b):
        _check_optimistic(arm, common)


def _check_metric(metric: Metric, kind: str, clients: Collection[str], *, is_onion: bool) -> None:
    """Both arms must have what decides."""
    if metric.kinds and kind not in metric.kinds:
        raise DesignError(f"{metric.name} is a metric of {' and '.join(metric.kinds)} only, and type is {kind}")
    if metric.is_onion and not is_onion:
        raise DesignError(f"{metric.name} is only known with server = onion, or the url of an onion service")
    if metric.of_tor and clients:
        raise DesignError(
            f"{metric.name} is known from a tor's control port, which {' and '.join(clients)} does not have: one "
            "arm would have no times to compare"
        )


def _check_guards(a: Arm, b: Arm) -> None:
    guards = [{line for line in arm.torrc if option_name(line) in GUARDS} for arm in (a, b)]
    if guards[0] != guards[1]:
        differing = ", ".join(sorted({option_name(line) for line in guards[0] ^ guards[1]}))
        raise DesignError(
            "the arms have different guards: whatever is found may be these relays, for months; give both the same "
            f"{differing}"
        )


def _check_own_guards(names: Sequence[str], torrcs: Sequence[Collection[str]]) -> None:
    """Tors that are there have guards of their own for months, unless they are the same by their torrcs."""
    guards = [{" ".join(line.lower().split()) for line in lines if option_name(line) in GUARDS} for lines in torrcs]
    if guards[0] != guards[1] or not _is_fixed(guards[0]):
        raise DesignError(
            f"the tors of {names[0]} and {names[1]} have guards of their own: whatever is found may be these "
            "relays, for months; give both the same EntryNodes with one relay, or UseEntryGuards 0, or let the "
            "comparison have its own tors: arms with options of tor, and no tor ="
        )


def _is_fixed(guards: Collection[str]) -> bool:
    """Whether with these lines no tor has a choice that it would stay with."""
    bridges = [line for line in guards if option_name(line) == "bridge"]
    entries = [line for line in guards if option_name(line) == "entrynodes"]
    single = any("," not in line and "{" not in line for line in entries)
    return "useentryguards 0" in guards or single or ("usebridges 1" in guards and len(bridges) == 1)


def _check_optimistic(arm: Arm, common: Collection[str]) -> None:
    lines = [line.lower().split() for line in (*common, *arm.torrc)]
    if arm.options.get("optimistic", "no") != "no" and ["confluxenabled", "0"] not in lines:
        raise DesignError(
            f"{arm.name} has optimistic data, which tor does not allow on Conflux circuits, so there is nothing to "
            "find; give both arms ConfluxEnabled 0"
        )


def option_name(line: str) -> str:
    """The name of the option in a line of a torrc, in lower case."""
    return (line.split() or [""])[0].lstrip("+/").lower()


def is_by_block(a: Arm, b: Arm) -> bool:
    """Whether the arms are measured over different tors in a block, so that it is the unit, and not the run."""
    return a.tor != b.tor or a.options.get("tor") != b.options.get("tor")


def is_whole(runs: int, cancelled: int, size: int) -> bool:
    """Whether a block of ``size`` runs of each arm was not interrupted."""
    return runs >= 2 * size and not cancelled


def is_same(stored: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether a comparison that was begun with the design ``stored`` can go on where ``wanted`` is asked for.

    ``stored`` knows besides what the pilot decided, and may be of a Perfd that had fewer options.
    """
    decided = {"pilot", *(["block"] if wanted["block"] is None else [])}
    asked = {name: value for name, value in stored.items() if name not in decided}
    known = {name: value for name, value in wanted.items() if name in asked}
    return known == asked


def looks_of(blocks: int, looks: int) -> Sequence[int]:
    """After how many blocks each look is."""
    return [max(1, round(blocks * look / looks)) for look in range(1, looks + 1)]


def check_comparison(
    config: ComparisonConfig,
    common: Collection[str],
    clients: Collection[str] = (),
    own: Sequence[Collection[str]] = (),
) -> None:
    """Raises DesignError if the comparison of perfd.conf can't answer.

    ``common`` are torrc lines of both arms, ``clients`` the names of what is no tor, ``own`` the torrc lines of
    each arm's tor where they are measured over two that are there.
    """
    a, b = config.arms
    if own:
        _check_own_guards((a.name, b.name), own)
    for each in config.experiments:
        if each.ways != 1 or each.options.get("optimistic") == "both":
            raise DesignError("an arm has one way to the server, one browser, and optimistic yes or no")
    experiment = config.experiments[0]
    without_tor = [
        arm.name for arm, each in zip(config.arms, config.experiments, strict=True) if {*each.tors} & {*clients}
    ]
    check_design(
        *(a, b),
        kind=experiment.type,
        is_onion=experiment.reaches_onion,
        primary=config.primary,
        common=common,
        tor=bool(config.tors),
        clients=without_tor,
    )
