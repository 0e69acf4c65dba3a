"""Which relay a scan measures next."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from perfd.config.relays import RelaysConfig, ScanConfig, Selection
from perfd.experiments.scan import ScanChoice, ScanState
from perfd.tor.circuits.path import Known, NoPathError
from perfd.tor.events.relays import RouterStatus

UP = frozenset(("Running", "Valid"))


def relay(number: int, *flags: str) -> RouterStatus:
    return RouterStatus(f"{number:040X}", f"relay{number}", UP | {*flags}, number)


KNOWN = Known(
    relays=[
        *(relay(n, "Exit") for n in range(1, 9)),
        *(relay(n, "Guard") for n in range(9, 15)),
        relay(15),
        relay(16),
    ]
)


def prepared(choice: ScanChoice) -> ScanChoice:
    results: list[Any] = []
    Deferred.fromCoroutine(choice.prepare()).addCallback(results.append)
    assert results == [None]
    return choice


def scan(
    relays: str = "Running",
    place: str = "auto",
    seed: int | None = 7,
    others: RelaysConfig | None = None,
    state: ScanState | None = None,
) -> ScanChoice:
    async def resume() -> ScanState | None:
        return state

    return prepared(ScanChoice(ScanConfig(relays=Selection.parse(relays), place=place, seed=seed), others, resume))


def following(choice: ScanChoice, count: int, known: Known = KNOWN) -> list[Any]:
    return [choice.wanted(known, Random(1))[1] for _ in range(count)]


def test_pass() -> None:
    """Each relay once, where it can be; then the next pass, in another order of the same seed."""
    choice = scan()
    first, second = following(choice, 16), following(choice, 16)
    for number, keys in enumerate((first, second), 1):
        assert sorted(int(each["SCANNICKNAME"].removeprefix("relay")) for each in keys) == [*range(1, 17)]
        assert {(each["SCANPASS"], each["SCANSEED"]) for each in keys} == {(number, 7)}
        assert [each["SCANLEFT"] for each in keys] == [*range(15, -1, -1)]
    assert [each["SCANRELAY"] for each in first] != [each["SCANRELAY"] for each in second]
    assert first == following(scan(), 16)
    assert first != following(scan(seed=8), 16)
    places = {each["SCANNICKNAME"]: each["SCANPLACE"] for each in first}
    assert (places["relay1"], places["relay9"], places["relay15"]) == ("exit", "guard", "middle")


def test_goes_on() -> None:
    """After a restart the pass goes on where it was; relays that come have their place in the order."""
    whole = [each["SCANRELAY"].removeprefix("$") for each in following(scan(), 16)]
    state = ScanState(1, 7, frozenset(whole[:10]))
    rest = following(scan(seed=None, state=state), 7)
    assert [each["SCANRELAY"].removeprefix("$") for each in rest[:6]] == whole[10:]
    assert (rest[0]["SCANSEED"], rest[6]["SCANPASS"]) == (7, 2)
    fewer = Known(relays=[each for each in KNOWN.relays if each.fingerprint != whole[12]])
    assert [each["SCANRELAY"].removeprefix("$") for each in following(scan(state=state), 5, fewer)] == [
        *whole[10:12],
        *whole[13:],
    ]
    assert following(scan(seed=9, state=state), 1)[0]["SCANPASS"] == 2


def test_others() -> None:
    """The known others are those that are configured, or any where they are the relay itself."""
    others = RelaysConfig.of({"guard": Selection.parse("~relay9"), "middle": Selection.parse("~relay15")})
    choice = scan("~relay15, ~relay9, ~relay1", others=others)
    found = {}
    for _ in range(3):
        relays, keys = choice.wanted(KNOWN, Random(1))
        found[keys["SCANNICKNAME"]] = [None if hop is None else str(hop) for hop in relays.hops]
    assert found == {
        "relay1": ["~relay9", "~relay15", f"{1:040X}"],
        "relay9": [f"{9:040X}", "~relay15", None],
        "relay15": ["~relay9", f"{15:040X}", None],
    }


def test_places() -> None:
    """All in one place; an exit that does not allow the port is measured as what it can be besides."""
    keys = following(scan("Guard, ~relay1", "middle"), 7)
    assert {each["SCANPLACE"] for each in keys} == {"middle"}
    assert len({each["SCANRELAY"] for each in keys}) == 7
    choice = scan("~relay1")
    choice.wanted(KNOWN, Random(1))
    instead = choice.instead(frozenset((f"{1:040X}",)))
    assert instead is not None
    assert instead[1]["SCANPLACE"] == "middle"
    assert choice.instead(frozenset()) is None
    fixed = scan("~relay1", "exit")
    fixed.wanted(KNOWN, Random(1))
    assert fixed.instead(frozenset((f"{1:040X}",))) is None


def test_nobody() -> None:
    """A class without relays is told."""
    with pytest.raises(NoPathError, match="among ~relay99"):
        following(scan("~relay99"), 1)


def test_unreadable() -> None:
    """A database that cannot be read costs the place in the scan alone."""

    async def resume() -> ScanState | None:
        raise OSError("disk")

    choice = prepared(ScanChoice(ScanConfig(relays=Selection.parse("Exit")), None, resume))
    assert following(choice, 1)[0]["SCANPASS"] == 1
