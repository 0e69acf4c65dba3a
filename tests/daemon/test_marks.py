"""Notes of what changes: of versions, of perfd.conf and of the consensus; also while Perfd did not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.internet.task import Clock as TaskClock
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.config import Config, parse_config
from perfd.daemon.marks import PAUSE, Marks
from perfd.record import Note
from perfd.store.known import KnownState
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.strategies import typical

CONFIG = """
[perfd]
source = test
network = testnet
[tor:a]
[experiment:one]
size = 50 KiB
interval = 5 min
tor = a
[experiment:two]
size = 1 MiB
tor = a
"""
WALL = 1_800_000_000.0


def read(text: str) -> Config:
    return parse_config(text, Path("perfd.conf"))


class Remembered:
    """What was kept."""

    def __init__(self) -> None:
        self.states: list[KnownState] = []
        self.notes: list[Note] = []
        self.trouble: Exception | None = None

    async def known(self) -> list[KnownState]:
        if self.trouble is not None:
            raise self.trouble
        return await succeed(list(self.states))

    def keep(self, known: KnownState, note: Note | None) -> None:
        self.states.append(known)
        if note is not None:
            self.notes.append(note)


class MarksTests(SynchronousTestCase):
    """One instance, which is started several times."""

    def setUp(self) -> None:
        self.reactor = TaskClock()
        self.memory = Remembered()
        self.marks = self.start(CONFIG)

    def start(self, text: str) -> Marks:
        clock = Clock(wall=lambda: WALL + self.reactor.seconds(), monotonic=self.reactor.seconds)
        marks = Marks(self.reactor, clock, read(text), self.memory)
        marks.startService()
        self.addCleanup(marks.stopService)
        return marks

    def measured(self, n: int, **changes: Any) -> None:
        start = WALL + n
        self.marks.record(attrs.evolve(typical(n), start=start, **changes))

    def told(self) -> list[tuple[str | None, str | None, str]]:
        """Kind, subject and text of the notes."""
        return [(note.kind, note.subject, note.text) for note in self.memory.notes]

    def test_nothing_changed(self) -> None:
        """What is so for the first time is remembered, and no change; nor is the same at the next start."""
        self.measured(1)
        known = len(self.memory.states)
        self.assertGreater(known, 5)
        self.marks = self.start(CONFIG)
        self.measured(2)
        self.assertEqual((self.memory.notes, len(self.memory.states)), ([], known))

    def test_configuration(self) -> None:
        """Each section has a note of its own that names the options; words for people change nothing."""
        text = CONFIG.replace("5 min", "10 min").replace("1 MiB", "2 MiB\ntimeout = 20 s")
        text = text.replace(
            "[tor:a]", "[tor:a]\ntorrc = NumCPUs 1\n[server]\ntitle = another\n[testnet]\ndelay = 5 ms"
        )
        self.reactor.advance(5)
        self.marks.configured(read(text))
        self.assertEqual(
            self.told(),
            [
                ("configuration", "testnet", "[testnet] changed: delay"),
                ("configuration", "tor:a", "[tor:a] changed: torrc"),
                ("configuration", "experiment:one", "[experiment:one] changed: interval, timeout"),
                ("configuration", "experiment:two", "[experiment:two] changed: size, timeout"),
            ],
        )
        self.assertEqual({note.at for note in self.memory.notes}, {WALL + 5})

    def test_network(self) -> None:
        """Links have the names of their options, also those that a preset or a file gave."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        file = (directory / "links.ini").absolute()
        file.write_text("[exit1]\ndelay = 80 ms\n")
        for text in (
            "preset = near",
            "preset = near\nloss = 1 %\njitter = 0 s\nrate = 1 Mbit/s",
            f"preset = near\nloss = 1 %\njitter = 0 s\nrate = 1 Mbit/s\nlinks = netns\nlinks-file = {file}",
        ):
            self.marks.configured(read(f"{CONFIG}[testnet]\n{text}\n"))
        self.assertEqual(
            [text for _, subject, text in self.told() if subject == "testnet"],
            [
                "[testnet] changed: relays, seed, delay, jitter, rate",
                "[testnet] changed: jitter, rate, loss",
                "[testnet] changed: links, links-file",
            ],
        )

    def test_while_it_did_not_run(self) -> None:
        """What was changed between two runs is seen at the second start; back again is a change as well."""
        self.start(CONFIG.replace("50 KiB", "60 KiB"))
        self.start(CONFIG)
        self.assertEqual([text for _, _, text in self.told()], ["[experiment:one] changed: size"] * 2)

    def test_own_options(self) -> None:
        """Those of a kind are named as well, and what was added or removed is no change of what was measured."""
        self.marks.configured(read(CONFIG + "[experiment:three]\ntype = download\nsize = 1 KiB\ntor = a\n"))
        self.assertEqual(self.told(), [])
        self.marks.configured(read(CONFIG.replace("size = 1 MiB", "size = 1 MiB\noptimistic = yes")))
        self.assertEqual(self.told(), [("configuration", "experiment:two", "[experiment:two] changed: optimistic")])

    def test_of_an_older_perfd(self) -> None:
        """Another version of Perfd is noted; the options that it did not have are no change."""
        for n, each in enumerate(self.memory.states):
            if each.kind == "perfd":
                self.memory.states[n] = attrs.evolve(each, state="0.1")
            if each.subject == "experiment:one":
                self.memory.states[n] = attrs.evolve(each, state="{}")
        self.start(CONFIG)
        ((kind, subject, text),) = self.told()
        self.assertEqual((kind, subject), ("perfd", None))
        self.assertRegex(text, r"^Perfd is \S+, and was 0\.1$")

    def test_tor(self) -> None:
        """Tors are told apart; the time is that of the first measurement, and one that began before is none."""
        self.measured(1, tor="a", torversion="0.4.8")
        self.measured(2, tor="b", torversion="0.4.9")
        self.measured(9, tor="a", torversion="0.4.9")
        self.measured(8, tor="a", torversion="0.4.8")
        self.measured(10, tor="a", torversion="0.4.9")
        self.measured(11, tor=None, torversion=None)
        self.assertEqual(self.told(), [("tor", "tor:a", "a is 0.4.9, and was 0.4.8")])
        self.assertEqual(self.memory.notes[0].at, WALL + 9)

    def test_tors_of_a_comparison(self) -> None:
        """Arms with binaries of their own change the version of a tor with each block, which is not noted."""
        for n in range(10):
            self.measured(n, tor="c-1", torversion=f"0.4.{8 + n % 2}", extra={"COMPARISON": "c", "BLOCK": n})
        self.assertEqual(self.memory.notes, [])

    def test_consensus(self) -> None:
        """Its own time is that of the note; a tor that still has the older one changes nothing back."""
        self.measured(1, extra={"CONSENSUS": WALL - 3600, "CONSENSUSPARAMS": "aa"})
        self.measured(2, extra={"CONSENSUS": WALL, "CONSENSUSPARAMS": "bb"})
        self.measured(3, extra={"CONSENSUS": WALL - 3600, "CONSENSUSPARAMS": "aa"})
        self.measured(4, extra={"CONSENSUS": WALL + 3600, "CONSENSUSPARAMS": "bb"})
        self.assertEqual(self.told(), [("consensus", None, "the consensus has other parameters (bb)")])
        self.assertEqual(self.memory.notes[0].at, WALL)

    def test_what_cannot_be_read(self) -> None:
        """It is read again, and what was seen meanwhile is not forgotten."""
        self.measured(1, tor="a", torversion="0.4.8")
        self.memory.trouble = OSError("busy")
        self.marks = self.start(CONFIG)
        self.measured(2, tor="a", torversion="0.4.9")
        self.reactor.advance(PAUSE)
        self.assertEqual(self.told(), [])
        self.memory.trouble = None
        self.reactor.advance(PAUSE)
        self.assertEqual(self.told(), [("tor", "tor:a", "a is 0.4.9, and was 0.4.8")])


class InstanceTests(SynchronousTestCase):
    """A real daemon."""

    def test_reload_and_restart(self) -> None:
        """Both are noted."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        instance = TestInstance(directory, SOCKS_CONFIG)
        instance.start()
        self.addCleanup(instance.perfd, "stop")
        instance.wait_for_measurements(1)
        instance.configure(SOCKS_CONFIG.replace("900 ms", "800 ms"))
        self.assertEqual(instance.perfd("reload").returncode, 0)

        def noted(count: int) -> list[str] | None:
            lines = [line for line in instance.perfd("note", "--list").stdout.splitlines() if "changed" in line]
            return lines if len(lines) == count else None

        wait_for(lambda: noted(1), "the note of the reload")
        self.assertEqual(instance.perfd("stop").returncode, 0)
        instance.configure(SOCKS_CONFIG.replace("900 ms", "700 ms"))
        instance.start()
        lines = wait_for(lambda: noted(2), "the note of the restart")
        for line in lines:
            self.assertIn("[experiment:fast] changed: timeout", line)
