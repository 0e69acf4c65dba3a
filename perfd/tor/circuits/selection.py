"""Which relays of a consensus match a selection; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from perfd.config.relays import Condition, Selection
from perfd.tor.events.relays import RouterStatus


@attrs.frozen
class Relay:
    """A relay with its place among those that it is chosen from."""

    status: RouterStatus
    rank: int = 0  # by its weight in the consensus, the lightest has 0
    of: int = 1  # so many relays were ranked

    @property
    def fingerprint(self) -> str:
        return self.status.fingerprint

    @property
    def nickname(self) -> str:
        return self.status.nickname


def ranked(relays: Iterable[RouterStatus]) -> list[Relay]:
    """The relays by weight, the lightest first."""
    ordered = sorted(relays, key=lambda each: (each.bandwidth, each.fingerprint))
    return [Relay(each, rank, len(ordered)) for rank, each in enumerate(ordered)]


def matching(selection: Selection, relays: Sequence[Relay]) -> list[Relay]:
    """Those that match one of its terms."""
    return [each for each in relays if any(all(_holds(one, each) for one in term) for term in selection.terms)]


def names(selection: Selection, relay: RouterStatus) -> bool:
    """Whether a selection names just this relay, and not a class that it is in."""
    return any(
        condition.names_one and _holds(condition, Relay(relay)) for term in selection.terms for condition in term
    )


def _holds(condition: Condition, relay: Relay) -> bool:
    return _is(condition, relay) != condition.is_not


def _is(condition: Condition, relay: Relay) -> bool:
    status, value = relay.status, condition.value
    if condition.kind == "bandwidth":
        # Classes have nearly the same size; class 1 is that of the lightest.
        number, classes = map(int, value.split("/"))
        return relay.rank * classes // relay.of == number - 1
    if condition.kind == "country":
        return value == (status.country or "??")
    if condition.kind == "flag":
        return value in status.flags
    return value == (status.nickname if condition.kind == "nickname" else status.fingerprint)
