"""The design of comparisons: arms, orders, assignments, and what cannot answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.analysis.sample_size import best_block_size
from perfd.comparison.design import DesignError, Plan, check_design, is_by_block, looks_of
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


@pytest.mark.parametrize(
    ("a", "b", "changes", "message"),
    [
        ("x=", "x=ConfluxEnabled 0", {}, "both arms are named x"),
        ("x=", "y=EntryNodes {de}", {}, "different guards.*entrynodes"),
        ("x=ConfluxEnabled 0", "y=optimistic=yes", {}, "y has optimistic data.*Conflux"),
        ("x=", "y=", {"primary": "load"}, "load is a metric of pageload only"),
        ("x=", "y=", {"primary": "onion-rendezvous"}, "server = onion, or the url of an onion service"),
        (
            "x=",
            "y=tor=arti",
            {"primary": "onion-rendezvous", "is_onion": True, "clients": ("y",)},
            "y does not have",
        ),
        ("x=size=1MiB", "y=size=2MiB", {}, "different sizes"),
        ("x=", "y=ConfluxEnabled 0", {"tor": False}, "no tor with network = socks"),
    ],
)
def test_refused(a: str, b: str, changes: dict[str, Any], message: str) -> None:
    """A design that cannot answer is refused, with the reason."""
    asked: dict[str, Any] = {
        "kind": "download", "is_onion": False, "primary": "complete", "common": (), "tor": True, **changes
    }  # fmt: skip
    with pytest.raises(DesignError, match=message):
        check_design(Arm.parse(a), Arm.parse(b), **asked)


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        ("x=", "y=ConfluxEnabled 0", ()),
        ("x=", "y=optimistic=yes", ("ConfluxEnabled 0",)),
        ("x=EntryNodes {de}; NumCPUs 1", "y=EntryNodes {de}", ()),
    ],
)
def test_accepted(a: str, b: str, common: tuple[str, ...]) -> None:
    """What can answer is not refused."""
    check_design(
        *(Arm.parse(a), Arm.parse(b)), kind="download", is_onion=False, primary="complete", common=common, tor=True
    )


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
