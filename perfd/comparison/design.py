"""How a comparison by design is made: its arms, the order of its blocks, and which data directory is whose.

Order and assignment come from the seed and the number of the block alone, so that a comparison that was interrupted
goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random

import attrs

from perfd.comparison.guards import are_fixed, first_relays, guards_in, guards_of
from perfd.comparison.metrics import METRICS, Metric
from perfd.config.records import EMPTY, ComparisonConfig, ExperimentConfig, TorConfig
from perfd.config.torrc import option_name
from perfd.config.values import Arm

BLOCK_SIZE = 6
PILOT = 6  # blocks


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


@attrs.frozen(kw_only=True)
class Side:
    """An arm, and how it is measured."""

    arm: Arm
    kind: str
    size: int
    is_onion: bool = False
    is_optimistic: bool = False
    torrc: Sequence[str] | None = ()  # lines of its tor but for those of the arm; None: nothing is known of it
    has_control: bool = True  # a control port, which a client does not have
    first_relays: str = ""  # of the circuits that are built for it; none named: the guards of its tor

    @classmethod
    def of(
        cls, arm: Arm, experiment: ExperimentConfig, torrc: Sequence[str] | None, *, has_control: bool = True
    ) -> Side:
        """That of an arm that is measured as ``experiment``."""
        return cls(
            arm=arm,
            kind=experiment.type,
            size=experiment.size,
            is_onion=experiment.reaches_onion,
            is_optimistic=experiment.options.get("optimistic") == "yes",
            torrc=torrc,
            has_control=has_control,
            first_relays=first_relays(experiment),
        )


def check_design(a: Side, b: Side, *, primary: str, launches: bool) -> None:
    """Raises DesignError if the comparison can't answer.

    ``launches``: its tors are launched for it, with what the arms say, and are not there anyway.
    """
    sides = (a, b)
    if a.arm.name == b.arm.name:
        raise DesignError(f"both arms are named {a.arm.name}")
    if primary not in METRICS:
        raise DesignError(f"{primary} is no metric; there is {', '.join(METRICS)}")
    if a.kind != b.kind:
        raise DesignError(
            f"the arms have different types, {a.kind} and {b.kind}, so their times say nothing about Tor"
        )
    _check_metric(METRICS[primary], sides)
    if a.size != b.size:
        raise DesignError("the arms have different sizes, so their times say nothing about Tor")
    for side in sides:
        if not launches and (side.arm.torrc or side.arm.binary):
            raise DesignError(
                f"{side.arm.name} has options of tor, and Perfd launches none: there is no tor with network = "
                "socks, and one with control = is as it is"
            )
        _check_optimistic(side)
    if a.first_relays != b.first_relays:
        raise _different_guards("first relays of circuits, with guard = or path =")
    if launches:
        _check_guards(sides)


def _check_metric(metric: Metric, sides: Sequence[Side]) -> None:
    """Both arms must have what decides."""
    kind = sides[0].kind
    if metric.kinds and kind not in metric.kinds:
        raise DesignError(f"{metric.name} is a metric of {' and '.join(metric.kinds)} only, and type is {kind}")
    if kind in metric.lacking:
        raise DesignError(f"{metric.name} is no metric of type = {kind}")
    others = [side.arm.name for side in sides if metric.is_onion and not side.is_onion]
    if others:
        raise DesignError(
            f"{metric.name} is only known with server = onion, or the url of an onion service, which "
            f"{' and '.join(others)} {'does' if len(others) == 1 else 'do'} not have"
        )
    clients = [side.arm.name for side in sides if metric.of_tor and not side.has_control]
    if clients:
        raise DesignError(
            f"{metric.name} is known from a tor's control port, which {' and '.join(clients)} does not have: one "
            "arm would have no times to compare"
        )


def _check_guards(sides: Sequence[Side]) -> None:
    a, b = (guards_in((*(side.torrc or ()), *side.arm.torrc)) for side in sides)
    if a != b:
        differing = ", ".join(sorted({name for name, _ in {*a.items()} ^ {*b.items()}}))
        raise _different_guards(differing)


def _different_guards(what: str) -> DesignError:
    return DesignError(
        "the arms have different guards: whatever is found may be these relays, for months; give both the same "
        f"{what}"
    )


def _check_own_guards(names: Sequence[str], tors: Sequence[TorConfig]) -> None:
    """Tors that are there have guards of their own for months, unless perfd.conf gives both the same, or none."""
    a, b = (guards_of(tor) for tor in tors)
    if a != b or not are_fixed(a):
        raise DesignError(
            f"the tors of {names[0]} and {names[1]} have guards of their own: whatever is found may be these "
            "relays, for months; give both the same guards = FINGERPRINT, or guards = none, or let the comparison "
            "have its own tors: arms with options of tor, and no tor ="
        )


def _check_optimistic(side: Side) -> None:
    if not side.is_optimistic or side.torrc is None:
        return
    conflux = [
        line.split()[1:2] for line in (*side.torrc, *side.arm.torrc) if option_name(line) == "confluxenabled"
    ]
    if conflux[-1:] != [["0"]]:
        raise DesignError(
            f"{side.arm.name} has optimistic data, which tor does not allow on Conflux circuits, so there is "
            "nothing to find; give both arms ConfluxEnabled 0"
        )


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


def check_blocks(blocks: int | None, looks: int, *, by_block: bool) -> None:
    """Raises DesignError for so few blocks that nothing can be decided by them."""
    if blocks is not None and blocks < looks:
        raise DesignError(f"{looks} looks need at least as many blocks, and there are {blocks}")
    if blocks == 1 and by_block:
        raise DesignError("one block does not say by how much blocks differ, which decides; make more of them")


def looks_of(blocks: int, looks: int) -> Sequence[int]:
    """After how many blocks each look is."""
    return [max(1, round(blocks * look / looks)) for look in range(1, looks + 1)]


def check_comparison(
    config: ComparisonConfig,
    common: Sequence[str],
    clients: Collection[str] = (),
    tors: Mapping[str, TorConfig] = EMPTY,
) -> None:
    """Raises DesignError if the comparison of perfd.conf can't answer.

    ``common`` are torrc lines of both arms, ``clients`` the names of what is no tor, ``tors`` those of perfd.conf
    by name.
    """
    for each in config.experiments:
        if each.ways != 1 or each.options.get("optimistic") == "both":
            raise DesignError("an arm has one way to the server, one browser, and optimistic yes or no")
    check_blocks(config.blocks, config.looks, by_block=is_by_block(*config.arms))
    ways = [each.tors[0] for each in config.experiments]
    are_chosen = all(map(first_relays, config.experiments))
    if not config.tors and not are_chosen and ways[0] != ways[1] and all(way in tors for way in ways):
        _check_own_guards([arm.name for arm in config.arms], [tors[way] for way in ways])
    launched = {name: tor.torrc_lines for name, tor in tors.items() if tor.control is None}
    sides = [
        Side.of(arm, each, common if config.tors else launched.get(way), has_control=way not in clients)
        for arm, each, way in zip(config.arms, config.experiments, ways, strict=True)
    ]
    check_design(*sides, primary=config.primary, launches=bool(config.tors))
