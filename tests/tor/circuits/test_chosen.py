"""From what an experiment chooses to the circuit that is built."""

from __future__ import annotations

import base64
from random import Random
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.clock import Clock
from perfd.config.relays import RelaysConfig, Selection
from perfd.record import Error
from perfd.tor.circuits import consensus
from perfd.tor.circuits.chosen import Chosen, CircuitError, Circuits, FixedChoice, OpenCircuit
from tests.support.fake_control import FakeControl


def lines(number: int, flags: str, address: str) -> list[str]:
    """A relay of GETINFO ns/all."""
    identity = base64.b64encode(bytes.fromhex(f"{number:040x}")).decode().rstrip("=")
    digest = "A" * 27
    return [
        f"r relay{number} {identity} {digest} 2038-01-01 00:00:00 {address} 9001 0",
        f"s {flags} Running Valid",
        "w Bandwidth=100",
    ]


CONSENSUS = [
    *lines(1, "Guard", "1.1.1.1"),
    *lines(2, "", "2.2.2.2"),
    *lines(3, "Exit", "3.3.3.3"),
    *lines(4, "Exit", "4.4.4.4"),
    "r down AAAAAAAAAAAAAAAAAAAAAAAAAAA A 2038-01-01 00:00:00 5.5.5.5 1 0",
    "s Exit",
    "w Bandwidth=900",
]


class Transport:
    """Of the other connection."""

    def __init__(self) -> None:
        self.aborted = 0

    def abortConnection(self) -> None:
        self.aborted += 1


class Side:
    """The other connection, over which the consensus is read."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.questions: list[str] = []

    def get_info_incremental(self, key: str, line: Any) -> Deferred[None]:
        self.questions.append(key)
        for each in CONSENSUS:
            line(each)
        return succeed(None)


class CircuitsTests(SynchronousTestCase):
    """What tor is asked, and what comes of its answers."""

    def setUp(self) -> None:
        self.reactor = task.Clock()
        self.tor, self.side = FakeControl(), Side()

        async def open_beside(_reactor: Any, _protocol: Any) -> Side:
            return self.side

        self.patch(consensus, "open_beside", open_beside)
        clock = Clock(self.reactor.seconds, self.reactor.seconds)
        self.circuits = Circuits(self.reactor, clock, tor="alpha", apart=True)
        self.successResultOf(Deferred.fromCoroutine(self.circuits.connected(self.tor)))
        self.tor.answers["GETINFO entry-guards"] = succeed(f"entry-guards=\n${1:040X}~relay1 up")
        self.policy(3, "p accept 80,443")
        self.policy(4, "p accept 80,443,8000-9000")

    def policy(self, number: int, line: str) -> None:
        self.tor.answers[f"GETINFO md/id/{number:040X}"] = succeed(f"md/id/X=\nonion-key\n{line}\nid ed25519 x")

    def build(self, port: int = 8080, **places: str) -> Deferred[OpenCircuit]:
        relays = RelaysConfig.of(
            {place: Selection.parse(text) for place, text in {"middle": "~relay2", **places}.items()}
        )
        chosen = Chosen(self.circuits, FixedChoice(relays))
        for last in (3, 4):
            path = ",".join(f"${number:040X}" for number in (1, 2, last))
            self.tor.answers[f"EXTENDCIRCUIT 0 {path} purpose=controller"] = succeed("EXTENDED 9")
        return Deferred.fromCoroutine(chosen.build(port, 30.0))

    def error(self, built: Deferred[OpenCircuit]) -> tuple[str, str, list[str]]:
        error = self.failureResultOf(built, CircuitError).value
        return error.errorcode, str(error), sorted(error.keys)

    def test_built(self) -> None:
        """Over an exit that allows the port, with the keys of its record; streams are claimed and let go."""
        built = self.build()
        hops = [f"${number:040X}" for number in (1, 2, 4)]
        for count in (1, 2, 3):
            self.reactor.advance(0.5)
            self.tor.event("CIRC", f"9 EXTENDED {','.join(hops[:count])}")
        self.tor.event("CIRC", f"9 BUILT {','.join(hops)}")
        circuit = self.successResultOf(built)
        self.assertEqual(
            dict(circuit.keys), {"CHOSENPATH": ",".join(hops), "CHOSENTIMES": "0.500000,1.000000,1.500000"}
        )
        self.assertEqual(self.side.transport.aborted, 1)
        self.tor.taken()
        self.successResultOf(Deferred.fromCoroutine(circuit.claim("ours", 1)))
        self.tor.event("STREAM", '1 NEW 0 192.0.2.1:80 SOCKS_USERNAME="ours"')
        circuit.release()
        circuit.close()
        self.assertEqual(
            self.tor.taken()[2:], ["ATTACHSTREAM 1 9", "SETCONF __LeaveStreamsUnattached=0", "CLOSECIRCUIT 9"]
        )

    def test_failed(self) -> None:
        """The relay that was not reached is named."""
        built = self.build(exit="~relay4")
        self.tor.event("CIRC", f"9 EXTENDED ${1:040X}")
        self.tor.event("CIRC", "9 FAILED REASON=DESTROYED REMOTE_REASON=CONNECTFAILED")
        found = self.error(built)
        self.assertEqual(
            found,
            (
                Error.CIRCUIT,
                "the circuit was not built: CONNECTFAILED at relay2, relay 2 of 3",
                ["CHOSENFAILED", "CHOSENPATH", "CHOSENTIMES"],
            ),
        )

    def test_no_path(self) -> None:
        """Relays that are not there, exits that do not allow the port, countries that tor cannot tell."""
        gone = self.error(self.build(exit="~down"))
        self.assertEqual(
            gone[:2], (Error.NOPATH, "no relay in the consensus is up and fit to be exit, and among ~down")
        )
        port = self.error(self.build(port=25))
        self.assertEqual(port[:2], (Error.NOPATH, "none of the exits that are wanted allows port 25"))
        self.tor.answers[f"GETINFO {' '.join(f'ip-to-country/{n}.{n}.{n}.{n}' for n in range(1, 5))}"] = fail(
            TorProtocolError(551, "GeoIP data not loaded")
        )
        where = self.error(self.build(exit="{de}"))
        self.assertEqual(where[0], Error.NOPATH)
        self.assertIn("GeoIP data not loaded", where[1])

    def test_countries(self) -> None:
        """They are asked once for each consensus, for many relays at once."""
        question = f"GETINFO {' '.join(f'ip-to-country/{n}.{n}.{n}.{n}' for n in range(1, 5))}"
        for _ in range(2):
            self.tor.answers[question] = succeed(
                "ip-to-country/3.3.3.3=de\nip-to-country/4.4.4.4=se\nip-to-country/1.1.1.1=??"
            )
            self.build(exit="{se}").addErrback(lambda _: None)
        self.assertEqual([question in self.tor.taken(), self.side.questions], [True, ["ns/all"]])
        self.tor.event("STATUS_CLIENT", "NOTICE CONSENSUS_ARRIVED")
        self.build(exit="{se}").addErrback(lambda _: None)
        self.assertEqual(self.side.questions, ["ns/all"] * 2)

    def test_lost(self) -> None:
        """Without a connection there is no circuit."""
        self.circuits.disconnected()
        self.assertEqual(self.error(self.build())[:2], (Error.NOTREADY, "tor alpha was lost"))


def test_random_is_not_shared() -> None:
    """A choice that is fixed asks nothing of the random numbers."""
    relays = RelaysConfig.of({"exit": Selection.parse("{de}")})
    choice = FixedChoice(relays)
    known = consensus.Known(relays=())
    assert choice.wanted(known, Random(1)) == (relays, {})
    assert choice.instead(frozenset()) is None
    assert choice.asks_countries
