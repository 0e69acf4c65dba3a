"""The path of a circuit: one relay for each place, of those that are wanted there; pure functions.

With EXTENDCIRCUIT tor takes any path that it is given (control-spec, section 3.10), so the rules of path-spec,
section 2.2, are kept here: no relay twice, no two in the same /16, and in each place only relays that are up and,
unless they are named, fit for it. Families are not in a consensus, and not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from random import Random

import attrs

from perfd.config.relays import EXIT, GUARD, MIDDLE, RelaysConfig, Selection
from perfd.tor.circuits.selection import Relay, matching, named, ranked
from perfd.tor.events.relays import RouterStatus

UP = frozenset(("Running", "Valid"))
_FLAGS = {GUARD: UP | {"Guard"}, MIDDLE: UP, EXIT: UP | {"Exit"}}

DRAWS = 8
"""Relays that are drawn for a place before all are looked at."""

TRIES = 50
"""Paths that are drawn before it is said that there is none: two places may want relays of the same /16."""


class NoPathError(ValueError):
    """No circuit can be built of the relays that are wanted; the message says in which place."""


@attrs.frozen
class Candidates:
    """Relays to draw from. ``heaped`` are their weights, each with all before it."""

    relays: Sequence[Relay]
    heaped: Sequence[int]
    fingerprints: frozenset[str]

    @classmethod
    def of(cls, relays: Sequence[Relay]) -> Candidates:
        """Those, in their order."""
        heaped = list(accumulate(_weight(each) for each in relays))
        return cls(relays, heaped, frozenset(each.fingerprint for each in relays))

    def draw(self, usable: Callable[[Relay], bool], random: Random) -> Relay | None:
        """One of the ``usable`` ones, in proportion to its weight; None if there is none.

        Most can be used, so it is drawn from all until it is one that can.
        """
        if not self.relays:
            return None
        for drawn in random.choices(self.relays, cum_weights=self.heaped, k=DRAWS):
            if usable(drawn):
                return drawn
        left = [each for each in self.relays if usable(each)]
        return random.choices(left, [_weight(each) for each in left])[0] if left else None


def _weight(relay: Relay) -> int:
    return max(1, relay.status.bandwidth)


@attrs.frozen(kw_only=True)
class Known:
    """What a tor knows: the relays that are up, and its guards, the one that it likes best first.

    ``barred`` are fingerprints of relays that cannot be exits here. ``apart``: no two relays of a circuit are in
    the same /16, which on a private network all are. ``sorted_out`` is what was made of these relays before, by
    what was asked for: a consensus has thousands of them, and stays for an hour.
    """

    relays: Sequence[RouterStatus]
    guards: Sequence[str] = ()
    barred: frozenset[str] = frozenset()
    apart: bool = True
    sorted_out: dict[object, Candidates] = attrs.field(factory=dict, eq=False, repr=False)

    def candidates(self, place: str, selection: Selection | None) -> Candidates:
        """Those that can be in a place, and match; the ``barred`` ones too."""
        found = self.sorted_out.get((place, selection))
        if found is None:
            fit = ranked(fit_for(place, self.relays, selection))
            found = Candidates.of(fit if selection is None else matching(selection, fit))
            self.sorted_out[place, selection] = found
        return found


def choose_path(known: Known, wanted: RelaysConfig, random: Random) -> list[Relay]:
    """A relay for each hop, drawn in proportion to its weight in the consensus.

    Where no guard is wanted, it is the best one of tor's own that can be. Raises ``NoPathError``.
    """
    count = len(wanted.hops)
    fit = {hop: known.candidates(_place(hop, count), selection) for hop, selection in enumerate(wanted.hops)}
    for hop, those in fit.items():
        barred = known.barred if _place(hop, count) == EXIT else frozenset()
        if those.fingerprints <= barred:
            raise NoPathError(_nobody(wanted, hop))
    # The place with the fewest comes first, so that another does not take its only relay; tor's own guard, of which
    # any will do, comes last.
    order = sorted(fit, key=lambda hop: (hop == 0 and wanted.hops[0] is None, len(fit[hop].relays)))
    for _ in range(TRIES):
        path: dict[int, Relay] = {}

        for hop in order:
            is_usable = partial(_is_usable, known, _place(hop, count), list(path.values()))
            own = _own_guard(known, fit[hop], is_usable) if hop == 0 and wanted.hops[0] is None else None
            drawn = own or fit[hop].draw(is_usable, random)
            if drawn is None:
                break
            path[hop] = drawn
        else:
            return [path[hop] for hop in range(count)]
    raise NoPathError("the relays that are wanted are the same, or in the same /16, in all paths that were tried")


def place_of(relay: RouterStatus, barred: frozenset[str] = frozenset()) -> str:
    """Where a relay can be: as exit, unless it is ``barred``, guard or middle, the first of these."""
    if relay.fingerprint not in barred and relay.flags >= _FLAGS[EXIT] and "BadExit" not in relay.flags:
        return EXIT
    return GUARD if relay.flags >= _FLAGS[GUARD] else MIDDLE


def fit_for(place: str, relays: Sequence[RouterStatus], selection: Selection | None = None) -> list[RouterStatus]:
    """Those that are up, and may be in a place: by their flags, or as they are named."""
    by_name = set[str]() if selection is None else named(selection, relays)
    return [
        each
        for each in relays
        if (each.flags >= _FLAGS[place] and not (place == EXIT and "BadExit" in each.flags))
        or (each.fingerprint in by_name and each.flags >= UP)
    ]


def _place(hop: int, count: int) -> str:
    if hop == count - 1:
        return EXIT
    return GUARD if hop == 0 else MIDDLE


def _nobody(wanted: RelaysConfig, hop: int) -> str:
    place, selection = _place(hop, len(wanted.hops)), wanted.hops[hop]
    among = "" if selection is None else f", and among {selection}"
    return f"no relay in the consensus is up and fit to be {place}{among}"


def _is_usable(known: Known, place: str, others: Sequence[Relay], relay: Relay) -> bool:
    """Whether a relay can be in a place of a path that has ``others`` already."""
    if place == EXIT and relay.fingerprint in known.barred:
        return False
    return all(_are_apart(relay, one, known) for one in others)


def _own_guard(known: Known, fit: Candidates, is_usable: Callable[[Relay], bool]) -> Relay | None:
    for fingerprint in known.guards:
        if fingerprint in fit.fingerprints:
            relay = next(each for each in fit.relays if each.fingerprint == fingerprint)
            if is_usable(relay):
                return relay
    return None


def _are_apart(one: Relay, other: Relay, known: Known) -> bool:
    if one.fingerprint == other.fingerprint:
        return False
    return not known.apart or _network(one) is None or _network(one) != _network(other)


def _network(relay: Relay) -> tuple[str, ...] | None:
    address = relay.status.address
    return None if address is None else tuple(address.split(".")[:2])
