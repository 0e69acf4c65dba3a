"""The plan of a campaign is a pure function of its seed, and names faults that there are."""

from __future__ import annotations

from itertools import islice

from tests.campaign import faults
from tests.campaign.plan import ALL, FAULTS_OF_ONE, KINDS, NETWORKS, PAUSE, plan, plans


def test_same_seed() -> None:
    """The same seed has the same faults, however many are wanted; another one has others."""
    assert list(plans(1, 100)) == list(plans(1, 100))
    assert list(plans(1, 300))[:5] == list(plans(1, 100))[:5]
    assert plan(1, 3) != plan(2, 3)
    assert plan(1, 3) == list(plans(1, 300))[2]


def test_as_many_as_wanted() -> None:
    """So many faults, in instances of a few each, whose number says which they are."""
    for wanted in (1, 30, 299):
        found = list(plans(5, wanted))
        assert sum(len(each.faults) for each in found) == wanted
        assert [each.number for each in found] == list(range(1, len(found) + 1))
        assert all(FAULTS_OF_ONE[0] <= len(each.faults) <= FAULTS_OF_ONE[1] for each in found[:-1])


def test_where_they_can_happen() -> None:
    """Each fault is one of its network's, in its bounds; all of them and all networks have their turn."""
    found = list(islice(plans(1, 10_000), 400))
    for each in found:
        for fault in each.faults:
            kind = KINDS[fault.kind]
            assert each.network in kind.networks
            assert kind.seconds[0] <= fault.seconds <= kind.seconds[1]
            assert PAUSE[0] <= fault.pause <= PAUSE[1]
    assert {each.network for each in found} == set(NETWORKS)
    assert {fault.kind for each in found for fault in each.faults} == set(KINDS)
    assert set(faults._FAULTS) == set(KINDS)


def test_some_networks() -> None:
    """Only instances of the networks that are wanted."""
    assert {each.network for each in plans(1, 50, frozenset({"socks"}))} == {"socks"}
    assert all(kind.networks <= ALL for kind in KINDS.values())
