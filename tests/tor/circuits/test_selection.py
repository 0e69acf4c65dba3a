"""Which relays are meant, and the paths made of them."""

from __future__ import annotations

from random import Random
from unittest import TestCase

from perfd.tor.circuits.path import NoPathError, Wanted, candidates, choose_path
from perfd.tor.circuits.selection import Relay, Selection, ranked
from perfd.tor.events.relays import RouterStatus

UP = frozenset(("Running", "Valid", "Fast"))


def relay(number: int, *flags: str, bandwidth: int = 100, address: str | None = None) -> RouterStatus:
    """A relay that is up, in a /16 of its own unless ``address`` is given."""
    return RouterStatus(
        f"{number:040X}", f"relay{number}", UP | {*flags}, bandwidth, address=address or f"10.{number}.0.1"
    )


def numbers(relays: list[Relay]) -> list[int]:
    return [int(each.status.fingerprint, 16) for each in relays]


class SelectionTests(TestCase):
    """The words of a selection, and what matches it."""

    def setUp(self) -> None:
        flags = {1: ("Guard",), 2: ("Exit",), 3: ("Guard", "Exit"), 4: ()}
        routers = [relay(number, *each, bandwidth=number * 10) for number, each in flags.items()]
        self.relays = ranked(routers, {routers[0].fingerprint: "de", routers[1].fingerprint: "se"})

    def of(self, text: str) -> list[int]:
        return numbers(Selection.parse(text).of(self.relays))

    def test_conditions(self) -> None:
        """Each kind of condition, both kinds of separator, and all conditions of a term."""
        expected = {
            f"${3:040x}, {4:040X}": [3, 4],
            "{DE}\n{se}": [1, 2],
            "{??}": [3, 4],
            "guard": [1, 3],
            "Guard+exit": [3],
            "Guard + {de}, bandwidth:4/4": [1, 4],
            "bandwidth:1/2": [1, 2],
            "bandwidth:2/2": [3, 4],
            "bandwidth:1/1": [1, 2, 3, 4],
        }
        self.assertEqual({text: self.of(text) for text in expected}, expected)

    def test_classes(self) -> None:
        """Classes of bandwidth have nearly the same size, and each relay is in one of them."""
        relays = ranked([relay(number, bandwidth=number % 7) for number in range(1, 24)], {})
        classes = [numbers(Selection.parse(f"bandwidth:{each}/5").of(relays)) for each in range(1, 6)]
        self.assertEqual(sorted(number for each in classes for number in each), [*range(1, 24)])
        self.assertEqual({len(each) for each in classes}, {4, 5})

    def test_round_trip(self) -> None:
        """What is written out means the same."""
        selection = Selection.parse("guard+{DE}, bandwidth:01/4")
        self.assertEqual(str(selection), "Guard+{de}, bandwidth:1/4")
        self.assertEqual(Selection.parse(str(selection)), selection)
        self.assertTrue(selection.asks_countries)
        self.assertFalse(Selection.parse("Guard").asks_countries)

    def test_refused(self) -> None:
        """What is no condition is named."""
        classes = ("bandwidth:0/4", "bandwidth:5/4", "bandwidth:1/101")
        for text in ("", " , ", "Fats", "{deu}", "ABC", "Guard+", *classes):
            with self.subTest(text), self.assertRaises(ValueError):
                Selection.parse(text)
        with self.assertRaisesRegex(ValueError, "'Fats' is no fingerprint"):
            Selection.parse("Guard, Fats")


class PathTests(TestCase):
    """A guard, a middle and an exit."""

    def setUp(self) -> None:
        flags = (("Guard",), ("Guard", "Exit"), (), ("Exit",), ("Exit", "BadExit"))
        self.relays = ranked([relay(number, *each) for number, each in enumerate(flags, 1)], {})

    def test_fit(self) -> None:
        """In each place relays that may be there, none of them twice, whatever the drawing gives."""
        paths = {tuple(numbers(choose_path(self.relays, Wanted(), Random(seed)))) for seed in range(200)}
        for guard, middle, last in paths:
            self.assertIn(guard, (1, 2))
            self.assertIn(middle, (1, 2, 3, 4, 5))
            self.assertIn(last, (2, 4))
            self.assertEqual(len({guard, middle, last}), 3)
        self.assertEqual({path[0] for path in paths}, {1, 2})

    def test_wanted(self) -> None:
        """A relay that is the only one for its place is left to it; the same seed gives the same path."""
        wanted = Wanted(exit=Selection.parse(f"{2:040X}"), middle=Selection.parse(f"{2:040X},{3:040X}"))
        for seed in range(20):
            self.assertEqual(numbers(choose_path(self.relays, wanted, Random(seed))), [1, 3, 2])
        again = [numbers(choose_path(self.relays, Wanted(), Random(7))) for _ in range(2)]
        self.assertEqual(*again)

    def test_weights(self) -> None:
        """The heavier of two is drawn more often, in proportion."""
        routers = [relay(1, "Guard", bandwidth=900), relay(2, "Guard"), relay(3), relay(4, "Exit")]
        wanted = Wanted(middle=Selection.parse(f"{3:040X}"))
        random = Random(1)
        found = [numbers(choose_path(ranked(routers, {}), wanted, random))[0] for _ in range(1000)]
        self.assertAlmostEqual(found.count(1) / 1000, 0.9, delta=0.05)

    def test_networks(self) -> None:
        """No two relays of the same /16, but on a private network."""
        routers = [relay(n, *flags, address="127.0.0.1") for n, flags in ((1, ["Guard"]), (2, []), (3, ["Exit"]))]
        with self.assertRaisesRegex(NoPathError, "too near"):
            choose_path(ranked(routers, {}), Wanted(), Random(1))
        self.assertEqual(numbers(choose_path(ranked(routers, {}), Wanted(), Random(1), apart=False)), [1, 2, 3])

    def test_none(self) -> None:
        """Where nothing fits, the place is named."""
        with self.assertRaisesRegex(NoPathError, "as guard"):
            choose_path(self.relays, Wanted(guard=Selection.parse(f"{3:040X}")), Random(1))
        with self.assertRaisesRegex(NoPathError, "the same"):
            two = Selection.parse(f"{2:040X}")
            choose_path(self.relays, Wanted(guard=two, exit=two), Random(1))
        self.assertEqual(numbers(candidates(self.relays, None, "exit")), [2, 4])
