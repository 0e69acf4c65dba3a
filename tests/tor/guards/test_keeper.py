"""Choosing guards from the consensus, setting them, replacing and dropping them."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.clock import Clock
from perfd.config.values import GUARD_ORDERS, GuardPolicy
from perfd.tor import control
from perfd.tor.control import READ_SIZE, ControlError
from perfd.tor.events.relays import RouterStatus
from perfd.tor.guards.choice import DESCRIPTOR_PATIENCE, DESCRIPTOR_PAUSE, Choice
from perfd.tor.guards.keeper import NETWORK_DOWN_PAUSE, NEW_CIRCUITS_TIME, SETTLE, STOP_WAIT, Guards, guard_states
from perfd.tor.guards.routers import DescriptorReader, GuardReader, rank

FLAGS = "Fast Guard Running Stable V2Dir Valid"


def fingerprint(number: int) -> str:
    return f"{number:040X}"


def relay(identity: str, nickname: str, bandwidth: int, *, measured: bool = True) -> RouterStatus:
    """A relay that can be a guard."""
    return RouterStatus(identity, nickname, frozenset(FLAGS.split()), bandwidth, measured)


def status(number: int, bandwidth: int, flags: str = FLAGS, more: str = "") -> list[str]:
    """The lines of a relay in the consensus."""
    identity = b64encode(bytes.fromhex(fingerprint(number))).decode().rstrip("=")
    return [
        f"r relay{number} {identity} {identity} 2038-01-01 00:00:00 10.0.0.{number} 9001 0",
        f"a [2001:db8::{number}]:9001",
        f"s {flags}",
        f"w Bandwidth={bandwidth}{more}",
    ]


def descriptor(number: int, average: int, burst: int, observed: int) -> list[str]:
    """Some lines of a relay's descriptor."""
    spaced = " ".join(fingerprint(number)[i : i + 4] for i in range(0, 40, 4))
    return [
        f"router relay{number} 10.0.0.{number} 9001 0 0",
        "identity-ed25519",
        "-----BEGIN ED25519 CERT-----",
        f"fingerprint {spaced}",
        f"bandwidth {average} {burst} {observed}",
        "reject *:*",
    ]


def read(lines: list[str]) -> list[RouterStatus]:
    reader = GuardReader()
    for line in lines:
        reader.line(line)
    return reader.guards


class Reading(SynchronousTestCase):
    """The lines of the consensus and of descriptors."""

    def test_guards_of_the_consensus(self) -> None:
        """Relays that tor would take as guards, with their weight."""
        lines = ["ns/all=", *status(1, 500), *status(2, 20, more=" Unmeasured=1"), *status(3, 0)]
        for missing in ("Guard", "Running", "Stable", "Fast", "Valid", "V2Dir"):
            lines += status(9, 100, " ".join(set(FLAGS.split()) - {missing}))
        self.assertEqual(
            read(lines),
            [
                relay(fingerprint(1), "relay1", 500),
                relay(fingerprint(2), "relay2", 20, measured=False),
                relay(fingerprint(3), "relay3", 0),
            ],
        )

    def test_damaged_consensus(self) -> None:
        """Damaged lines cost their relay and no other."""
        for line in ("r relay", "r relay !!! x y", "s", "w", "w Bandwidth=", "w Bandwidth=-4", "w Bandwidth=٣", ""):
            relay = status(2, 70)
            relay[["r", "a", "s", "w"].index(line[:1] or "a")] = line
            found = read([*status(1, 500), *relay, *status(3, 300)])
            self.assertEqual({1, 3} - {int(each.fingerprint, 16) for each in found}, set(), line)

    def test_advertised_bandwidth(self) -> None:
        """The smallest of average, burst and observed; without the right form there is none."""
        reader = DescriptorReader()
        for line in (
            *descriptor(1, 1000, 3000, 2000),
            *descriptor(2, 1000, 3000, 200),
            *("router x", "bandwidth 1 2 3", "router y", f"fingerprint {fingerprint(3)[:30]}", "bandwidth 1 2 3"),
            *("router z", "fingerprint " + "AAAA " * 9 + "AAAA", "bandwidth 1 2"),
        ):
            reader.line(line)
        self.assertEqual(reader.advertised, {fingerprint(1): 1000, fingerprint(2): 200})

    @given(st.lists(st.text(max_size=60) | st.sampled_from([*status(1, 5), *descriptor(1, 1, 2, 3)])))
    def test_anything(self, lines: list[str]) -> None:
        """No line makes the readers raise."""
        descriptors = DescriptorReader()
        for line in lines:
            descriptors.line(line)
        rank("fastratio", read(lines), descriptors.advertised)

    def test_states_of_guards(self) -> None:
        """GETINFO entry-guards on one line, on several, and nonsense."""
        lines = [f"${fingerprint(1)}~a up", f"${fingerprint(2)}~b down 2026-11-23 12:18:08", "x", "$1 up"]
        self.assertEqual(
            guard_states("entry-guards=\n" + "\n".join(lines)), {fingerprint(1): "up", fingerprint(2): "down"}
        )
        self.assertEqual(guard_states(f"entry-guards={lines[0]}"), {fingerprint(1): "up"})
        self.assertEqual(guard_states("entry-guards="), {})


class Ranking(SynchronousTestCase):
    """The four orders."""

    def order(self, order: str, guards: list[RouterStatus], advertised: dict[str, int] | None = None) -> list[int]:
        return [int(guard.fingerprint, 16) for guard in rank(order, guards, advertised)]

    def test_orders(self) -> None:
        """By the weight, and by the weight in proportion to what is advertised."""
        guards = [relay(fingerprint(n), f"relay{n}", weight) for n, weight in ((1, 300), (2, 100), (3, 200))]
        advertised = {fingerprint(1): 600_000, fingerprint(2): 50_000, fingerprint(3): 200_000}
        self.assertEqual(
            [self.order(order, guards, advertised) for order in GUARD_ORDERS],
            [[1, 3, 2], [2, 3, 1], [2, 3, 1], [1, 3, 2]],
        )

    def test_left_out(self) -> None:
        """Relays that are not used, not measured, or of which it is not known what they advertise."""
        guards = [
            relay(fingerprint(1), "a", 0),
            relay(fingerprint(2), "b", 20, measured=False),
            relay(fingerprint(3), "c", 200),
            relay(fingerprint(4), "d", 100),
        ]
        self.assertEqual(self.order("slow", guards), [4, 3])
        self.assertEqual(self.order("slowratio", guards, {fingerprint(3): 5, fingerprint(4): 0}), [3])
        self.assertEqual(self.order("fastratio", guards), [])

    def test_network_without_bandwidth_authorities(self) -> None:
        """If nobody was measured, all are taken, as on a private network."""
        guards = [relay(fingerprint(n), "a", 20, measured=False) for n in (2, 1)]
        self.assertEqual(self.order("fast", guards), [1, 2])

    def test_no_order(self) -> None:
        """Another word is a mistake of the caller."""
        with self.assertRaises(ValueError):
            rank("fastest", [])


class Policies(SynchronousTestCase):
    """What the configuration says."""

    def test_modes(self) -> None:
        """The words, and fingerprints in all their forms, each once."""
        for mode in ("default", "none", *GUARD_ORDERS):
            self.assertEqual(GuardPolicy.parse(f" {mode} "), GuardPolicy(mode))
            self.assertEqual(str(GuardPolicy.parse(mode)), mode)
        policy = GuardPolicy.parse(f"${'ab' * 20}, {'AB' * 20} ,{'c' * 40}~nick")
        self.assertEqual(policy, GuardPolicy("fixed", ("AB" * 20, "C" * 40)))
        self.assertEqual(GuardPolicy.parse(str(policy)), policy)

    def test_mistakes(self) -> None:
        """Anything else is refused with a message that names what there is."""
        for text in ("", ",", "fastest", "ABCD", f"{'A' * 40},x", f"{'A' * 40} {'B' * 40}"):
            with self.assertRaises(ValueError) as caught:
                GuardPolicy.parse(text)
            self.assertIn("fastratio", str(caught.exception))


class FakeTransport:
    """What Guards uses of a transport."""

    def __init__(self) -> None:
        self.bufferSize = 65536
        self.closed = False

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress(b"/tor/control")

    def abortConnection(self) -> None:
        self.closed = True


class FakeTor:
    """A tor as Guards sees it: over its control connection and over one more."""

    def __init__(self) -> None:
        self.password_function = None
        self.transport = FakeTransport()
        self.commands: list[str] = []
        self.refused: dict[str, Exception] = {}
        self.listeners: dict[str, Callable[[str], None]] = {}
        self.info = {
            "consensus/valid-after": "2026-11-23 12:00:00",
            "network-liveness": "up",
            "entry-guards": "",
            "circuit-status": "",
            "stream-status": "",
        }
        self.options = {
            "UseEntryGuards": "UseEntryGuards=1",
            "EntryNodes": "EntryNodes=",
            "NumEntryGuards": "NumEntryGuards=0",
            "FetchUselessDescriptors": "FetchUselessDescriptors=0",
            "ConfluxEnabled": "ConfluxEnabled=auto",
        }
        self.consensus = [line for number in range(1, 9) for line in status(number, 100 * number)]
        self.descriptors: list[str] = []

    def queue_command(self, command: str) -> Deferred:
        for word, error in self.refused.items():
            if word in command:
                return fail(error)
        self.commands.append(command)
        return succeed("OK")

    def add_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred:
        self.listeners[keyword] = listener
        return succeed(None)

    def get_conf_raw(self, name: str) -> Deferred:
        if name not in self.options:
            return fail(TorProtocolError(552, f'Unrecognized configuration key "{name}"'))
        return succeed(self.options[name])

    def get_info_raw(self, key: str) -> Deferred:
        return succeed(f"{key}={self.info[key]}")

    def get_info_single(self, key: str) -> Deferred:
        return succeed(self.info[key])

    def get_info_incremental(self, key: str, line: Callable[[str], None]) -> Deferred:
        for each in {"ns/all": self.consensus, "desc/all-recent": self.descriptors}[key]:
            line(each)
        return succeed("")

    def entry_nodes(self) -> list[set[int]]:
        """What EntryNodes was set to, one after the other."""
        nodes = [word for command in self.commands for word in command.split() if word.startswith("EntryNodes=")]
        return [{int(name[1:], 16) for name in word.partition("=")[2].split(",")} for word in nodes]


class Keeping(SynchronousTestCase):
    """``Guards`` with a tor."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.clock = Clock(wall=lambda: 0.0, monotonic=self.reactor.seconds)
        self.turn = DeferredLock()
        self.tor = FakeTor()
        self.sides: list[tuple[Any, str | None]] = []

        async def open_side(_reactor: object, endpoint: Any, password: str | None = None) -> FakeTor:
            self.sides.append((endpoint, password))
            return self.tor

        self.patch(control, "open_control", open_side)

    def start(self, policy: str, drop_every: float | None = None, restore: bool = False) -> Guards:
        guards = Guards(
            self.reactor,
            GuardPolicy.parse(policy),
            tor="default",
            clock=self.clock,
            turn=self.turn,
            drop_every=drop_every,
            restore=restore,
        )
        self.connect(guards)
        self.addCleanup(guards.disconnected)
        return guards

    def connect(self, guards: Guards) -> None:
        self.successResultOf(Deferred.fromCoroutine(guards.connected(self.tor)))
        self.have_circuits()

    def have_circuits(self) -> None:
        """The time that tor has for new circuits after a change is over, if there was one."""
        for _ in range(2 * int(NEW_CIRCUITS_TIME)):
            if self.turn.locked:
                self.reactor.advance(1.0)

    def consensus_arrived(self, valid_after: str) -> None:
        self.tor.info["consensus/valid-after"] = valid_after
        self.tor.listeners["STATUS_CLIENT"]("NOTICE CONSENSUS_ARRIVED")
        self.have_circuits()

    def goes_down(self, *numbers: int) -> None:
        for number in numbers:
            self.tor.listeners["GUARD"](f"ENTRY ${fingerprint(number)}~relay DOWN")
        self.tor.info["entry-guards"] = "\n".join(f"${fingerprint(number)}~relay down" for number in numbers)

    def test_default(self) -> None:
        """Tor's own guards are left alone."""
        self.assertIsNone(self.start("default").not_ready)
        self.assertEqual(self.tor.commands, [])

    def test_none(self) -> None:
        """No entry guards, and what would forbid that is taken away."""
        self.assertIsNone(self.start("none").not_ready)
        self.assertEqual(self.tor.commands, ["SETCONF UseEntryGuards=0 EntryNodes NumEntryGuards"])

    def test_fixed(self) -> None:
        """The given ones, all of them used, before tor counts as ready; whatever the network does."""
        guards = self.start(f"{fingerprint(1)},{fingerprint(2)}")
        self.assertIsNone(guards.not_ready)
        self.assertEqual(
            self.tor.commands,
            [f"SETCONF UseEntryGuards=1 EntryNodes=${fingerprint(1)},${fingerprint(2)} NumEntryGuards=2"],
        )
        self.assertEqual(self.tor.listeners, {})

    def test_refused(self) -> None:
        """If tor refuses, no measurement runs with other guards, and the reason says why."""
        self.tor.refused["SETCONF"] = TorProtocolError(513, "You cannot set both UseBridges and EntryNodes.\nOK")
        guards = self.start(fingerprint(1))
        self.assertIn("You cannot set both UseBridges and EntryNodes", guards.not_ready)
        self.assertIn(f"guards = {fingerprint(1)}", guards.not_ready)
        self.tor.refused.clear()
        guards.disconnected()
        self.connect(guards)
        self.assertIsNone(guards.not_ready)

    def test_fast(self) -> None:
        """The three first ones, over a connection of its own that is read in small pieces and closed."""
        guards = self.start("fast")
        self.assertIsNone(guards.not_ready)
        self.assertEqual(self.tor.entry_nodes(), [{8, 7, 6}])
        self.assertIn("NumEntryGuards=3", self.tor.commands[0])
        self.assertEqual(guards.choice.valid_after, "2026-11-23 12:00:00")
        self.assertEqual((self.tor.transport.bufferSize, self.tor.transport.closed), (READ_SIZE, True))
        self.assertEqual(self.sides[0][0]._path, "/tor/control")

    def test_addresses_of_tor(self) -> None:
        """The other connection goes where the first one goes, with the same password."""
        self.tor.password_function = lambda: "secret"
        for peer in (IPv4Address("TCP", "127.0.0.1", 9051), IPv6Address("TCP", "::1", 9051)):
            self.tor.transport.getPeer = lambda peer=peer: peer
            self.start("fast")
            endpoint, password = self.sides[-1]
            self.assertEqual((endpoint._host, endpoint._port, password), (peer.host, 9051, "secret"))

    def test_slow(self) -> None:
        """The three last ones."""
        self.start("slow")
        self.assertEqual(self.tor.entry_nodes(), [{1, 2, 3}])

    def test_not_ready_without_a_consensus(self) -> None:
        """Until there is one to choose from, no measurement runs with other guards."""
        self.tor.info["consensus/valid-after"] = ""
        guards = self.start("fast")
        self.assertIn("not chosen yet", guards.not_ready)
        self.tor.consensus, consensus = [], self.tor.consensus
        self.consensus_arrived("2026-11-23 13:00:00")
        self.assertIn("not chosen yet", guards.not_ready)  # a network that is just beginning
        self.tor.consensus = consensus
        self.consensus_arrived("2026-11-23 14:00:00")
        self.assertIsNone(guards.not_ready)

    def test_renewed_with_the_consensus(self) -> None:
        """Each new consensus is read; tor is told only if the guards are others, since that closes its circuits."""
        guards = self.start("fast")
        self.consensus_arrived("2026-11-23 12:00:00")
        self.assertEqual(len(self.sides), 1)
        self.consensus_arrived("2026-11-23 13:00:00")
        self.assertEqual((len(self.sides), len(self.tor.commands)), (2, 1))
        self.assertEqual(guards.choice.valid_after, "2026-11-23 13:00:00")
        self.tor.consensus += status(9, 10_000)
        self.consensus_arrived("2026-11-23 14:00:00")
        self.assertEqual(self.tor.entry_nodes()[1:], [{9, 8, 7}])

    def test_measurement_first(self) -> None:
        """While a measurement has its turn nothing is read and nothing is changed."""
        self.successResultOf(self.turn.acquire())
        self.start("fast")
        self.assertEqual((self.sides, self.tor.commands), ([], []))
        self.turn.release()
        self.assertEqual(self.tor.entry_nodes(), [{8, 7, 6}])
        self.assertTrue(self.turn.locked)  # until there are circuits again
        self.have_circuits()
        self.assertFalse(self.turn.locked)

    def test_ratio(self) -> None:
        """The descriptors are asked for, and awaited."""
        guards = self.start("fastratio")
        self.assertEqual(self.tor.commands, ["SETCONF FetchUselessDescriptors=1"])
        self.assertIsNotNone(guards.not_ready)
        for number in range(1, 9):
            self.tor.descriptors += descriptor(number, 10**9, 10**9, 1000 if number < 4 else 10**8)
        self.reactor.advance(DESCRIPTOR_PAUSE)
        self.assertEqual(self.tor.entry_nodes(), [{3, 2, 1}])
        self.have_circuits()
        self.assertEqual((guards.choice.order, guards.not_ready), ("fastratio", None))

    def test_ratio_without_descriptors(self) -> None:
        """If they never come it is the order without a ratio, and said so."""
        self.tor.refused["FetchUseless"] = TorProtocolError(552, "Unrecognized option")
        guards = self.start("slowratio")
        self.consensus_arrived("2026-11-23 13:00:00")
        self.reactor.pump([DESCRIPTOR_PAUSE] * 100)
        self.assertEqual(self.tor.entry_nodes(), [])
        self.assertLess(len(self.sides), 15)
        self.reactor.advance(DESCRIPTOR_PATIENCE)
        self.assertEqual(self.tor.entry_nodes(), [{1, 2, 3}])
        self.have_circuits()
        self.assertEqual(guards.choice.order, "slow")

    def test_guard_down(self) -> None:
        """A guard that stays down is replaced by the next one, until the next consensus."""
        guards = self.start("fast")
        self.goes_down(7)
        self.reactor.advance(SETTLE / 2)
        self.assertEqual(len(self.tor.entry_nodes()), 1)
        self.reactor.advance(SETTLE / 2)
        self.assertEqual(self.tor.entry_nodes()[1:], [{8, 6, 5}])
        self.goes_down(7, 8)
        self.reactor.advance(SETTLE)
        self.assertEqual(self.tor.entry_nodes()[2:], [{6, 5, 4}])
        self.consensus_arrived("2026-11-23 13:00:00")
        self.assertEqual(self.tor.entry_nodes()[3:], [{8, 7, 6}])
        self.assertEqual(guards.choice.fingerprints, (fingerprint(8), fingerprint(7), fingerprint(6)))

    def test_guard_up_again(self) -> None:
        """One that comes back soon is not replaced: a change of the guards itself makes them go down."""
        self.start("fast")
        self.goes_down(7)
        self.tor.info["entry-guards"] = f"${fingerprint(7)}~relay up"
        self.reactor.advance(SETTLE)
        self.assertEqual(len(self.tor.entry_nodes()), 1)

    def test_other_guard_events(self) -> None:
        """Guards that are not ours, other states and nonsense are nothing to act on."""
        self.start("fast")
        for text in (f"ENTRY ${fingerprint(1)}~x DOWN", f"ENTRY ${fingerprint(8)}~x UP", "nonsense", ""):
            self.tor.listeners["GUARD"](text)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_network_down(self) -> None:
        """If the network is down, it is not the guards' fault."""
        self.start("fast")
        self.tor.info["network-liveness"] = "down"
        self.goes_down(6, 7, 8)
        self.reactor.advance(SETTLE)
        self.assertEqual(len(self.tor.entry_nodes()), 1)
        self.tor.info["network-liveness"] = "up"
        self.reactor.advance(NETWORK_DOWN_PAUSE)
        self.assertEqual(self.tor.entry_nodes()[1:], [{5, 4, 3}])

    def test_all_down(self) -> None:
        """When no other guard is left, those that there are stay."""
        self.tor.consensus = [*status(1, 100), *status(2, 200)]
        self.start("fast")
        self.goes_down(1, 2)
        self.reactor.advance(SETTLE)
        self.assertEqual(self.tor.entry_nodes(), [{1, 2}])

    def test_drop(self) -> None:
        """Guards and build times are dropped every so often, in the tor's turn, and circuits are renewed."""
        self.start("default", drop_every=3600.0)
        self.reactor.advance(3599.0)
        self.assertEqual(self.tor.commands, [])
        self.successResultOf(self.turn.acquire())
        self.reactor.advance(1.0)
        self.assertEqual(self.tor.commands, [])
        self.turn.release()
        self.assertEqual(self.tor.commands, ["DROPGUARDS", "DROPTIMEOUTS", "SIGNAL NEWNYM"])
        self.reactor.advance(3600.0)
        self.assertEqual(self.tor.commands.count("DROPGUARDS"), 2)

    def test_drop_closes_what_is_ready(self) -> None:
        """The circuits that are ready begin with the old guards; those of services and of others are left alone."""
        relay = f"${fingerprint(1)}"
        circuits = {
            1: "PURPOSE=GENERAL",
            2: "PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB",
            3: "PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB",
            4: "PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=CD",
            5: "PURPOSE=HS_VANGUARDS",
            6: "PURPOSE=HS_SERVICE_INTRO",
            7: "PURPOSE=HS_SERVICE_REND",
            8: "PURPOSE=CONTROLLER",
            9: "PURPOSE=GENERAL",  # has a stream
            10: "PURPOSE=CONFLUX_LINKED CONFLUX_ID=EF",  # has a stream
            11: "PURPOSE=CONFLUX_LINKED CONFLUX_ID=EF",
        }
        lines = [f"{circ_id} BUILT {relay} {more}" for circ_id, more in circuits.items()]
        self.tor.info["circuit-status"] = "\n" + "\n".join([*lines, "nonsense", "12 LAUNCHED PURPOSE=GENERAL"])
        self.tor.info["stream-status"] = "\n20 SUCCEEDED 9 10.0.0.1:80\n21 SUCCEEDED 10 10.0.0.1:80\nnonsense"
        self.tor.refused["CLOSECIRCUIT 3"] = TorProtocolError(552, 'Unknown circuit "3"')
        self.start("default", drop_every=60.0)
        self.reactor.advance(60.0)
        closed = [f"CLOSECIRCUIT {circ_id}" for circ_id in (1, 2, 4, 5, 12)]
        self.assertEqual(self.tor.commands, ["DROPGUARDS", *closed, "DROPTIMEOUTS", "SIGNAL NEWNYM"])

    def test_drop_without_droptimeouts(self) -> None:
        """A tor that has no DROPTIMEOUTS drops its guards all the same."""
        self.tor.refused["DROPTIMEOUTS"] = TorProtocolError(510, 'Unrecognized command "DROPTIMEOUTS"')
        self.start("default", drop_every=60.0)
        self.reactor.pump([60.0, 60.0])
        self.assertEqual(self.tor.commands, ["DROPGUARDS", "SIGNAL NEWNYM"] * 2)

    def test_drop_over_reconnections(self) -> None:
        """The period goes on over lost connections; what was due meanwhile is done once."""
        guards = self.start("default", drop_every=3600.0)
        self.reactor.advance(3000.0)
        guards.disconnected()
        self.connect(guards)
        self.reactor.advance(600.0)
        self.assertEqual(self.tor.commands.count("DROPGUARDS"), 1)
        guards.disconnected()
        self.reactor.advance(10_000.0)
        self.connect(guards)
        self.reactor.advance(0.0)
        self.assertEqual(self.tor.commands.count("DROPGUARDS"), 2)
        self.reactor.advance(600.0)
        self.assertEqual(self.tor.commands.count("DROPGUARDS"), 2)

    def test_errors_cost_one_try(self) -> None:
        """A connection that cannot be made, or is lost, ends nothing but the try; the turn is given back."""
        self.tor.get_info_single = lambda _key: fail(TorDisconnectError("lost", None))
        guards = self.start("fast")
        self.assertFalse(self.turn.locked)
        del self.tor.get_info_single

        async def refuse(*_: object) -> None:
            raise ControlError("no")

        self.patch(control, "open_control", refuse)
        self.consensus_arrived("2026-11-23 13:00:00")
        self.assertEqual((guards.choice, self.turn.locked), (None, False))

    def test_disconnected(self) -> None:
        """Nothing goes on after the connection is lost, and another tor process is set up anew."""
        guards = self.start("fast", drop_every=10.0)
        self.goes_down(7)
        guards.disconnected()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIsNotNone(guards.not_ready)
        self.connect(guards)
        self.assertEqual(len(self.tor.entry_nodes()), 2)

    def test_disconnected_while_waiting_for_the_turn(self) -> None:
        """Then the turn is not taken later."""
        self.successResultOf(self.turn.acquire())
        guards = self.start("fast")
        guards.disconnected()
        self.turn.release()
        self.assertFalse(self.turn.locked)
        self.assertEqual(self.tor.commands, [])

    def test_disconnected_in_the_middle(self) -> None:
        """The turn is given back when the connection is lost while something is done."""
        self.tor.get_info_single = lambda _key: Deferred()
        guards = self.start("fast")
        self.assertTrue(self.turn.locked)
        guards.disconnected()
        self.assertFalse(self.turn.locked)

    def test_choice_is_a_value(self) -> None:
        """The choice can be shown and compared."""
        self.assertEqual(Choice(("A",), "fast"), Choice(("A",), "fast", None))

    def stop(self, guards: Guards) -> None:
        self.successResultOf(Deferred.fromCoroutine(guards.stop()))

    def test_stop_restores(self) -> None:
        """A tor that is not ours gets back what it had before, even after reconnections."""
        self.tor.options["EntryNodes"] = "EntryNodes={se}, {de}"
        guards = self.start(f"{fingerprint(1)},{fingerprint(2)}", restore=True)
        guards.disconnected()
        self.tor.options["EntryNodes"] = f"EntryNodes=${fingerprint(1)},${fingerprint(2)}"
        self.connect(guards)
        self.stop(guards)
        self.assertEqual(
            self.tor.commands[2:],
            [
                'SETCONF UseEntryGuards=1 EntryNodes="{se}, {de}" NumEntryGuards=0 FetchUselessDescriptors=0 '
                "ConfluxEnabled=auto"
            ],
        )

    def test_stop_restores_what_was_not_set(self) -> None:
        """Options without a value are taken back; those that an older tor has not are not named."""
        del self.tor.options["ConfluxEnabled"]
        guards = self.start("none", restore=True)
        self.stop(guards)
        self.assertEqual(
            self.tor.commands[1:],
            ["SETCONF UseEntryGuards=1 EntryNodes NumEntryGuards=0 FetchUselessDescriptors=0"],
        )

    def test_stop_changes_nothing(self) -> None:
        """A tor of our own, one whose guards were left alone, and one that is not connected."""
        for policy, restore in (("fast", False), ("default", True)):
            guards = self.start(policy, restore=restore)
            before = len(self.tor.commands)
            self.stop(guards)
            self.assertEqual(len(self.tor.commands), before)
        guards = self.start("none", restore=True)
        guards.disconnected()
        before = len(self.tor.commands)
        self.stop(guards)
        self.assertEqual((len(self.tor.commands), self.reactor.getDelayedCalls()), (before, []))

    def test_stop_of_a_tor_that_hangs_or_refuses(self) -> None:
        """Stopping is not held up by it."""
        guards = self.start("none", restore=True)
        self.tor.refused["SETCONF"] = TorProtocolError(553, "no")
        self.stop(guards)
        self.tor.refused.clear()
        guards = self.start("none", restore=True)
        self.tor.queue_command = lambda _command: Deferred()
        stopping = Deferred.fromCoroutine(guards.stop())
        self.assertNoResult(stopping)
        self.reactor.advance(STOP_WAIT)
        self.successResultOf(stopping)

    def test_one_guard_and_conflux(self) -> None:
        """With one guard tor's Conflux is off; it is as before again with more."""
        self.tor.options["ConfluxEnabled"] = "ConfluxEnabled=1"
        self.tor.consensus = [*status(1, 100), *status(2, 200)]
        self.start("fast")
        self.goes_down(1)
        self.reactor.advance(SETTLE)
        self.have_circuits()
        self.consensus_arrived("2026-11-23 13:00:00")
        self.assertEqual(
            [command.partition("NumEntryGuards=")[2] for command in self.tor.commands],
            ["2", "1 ConfluxEnabled=0", "2 ConfluxEnabled=1"],
        )

    def test_one_given_guard(self) -> None:
        """Conflux is off from the beginning, unless tor has none."""
        self.start(fingerprint(1))
        self.assertTrue(self.tor.commands[-1].endswith("NumEntryGuards=1 ConfluxEnabled=0"))
        del self.tor.options["ConfluxEnabled"]
        self.start(fingerprint(1))
        self.assertTrue(self.tor.commands[-1].endswith("NumEntryGuards=1"))
