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
    # A file may name thousands by their fingerprints, which is not to be a question for each of all relays.
    listed = {term[0].value for term in selection.terms if _is_fingerprint(term)}
    others = [term for term in selection.terms if not _is_fingerprint(term)]
    return [
        each
        for each in relays
        if each.fingerprint in listed or any(all(_holds(one, each) for one in term) for term in others)
    ]


def named(selection: Selection, relays: Iterable[RouterStatus]) -> set[str]:
    """The fingerprints of those relays that a selection names one by one, and not by a class that they are in."""
    values = {condition.value for condition in selection.conditions if condition.names_one}
    return {each.fingerprint for each in relays if each.fingerprint in values or each.nickname in values}


def _is_fingerprint(term: Sequence[Condition]) -> bool:
    return len(term) == 1 and term[0].kind == "fingerprint" and not term[0].is_not


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
