"""The path of a circuit: one relay for each place, of those that are wanted there; pure functions.

With EXTENDCIRCUIT tor takes any path that it is given (control-spec, section 3.10), so the rules of path-spec,
section 2.2, are kept here: no relay twice, no two in the same /16, and in each place only relays that are up and,
unless they are named, fit for it. Families are not in a consensus, and not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs

from perfd.config.relays import EXIT, GUARD, MIDDLE, RelaysConfig, Selection
from perfd.tor.circuits.selection import Relay, matching, names, ranked
from perfd.tor.events.relays import RouterStatus

UP = frozenset(("Running", "Valid"))
_FLAGS = {GUARD: UP | {"Guard"}, MIDDLE: UP, EXIT: UP | {"Exit"}}

TRIES = 50
"""Paths that are drawn before it is said that there is none: two places may want relays of the same /16."""


class NoPathError(ValueError):
    """No circuit can be built of the relays that are wanted; the message says in which place."""


@attrs.frozen(kw_only=True)
class Known:
    """What a tor knows: the relays that are up, and its guards, the one that it likes best first.

    ``barred`` are fingerprints of relays that cannot be exits here. ``apart``: no two relays of a circuit are in
    the same /16, which on a private network all are.
    """

    relays: Sequence[RouterStatus]
    guards: Sequence[str] = ()
    barred: frozenset[str] = frozenset()
    apart: bool = True


def choose_path(known: Known, wanted: RelaysConfig, random: Random) -> list[Relay]:
    """A relay for each hop, drawn in proportion to its weight in the consensus.

    Where no guard is wanted, it is the best one of tor's own that can be. Raises ``NoPathError``.
    """
    count = len(wanted.hops)
    fit = {hop: _candidates(known, selection, _place(hop, count)) for hop, selection in enumerate(wanted.hops)}
    for hop, those in fit.items():
        if not those:
            raise NoPathError(_nobody(wanted, hop))
    # The place with the fewest comes first, so that another does not take its only relay; tor's own guard, of which
    # any will do, comes last.
    order = sorted(fit, key=lambda hop: (hop == 0 and wanted.hops[0] is None, len(fit[hop])))
    for _ in range(TRIES):
        path: dict[int, Relay] = {}
        for hop in order:
            usable = [each for each in fit[hop] if all(_are_apart(each, one, known) for one in path.values())]
            if not usable:
                break
            own = _own_guard(known, usable) if hop == 0 and wanted.hops[0] is None else None
            weights = [max(1, each.status.bandwidth) for each in usable]
            path[hop] = own or random.choices(usable, weights)[0]
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
    return [
        each
        for each in relays
        if (each.flags >= _FLAGS[place] and not (place == EXIT and "BadExit" in each.flags))
        or (selection is not None and each.flags >= UP and names(selection, each))
    ]


def _candidates(known: Known, selection: Selection | None, place: str) -> list[Relay]:
    fit = fit_for(place, known.relays, selection)
    if place == EXIT:
        fit = [each for each in fit if each.fingerprint not in known.barred]
    found = ranked(fit)
    return found if selection is None else matching(selection, found)


def _place(hop: int, count: int) -> str:
    if hop == count - 1:
        return EXIT
    return GUARD if hop == 0 else MIDDLE


def _nobody(wanted: RelaysConfig, hop: int) -> str:
    place, selection = _place(hop, len(wanted.hops)), wanted.hops[hop]
    among = "" if selection is None else f", and among {selection}"
    return f"no relay in the consensus is up and fit to be {place}{among}"


def _own_guard(known: Known, usable: Sequence[Relay]) -> Relay | None:
    by_fingerprint = {each.fingerprint: each for each in usable}
    return next((by_fingerprint[each] for each in known.guards if each in by_fingerprint), None)


def _are_apart(one: Relay, other: Relay, known: Known) -> bool:
    if one.fingerprint == other.fingerprint:
        return False
    return not known.apart or _network(one) is None or _network(one) != _network(other)


def _network(relay: Relay) -> tuple[str, ...] | None:
    address = relay.status.address
    return None if address is None else tuple(address.split(".")[:2])
