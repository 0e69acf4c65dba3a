"""Layers of guards on the way to onion services."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import task
from twisted.internet.defer import Deferred, fail, succeed
from txtorcon import TorProtocolError

from perfd.tor.events.layers import guard_layers, layer_keys, layers_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HSLayer2Nodes\nHSLayer3Nodes\nVanguardsLiteEnabled=auto", 2),
        ("HSLayer2Nodes\nHSLayer3Nodes\nVanguardsLiteEnabled=1", 2),
        ("HSLayer2Nodes\nHSLayer3Nodes\nVanguardsLiteEnabled=0", 1),
        ("HSLayer2Nodes=A,B\nHSLayer3Nodes\nVanguardsLiteEnabled=0", 2),
        ("HSLayer2Nodes=A\nHSLayer3Nodes=B\nVanguardsLiteEnabled=auto", 3),
        ("nonsense", None),
    ],
)
def test_options(text: str, expected: int | None) -> None:
    """By the options of tor."""
    assert layers_in(text) == expected


@pytest.mark.parametrize(
    ("hops", "layers", "expected"),
    [(3, 2, "1,2,"), (4, 3, "1,2,3,"), (4, 2, "1,2,,"), (3, 1, "1,,"), (2, 2, "1,"), (3, 3, "1,2,")],
)
def test_keys(hops: int, layers: int, expected: str) -> None:
    """The rendezvous point is no guard."""
    assert layer_keys(hops, layers) == {"GUARDLAYERS": expected}
    assert layer_keys(hops, None) == {}


class Control:
    """A control connection with this answer."""

    def __init__(self, answer: Deferred[str]) -> None:
        self._answer = answer

    def get_conf_raw(self, *_: str) -> Deferred[str]:
        return self._answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: fail(TorProtocolError(552, "no such option")), None),
        (Deferred, None),
        (lambda: succeed("HSLayer2Nodes\nHSLayer3Nodes\nVanguardsLiteEnabled=0"), 1),
    ],
)
def test_answers(answer: Any, expected: int | None) -> None:
    """A tor that refuses, or does not answer, tells nothing."""
    clock = task.Clock()
    found: list[int | None] = []
    Deferred.fromCoroutine(guard_layers(Control(answer()), clock)).addCallback(found.append)
    clock.advance(2.0)
    assert found == [expected]
