"""Which relays match a selection, and the paths made of them."""

from __future__ import annotations

from random import Random
from unittest import TestCase

import attrs

from perfd.config.relays import RelaysConfig, Selection
from perfd.tor.circuits.path import Known, NoPathError, choose_path, fit_for, place_of
from perfd.tor.circuits.selection import Relay, matching, ranked
from perfd.tor.events.relays import RouterStatus

UP = frozenset(("Running", "Valid", "Fast"))


def relay(number: int, *flags: str, bandwidth: int = 100, address: str | None = None) -> RouterStatus:
    """A relay that is up, in a /16 of its own unless ``address`` is given."""
    return RouterStatus(
        f"{number:040X}", f"relay{number}", UP | {*flags}, bandwidth, address=address or f"10.{number}.0.1"
    )


def wanted(**places: str) -> RelaysConfig:
    return RelaysConfig.of({place: Selection.parse(text) for place, text in places.items()})


def numbers(relays: list[Relay]) -> list[int]:
    return [int(each.fingerprint, 16) for each in relays]


class SelectionTests(TestCase):
    """What matches the words of a selection."""

    def setUp(self) -> None:
        flags = {1: ("Guard",), 2: ("Exit",), 3: ("Guard", "Exit"), 4: ()}
        routers = [relay(number, *each, bandwidth=number * 10) for number, each in flags.items()]
        routers[0] = attrs.evolve(routers[0], country="de")
        routers[1] = attrs.evolve(routers[1], country="se")
        self.relays = ranked(routers)

    def test_conditions(self) -> None:
        """Each kind of condition, its opposite, and all conditions of a term."""
        expected = {
            f"${3:040x}, {4:040X}": [3, 4],
            "~relay2": [2],
            "!~relay2": [1, 3, 4],
            "{DE}\n{se}": [1, 2],
            "{??}": [3, 4],
            "guard": [1, 3],
            "Guard+exit": [3],
            "Guard+!exit": [1],
            "Guard + {de}, @bandwidth:4/4": [1, 4],
            "@bandwidth:1/2": [1, 2],
            "@bandwidth:2/2": [3, 4],
            "@bandwidth:1/1": [1, 2, 3, 4],
        }
        found = {text: numbers(matching(Selection.parse(text), self.relays)) for text in expected}
        self.assertEqual(found, expected)

    def test_classes(self) -> None:
        """Classes of bandwidth have nearly the same size, and each relay is in one of them."""
        relays = ranked([relay(number, bandwidth=number % 7) for number in range(1, 24)])
        parsed = [Selection.parse(f"@bandwidth:{each}/5") for each in range(1, 6)]
        classes = [numbers(matching(each, relays)) for each in parsed]
        self.assertEqual(sorted(number for each in classes for number in each), [*range(1, 24)])
        self.assertEqual({len(each) for each in classes}, {4, 5})


class PathTests(TestCase):
    """One relay for each hop."""

    def setUp(self) -> None:
        flags = (("Guard",), ("Guard", "Exit"), (), ("Exit",), ("Exit", "BadExit"))
        self.known = Known(relays=[relay(number, *each) for number, each in enumerate(flags, 1)])

    def path(self, config: RelaysConfig, seed: int = 1, **changes: object) -> list[int]:
        return numbers(choose_path(attrs.evolve(self.known, **changes), config, Random(seed)))

    def test_fit(self) -> None:
        """In each place relays that may be there, none of them twice, whatever the drawing gives."""
        paths = {tuple(self.path(wanted(), seed)) for seed in range(200)}
        for guard, middle, last in paths:
            self.assertIn(guard, (1, 2))
            self.assertIn(middle, (1, 2, 3, 4, 5))
            self.assertIn(last, (2, 4))
            self.assertEqual(len({guard, middle, last}), 3)
        self.assertEqual({path[0] for path in paths}, {1, 2})

    def test_wanted(self) -> None:
        """A relay that is the only one for its place is left to it; the same seed gives the same path."""
        config = wanted(exit="~relay2", middle="~relay2, ~relay3")
        self.assertEqual({tuple(self.path(config, seed)) for seed in range(20)}, {(1, 3, 2)})
        self.assertEqual(self.path(wanted(), 7), self.path(wanted(), 7))

    def test_named(self) -> None:
        """Who names a relay gets it, whatever its flags; a class has those that are fit."""
        self.assertEqual(self.path(wanted(guard="~relay3", exit="~relay5"))[::2], [3, 5])
        self.assertEqual({self.path(wanted(exit="Exit"), seed)[2] for seed in range(50)}, {2, 4})

    def test_own_guards(self) -> None:
        """Where no guard is wanted, it is the first of tor's own that is no other hop."""
        own = [f"{number:040X}" for number in (2, 1)]
        self.assertEqual({self.path(wanted(exit="~relay4"), seed, guards=own)[0] for seed in range(30)}, {2, 1})
        self.assertEqual(self.path(wanted(exit="~relay4", middle="~relay3"), guards=own), [2, 3, 4])
        self.assertEqual(self.path(wanted(exit="~relay2", middle="~relay3"), guards=own), [1, 3, 2])

    def test_weights(self) -> None:
        """The heavier of two is drawn more often, in proportion."""
        routers = [relay(1, "Guard", bandwidth=900), relay(2, "Guard"), relay(3), relay(4, "Exit")]
        config, random = wanted(middle="~relay3"), Random(1)
        found = [numbers(choose_path(Known(relays=routers), config, random))[0] for _ in range(1000)]
        self.assertAlmostEqual(found.count(1) / 1000, 0.9, delta=0.05)

    def test_networks(self) -> None:
        """No two relays of the same /16, but on a private network."""
        routers = [relay(n, *flags, address="127.0.0.1") for n, flags in ((1, ["Guard"]), (2, []), (3, ["Exit"]))]
        with self.assertRaisesRegex(NoPathError, "in the same /16"):
            self.path(wanted(), relays=routers)
        self.assertEqual(self.path(wanted(), relays=routers, apart=False), [1, 2, 3])

    def test_lengths(self) -> None:
        """A path has as many relays as it says."""
        hops = tuple(Selection.parse(f"~relay{number}") for number in (3, 1, 5, 2))
        self.assertEqual(self.path(RelaysConfig(hops=hops, is_path=True)), [3, 1, 5, 2])

    def test_none(self) -> None:
        """Where nothing fits, the place is named."""
        for config, message in (
            (wanted(guard=f"{9:040X}"), f"fit to be guard, and among {9:040X}"),
            (wanted(exit="Exit+!~relay2+!~relay4"), "fit to be exit, and among"),
            (wanted(guard="~relay2", exit="~relay2"), "the same"),
        ):
            with self.assertRaisesRegex(NoPathError, message):
                self.path(config)
        with self.assertRaisesRegex(NoPathError, "fit to be exit$"):
            self.path(wanted(), barred=frozenset(f"{number:040X}" for number in (2, 4)))

    def test_sorted_out_once(self) -> None:
        """Relays are sorted out once for a consensus, whatever is barred; who is, is not drawn."""
        found = self.known.candidates("exit", None)
        self.assertIs(self.known.candidates("exit", None), found)
        barred = attrs.evolve(self.known, barred=found.fingerprints)
        self.assertIs(barred.candidates("exit", None), found)
        with self.assertRaisesRegex(NoPathError, "fit to be exit"):
            choose_path(barred, RelaysConfig.of({}), Random(1))
        (last, *_) = found.relays
        one_left = attrs.evolve(self.known, barred=found.fingerprints - {last.fingerprint})
        for seed in range(20):
            path = choose_path(one_left, RelaysConfig.of({}), Random(seed))
            self.assertEqual(path[-1].fingerprint, last.fingerprint)

    def test_thousands_by_name(self) -> None:
        """A list of fingerprints is a list, however long."""
        names = [f"{number:040X}" for number in range(5000, 9000)]
        mine = self.known.relays[0].fingerprint
        selection = Selection.parse("\n".join([*names, mine]))
        (found,) = self.known.candidates("middle", selection).relays
        self.assertEqual(found.fingerprint, mine)

    def test_places(self) -> None:
        """Where a relay is measured that may be anywhere."""
        self.assertEqual(
            [place_of(each) for each in self.known.relays], ["guard", "exit", "middle", "exit", "middle"]
        )
        self.assertEqual(place_of(self.known.relays[1], frozenset((f"{2:040X}",))), "guard")
        named = fit_for("exit", self.known.relays, Selection.parse("~relay3"))
        self.assertEqual([each.nickname for each in named], ["relay2", "relay3", "relay4"])
