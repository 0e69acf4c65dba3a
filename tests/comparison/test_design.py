"""The design of comparisons: arms, orders, assignments, and what cannot answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.analysis.sample_size import best_block_size
from perfd.comparison.design import DesignError, Plan, Side, check_blocks, check_design, is_by_block, looks_of
from perfd.config.values import Arm


def test_arm() -> None:
    """Lines of a torrc, a binary, and options of the experiment."""
    arm = Arm.parse("eager=ConfluxEnabled 0; optimistic=yes ;binary = /opt/tor/bin/tor; NumCPUs 1")
    assert arm == Arm("eager", ("ConfluxEnabled 0", "NumCPUs 1"), "/opt/tor/bin/tor", {"optimistic": "yes"})
    assert Arm.parse("plain=") == Arm("plain")
    for text in ("plain", "=ConfluxEnabled 0", "a b=", "-x="):
        with pytest.raises(ValueError, match="is not NAME=OPTIONS"):
            Arm.parse(text)


@given(st.integers(0, 10**9), st.integers(0, 1000), st.integers(2, 12))
def test_blocks(seed: int, number: int, size: int) -> None:
    """Each has as many runs of both arms, each over a place of its arm, of which there are two of four."""
    block = Plan(seed, 4, shared=False).block(number, size)
    assert Counter(arm for arm, _ in block.runs) == {0: size, 1: size}
    assert sorted(block.places) == [0, 0, 1, 1]
    assert all(block.places[place] == arm for arm, place in block.runs)
    assert block == Plan(seed, 4, shared=False).block(number, size)
    shared = Plan(seed, 4, shared=True).block(number, size)
    used = [sorted(place for arm, place in shared.runs if arm == side) for side in (0, 1)]
    assert used[0] == used[1]


def test_assignment_is_drawn_anew() -> None:
    """In many blocks each place is of both arms about as often, and each order comes."""
    plan = Plan(5, 4, shared=False)
    blocks = [plan.block(number, 2) for number in range(600)]
    for place in range(4):
        assert 250 < sum(block.places[place] for block in blocks) < 350
    orders = Counter(tuple(arm for arm, _ in block.runs) for block in blocks)
    assert len(orders) == 6
    assert min(orders.values()) > 65
    assert Plan(6, 4, shared=False).block(0, 6) != plan.block(0, 6)


@pytest.mark.parametrize(
    ("a", "b", "is_unit"),
    [
        ("plain=", "noconflux=ConfluxEnabled 0", True),
        ("old=binary=/opt/tor-0.4.8", "new=", True),
        ("tor=tor=default", "arti=tor=arti", True),
        ("plain=ConfluxEnabled 0", "eager=ConfluxEnabled 0; optimistic=yes", False),
    ],
)
def test_unit(a: str, b: str, is_unit: bool) -> None:
    """The block is it where arms have tors of their own, the run where both use the same."""
    assert is_by_block(Arm.parse(a), Arm.parse(b)) is is_unit


def test_looks() -> None:
    """Evenly spaced, the last at the end."""
    assert looks_of(370, 5) == [74, 148, 222, 296, 370]
    assert looks_of(12, 1) == [12]


def side(text: str, **changes: Any) -> Side:
    return Side(**{"arm": Arm.parse(text), "kind": "download", "size": 51200, **changes})


EAGER = {"is_optimistic": True}


@pytest.mark.parametrize(
    ("a", "b", "changes", "message"),
    [
        (side("x="), side("x=ConfluxEnabled 0"), {}, "both arms are named x"),
        (side("x="), side("y=EntryNodes {de}"), {}, "different guards.*entrynodes"),
        (side("x="), side("y=EntryNode {de}"), {}, "different guards.*entrynodes"),
        (side("x="), side("y=NumEntryNodes 5"), {}, "different guards.*numentryguards"),
        (side("x="), side("y=%include guards"), {}, "different guards.*%include"),
        (side("x=EntryNodes {de}", torrc=["EntryNodes {fr}"]), side("y=", torrc=["EntryNodes {fr}"]), {}, "guards"),
        (side("x=ConfluxEnabled 0"), side("y=", **EAGER), {}, "y has optimistic data.*Conflux"),
        (side("x=", **EAGER), side("y=NumCPUs 1", **EAGER), {}, "x has optimistic data.*Conflux"),
        (side("x="), side("y=ConfluxEnabled 1", torrc=["ConfluxEnabled 0"], **EAGER), {}, "y has optimistic data"),
        (side("x="), side("y=", **EAGER), {"launches": False}, "y has optimistic data"),
        (side("x="), side("y="), {"primary": "load"}, "load is a metric of pageload only"),
        (
            side("x=", kind="series"),
            side("y=", kind="series"),
            {"primary": "circuit"},
            "no metric of type = series",
        ),
        (side("x="), side("y=", kind="upload"), {}, "different types, download and upload"),
        (side("x="), side("y="), {"primary": "onion-rendezvous"}, "server = onion.*x and y do not have"),
        (side("x=", is_onion=True), side("y="), {"primary": "onion-rendezvous"}, "server = onion.*y does not have"),
        (
            side("x=", is_onion=True),
            side("y=tor=arti", is_onion=True, has_control=False),
            {"primary": "onion-rendezvous", "launches": False},
            "y does not have",
        ),
        (side("x=", size=1), side("y=", size=2), {}, "different sizes"),
        (side("x="), side("y=ConfluxEnabled 0"), {"launches": False}, "no tor with network = socks"),
    ],
)
def test_refused(a: Side, b: Side, changes: dict[str, Any], message: str) -> None:
    """A design that cannot answer is refused, with the reason."""
    asked: dict[str, Any] = {"primary": "complete", "launches": True, **changes}
    with pytest.raises(DesignError, match=message):
        check_design(a, b, **asked)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (side("x="), side("y=ConfluxEnabled 0")),
        (side("x=", torrc=["ConfluxEnabled 0"]), side("y=", torrc=["ConfluxEnabled 0"], **EAGER)),
        (side("x="), side("y=ConfluxEnabled 1; confluxenabled  0", **EAGER)),
        (side("x=EntryNodes {de}; NumCPUs 1"), side("y=entrynode {DE}")),
        (side("x=EntryNodes {fr}; EntryNodes {de}"), side("y=EntryNodes {de}")),
        (side("x=/EntryNodes", torrc=["EntryNodes {de}"]), side("y=")),
    ],
)
def test_accepted(a: Side, b: Side) -> None:
    """What can answer is not refused."""
    check_design(a, b, primary="complete", launches=True)


def test_too_few_blocks() -> None:
    """Each look has blocks of its own, and one block does not differ from another."""
    check_blocks(None, 5, by_block=True)
    check_blocks(1, 1, by_block=False)
    with pytest.raises(DesignError, match="5 looks need at least as many blocks"):
        check_blocks(4, 5, by_block=False)
    with pytest.raises(DesignError, match="one block does not say"):
        check_blocks(1, 1, by_block=True)


def test_best_block_size() -> None:
    """Short blocks where there is much drift, long ones without; the default if there is little to win."""
    from random import Random

    chance = Random(1)

    def pilot(drift: float) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        arms: tuple[list[tuple[int, float]], list[tuple[int, float]]] = ([], [])
        level = 0.0
        for place in range(600):
            level = 0.9 * level + chance.gauss(0, drift)
            arms[place % 2].append((place, level + chance.gauss(0, 0.05)))
        return arms

    assert best_block_size(*pilot(0.0)) >= 6
    assert best_block_size(*pilot(0.1)) < 6
    assert best_block_size([], []) == 6
