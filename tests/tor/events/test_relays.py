"""What the consensus says of relays."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.tor.events.relays import (
    ANSWER_WAIT,
    MAX_KNOWN,
    Relays,
    RouterStatus,
    RouterStatusReader,
    path_keys,
)


def hop(number: int) -> str:
    return f"${number:040X}"


def status(number: int, flags: str = "Fast Running Valid", weight: str = "Bandwidth=100") -> str:
    """A relay as GETINFO ns/id tells it."""
    identity = b64encode(bytes.fromhex(hop(number)[1:])).decode().rstrip("=")
    return f"r relay{number} {identity} {identity} 2038-01-01 00:00:00 10.0.0.1 9001 0\ns {flags}\nw {weight}\n"


class Tor:
    """Answers GETINFO ns/id from ``answers``, and refuses what is not there."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[str] = []
        self.places: list[str] = []  # addresses whose country was asked for
        self.answers: dict[str, Any] = answers

    def get_info_raw(self, key: str) -> Deferred[str]:
        kind, _, identity = key.rpartition("/")
        if kind == "ip-to-country":
            self.places.append(identity)
            answer = self.answers.get(identity)
            return fail(TorProtocolError(551, "GeoIP data not loaded")) if answer is None else succeed(answer)
        assert kind == "ns/id", key
        self.asked.append(identity)
        answer = self.answers.get(f"${identity}")
        if isinstance(answer, Deferred):
            return answer
        if answer is None:
            return fail(TorProtocolError(552, f'Unrecognized key "{key}"'))
        return succeed(f"{key}=\n{answer}")


class RelaysTests(SynchronousTestCase):
    """Tor is asked once for each relay and consensus."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.relays = Relays(self.reactor)
        self.tor = Tor()
        self.tor.answers = {hop(n): status(n) for n in (1, 2, 3)}

    def of(self, *numbers: int) -> Deferred[tuple[RouterStatus | None, ...]]:
        return Deferred.fromCoroutine(self.relays.of(self.tor, [hop(n) for n in numbers]))

    def test_asked_once(self) -> None:
        """In the order of the path; again only after a new consensus."""
        found = self.successResultOf(self.of(2, 1))
        flags = frozenset(("Fast", "Running", "Valid"))
        self.assertEqual(found, tuple(RouterStatus(hop(n)[1:], f"relay{n}", flags, 100) for n in (2, 1)))
        self.successResultOf(self.of(1, 3, 2))
        self.assertEqual(self.tor.asked, [hop(n)[1:] for n in (1, 2, 3)])
        self.relays.forget()
        self.tor.answers[hop(1)] = status(1, weight="Bandwidth=200 Unmeasured=1")
        (relay,) = self.successResultOf(self.of(1))
        self.assertEqual((relay.bandwidth, relay.measured), (200, False))

    def test_country(self) -> None:
        """Tor is asked for the country of a public address; what it does not know has none."""
        for number, answer in ((1, "ip-to-country/1.1.1.1=au"), (2, "ip-to-country/1.1.1.2=??"), (3, None)):
            address = f"1.1.1.{number}"
            self.tor.answers[hop(number)] = status(number).replace("10.0.0.1", address)
            self.tor.answers[address] = answer
        self.tor.answers[hop(4)] = status(4).replace("10.0.0.1", "999.1.1.1")
        found = self.successResultOf(self.of(1, 2, 3, 4))
        self.assertEqual([relay.country for relay in found], ["au", None, None, None])
        self.assertEqual(self.tor.places, ["1.1.1.1", "1.1.1.2", "1.1.1.3"])

    def test_unknown(self) -> None:
        """What tor does not know, or answers with something else, is not known, and not asked for again."""
        self.tor.answers[hop(2)] = status(3)
        self.tor.answers[hop(3)] = "nothing\nr x\nw Bandwidth=1"
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.of(2, 3, 4)), (None, None, None))
        self.assertEqual(len(self.tor.asked), 3)

    def test_no_fingerprint(self) -> None:
        """Tor is asked for nothing else than a fingerprint."""
        answer = Deferred.fromCoroutine(self.relays.of(self.tor, ["$AB", "relay1", hop(1) + "\r\nSIGNAL HALT"]))
        self.assertEqual((self.successResultOf(answer), self.tor.asked), ((None, None, None), []))

    def test_slow_answer(self) -> None:
        """A record waits for so long; what was told by then counts."""
        late: Deferred[str] = Deferred()
        self.tor.answers[hop(2)] = late
        answer = self.of(1, 2)
        self.reactor.advance(ANSWER_WAIT - 0.1)
        self.assertNoResult(answer)
        self.reactor.advance(0.2)
        first, second = self.successResultOf(answer)
        self.assertEqual((first.nickname, second), ("relay1", None))

    def test_lost(self) -> None:
        """A control connection that is lost meanwhile ends it."""
        self.tor.answers[hop(2)] = lost = Deferred()
        answer = self.of(2)
        lost.errback(RuntimeError("the connection is lost"))
        self.assertEqual(self.successResultOf(answer), (None,))

    def test_bounded(self) -> None:
        """A tor that tells of ever more relays fills no memory."""
        for number in range(0, 2 * MAX_KNOWN, 1000):
            self.successResultOf(self.of(*range(number, number + 1000)))
        self.assertLessEqual(len(self.relays._known), MAX_KNOWN)


class ReadingTests(SynchronousTestCase):
    """The lines of router statuses."""

    def test_damaged(self) -> None:
        """Damaged lines cost their relay and no other; a flag is a word."""
        found: list[RouterStatus] = []
        reader = RouterStatusReader(found.append)
        damaged = status(1).replace("r relay1", "r " + "x" * 20) + status(2, weight="Bandwidth=-1")
        for line in (damaged + status(3, flags="Fast a,b Exit+")).splitlines():
            reader.line(line)
        self.assertEqual([(relay.nickname, relay.flags) for relay in found], [("relay3", frozenset(["Fast"]))])

    def test_keys(self) -> None:
        """One place for each relay of the path."""
        relay = RouterStatus(hop(1)[1:], "relay1", frozenset(("Valid", "Exit")), 5)
        self.assertEqual(
            path_keys([relay, None]),
            {"PATHNICKNAMES": "relay1,", "PATHWEIGHTS": "5,", "PATHFLAGS": "Exit+Valid,"},
        )
        self.assertEqual((path_keys([None]), path_keys([])), ({}, {}))

    def test_more_keys(self) -> None:
        """What is known of no relay of the path has no key."""
        known = RouterStatus(hop(1)[1:], "relay1", frozenset(), 5, country="de", version="0.4.9.1", cgo=False)
        keys = path_keys([attrs.evolve(known, cgo=True, country=None), None, known])
        self.assertEqual(keys["PATHVERSIONS"], "0.4.9.1,,0.4.9.1")
        self.assertEqual((keys["PATHCOUNTRIES"], keys["PATHCGO"]), (",,de", "1,,0"))
