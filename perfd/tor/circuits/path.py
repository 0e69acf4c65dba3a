"""The path of a circuit: one relay for each place, of those that are wanted there; pure functions.

With EXTENDCIRCUIT tor takes any path that it is given (control-spec, section 3.10), so the rules of path-spec,
section 2.2, are kept here: no relay twice, no two in the same /16, and in each place only relays that are up and
fit for it. Families are not known from a consensus, and not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs

from perfd.tor.circuits.selection import Relay, Selection

GUARD, MIDDLE, EXIT = "guard", "middle", "exit"
PLACES = (GUARD, MIDDLE, EXIT)

_UP = frozenset(("Running", "Valid"))
_FIT = {GUARD: _UP | {"Guard"}, MIDDLE: _UP, EXIT: _UP | {"Exit"}}

TRIES = 50
"""Paths that are drawn before it is said that there is none: two places may want relays of the same /16."""


class NoPathError(ValueError):
    """No circuit can be built of the relays that are wanted; the message says in which place."""


@attrs.frozen(kw_only=True)
class Wanted:
    """The relays for each place; None: those that tor itself would take, by their weights."""

    guard: Selection | None = None
    middle: Selection | None = None
    exit: Selection | None = None

    def of(self, place: str) -> Selection | None:
        found: Selection | None = {GUARD: self.guard, MIDDLE: self.middle, EXIT: self.exit}[place]
        return found


def choose_path(relays: Sequence[Relay], wanted: Wanted, random: Random, *, apart: bool = True) -> list[Relay]:
    """A guard, a middle and an exit.

    Each is drawn in proportion to its weight in the consensus. ``apart``: no two are in the same /16, which on a
    private network all are. Raises ``NoPathError``.
    """
    fit = {place: candidates(relays, wanted.of(place), place) for place in PLACES}
    for place, those in fit.items():
        if not those:
            raise NoPathError(f"no relay that is up is wanted as {place} and fit for it")
    for _ in range(TRIES):
        path: dict[str, Relay] = {}
        # The place with the fewest comes first, so that another does not take its only relay.
        for place in sorted(PLACES, key=lambda each: len(fit[each])):
            usable = [each for each in fit[place] if all(_are_apart(each, one, apart) for one in path.values())]
            if not usable:
                break
            weights = [max(1, each.status.bandwidth) for each in usable]
            (path[place],) = random.choices(usable, weights)
        else:
            return [path[place] for place in PLACES]
    raise NoPathError(
        "the relays that are wanted are the same, or too near to each other, in all paths that were tried"
    )


def candidates(relays: Sequence[Relay], selection: Selection | None, place: str) -> list[Relay]:
    """The relays that are wanted in a place and fit for it."""
    fit = [each for each in relays if each.status.flags >= _FIT[place]]
    if place == EXIT:
        fit = [each for each in fit if "BadExit" not in each.status.flags]
    return fit if selection is None else selection.of(fit)


def _are_apart(one: Relay, other: Relay, apart: bool) -> bool:
    if one.status.fingerprint == other.status.fingerprint:
        return False
    return not apart or _network(one) is None or _network(one) != _network(other)


def _network(relay: Relay) -> tuple[str, ...] | None:
    address = relay.status.address
    return None if address is None else tuple(address.split(".")[:2])
