"""Comparisons in the daemon, over the embedded SOCKS server; and what perfd.conf may say of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from unittest.mock import patch

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as TaskClock
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.comparison.design import DesignError, check_comparison
from perfd.comparison.pilot import Pilot, Values, judged
from perfd.comparison.running import Place
from perfd.comparison.service import ComparisonService, Overlaps
from perfd.config import Config, ConfigError, parse_config
from perfd.daemon.sinks import FanOut, MemorySink
from perfd.preflight import comparison_troubles
from perfd.record import Measurement, Outcome, StoredComparison
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.strategies import typical

COMPARISON = """
[comparison:eager]
arms =
    plain=
    eager=optimistic=yes
experiment = fast
block = 3
pause = 0
margin = 900%
beside = yes
[experiment:probes]
type = rtt
duration = 1 s
size = 1 KiB
interval = 4 s
timeout = 3900 ms
"""
"""What runs beside it takes half of the time."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is stopped at the end."""
    made = TestInstance(tmp_path, SOCKS_CONFIG + COMPARISON)
    yield made
    made.perfd("stop")


def blocks(instance: TestInstance) -> dict[int, Counter[str]]:
    """Of each block, how many runs of each arm came to an end, well or not; the pilot's are below 0."""
    found: dict[int, Counter[str]] = {}
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        for m in reader.measurements(Filter(comparison="eager")):
            if m.outcome in (Outcome.CANCELLED, Outcome.SKIPPED):
                continue
            found.setdefault(int(m.extra["BLOCK"]), Counter())[str(m.extra["ARM"])] += 1
            assert (m.experiment, m.extra["OPTIMISTIC"] if m.extra["ARM"] == "eager" else None) in (
                ("eager", 1),
                ("eager", None),
            )
    return found


def has_overlaps(instance: TestInstance) -> bool:
    """Whether one of them tells that the other experiment ran meanwhile."""
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        return any("probes" in str(m.extra.get("OVERLAP")) for m in reader.measurements(Filter(comparison="eager")))


def test_comparison_of_the_daemon(instance: TestInstance) -> None:
    """After a pilot come whole blocks, with the same seed after a restart; perfd compare tells what they say."""
    assert instance.perfd("compare", "eager").returncode == 1
    instance.start()
    # A machine with nothing else to do makes them all before the first of the other runs.
    wait_for(lambda: len(blocks(instance)) > 12 and has_overlaps(instance), "blocks, and another run beside one")
    assert instance.perfd("stop").returncode == 0
    before = blocks(instance)
    assert set(before) == set(range(-7, len(before) - 7))
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        stored = reader.comparison("eager")
    assert stored is not None
    instance.start()
    wait_for(lambda: len(blocks(instance)) > len(before) + 6, "more blocks")
    instance.perfd("stop")
    after = blocks(instance)
    assert before.items() <= after.items()
    stopped = (max(before), max(after))
    assert all(after[n] == {"plain": 3, "eager": 3} for n in after if n not in stopped)
    with StoreReader(instance.directory / "perfd.sqlite") as reader:
        assert reader.comparison("eager") == stored
    done = instance.perfd("compare", "eager", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["verdict"] == "not slower"
    assert found["design"]["seed"] == stored.seed
    assert found["design"]["critical"] > 2.5
    assert "confidence sequence" in found["design"]["text"]
    assert any("other experiments ran" in each for each in found["warnings"])
    assert "after a pilot of 42 runs, which took" in found["design"]["text"]
    assert found["blocks"] >= len(after) - 9
    assert "the pilot took" in instance.log.read_text()
    assert "find 900 % with a power of 95 %" in instance.log.read_text()


class FakeExperiment:
    """Whose runs take as long as the test says; ``refusal`` is why they would be skipped."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.refusal: str | None = None
        self.made = 0
        self.fails = False
        self._seconds = seconds

    async def run(self, slot: float | None, record: Callable[[Measurement], None]) -> None:
        self.made += 1
        start = WALL + self.made
        made = attrs.evolve(typical(self.made), start=start, datacomplete=start + self._seconds())
        failed = {"outcome": Outcome.FAILED, "errorcode": "TOR/END/MISC", "datacomplete": None}
        record(attrs.evolve(made, **failed) if self.fails else made)


class SlowExperiment:
    """A comparison's, whose runs take three seconds of the clock."""

    refusal = None

    def __init__(self, name: str, clock: Clock, reactor: TaskClock) -> None:
        self.is_measuring = False
        self._name = name
        self._clock = clock
        self._reactor = reactor
        self._count = 0

    async def run(self, slot: float | None, record: Callable[[Measurement], None]) -> None:
        self._count += 1
        start = self._clock.wall()
        self.is_measuring = True
        await deferLater(self._reactor, 3.0)
        self.is_measuring = False
        end = self._clock.wall()
        record(attrs.evolve(typical(self._count), experiment=self._name, start=start, datacomplete=end, end=end))


class FakeDesigns:
    """What would be in the database."""

    def __init__(self) -> None:
        self.stored: StoredComparison | None = None
        self.blocks: list[tuple[int, int, int]] = []

    async def read(self, name: str) -> tuple[StoredComparison | None, list[tuple[int, int, int]]]:
        return self.stored, self.blocks

    def keep(self, comparison: StoredComparison) -> None:
        self.stored = comparison


class JudgeHere:
    """Judges pilots in this process."""

    async def judged(self, values: Values, effect: float, size: int | None, *, by_block: bool) -> Pilot:
        return judged(values, effect, size, by_block=by_block)


WALL = 1_800_000_000.0


class PilotTests(SynchronousTestCase):
    """A comparison of 5 blocks, whose size the pilot decides, over a tor that is ready when the test says so."""

    def setUp(self) -> None:
        self.reactor = TaskClock()
        chance = Random(1)
        self.experiment = FakeExperiment(lambda: chance.lognormvariate(0, 0.02))
        self.designs = FakeDesigns()
        self.sink = MemorySink()
        (config,) = read("[comparison:c]\narms =\n a=\n b=\nexperiment = fast\nblocks = 5\npause = 1").comparisons
        self.config = config
        self.service = self.start()

    def start(self) -> ComparisonService:
        clock = Clock(wall=lambda: WALL + self.reactor.seconds(), monotonic=self.reactor.seconds)
        place = Place(None, self.config.arms, [self.experiment, self.experiment])
        service = ComparisonService(
            *(self.reactor, clock, self.config, "test", [place], self.sink, self.designs, Overlaps(lambda: ())),
            JudgeHere(),
        )
        self.experiment.refusal = "tor c-1 has not learnt its circuit build timeout yet"
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def numbers(self) -> Counter[int]:
        return Counter(int(m.extra["BLOCK"]) for m in self.sink.measurements)

    def test_whole(self) -> None:
        """Nothing is skipped while the tor is not ready; then come the pilot, its design, and all blocks."""
        self.reactor.pump([1] * 100)
        self.assertEqual(self.experiment.made, 0)
        self.experiment.refusal = None
        self.reactor.pump([1] * 84)
        self.assertEqual(self.numbers(), dict.fromkeys(range(-7, 0), 12))
        assert self.designs.stored is not None
        design = json.loads(self.designs.stored.design)
        self.assertEqual(design["pilot"]["runs"], 84)
        self.assertIn(design["block"], range(4, 13))
        self.assertEqual(design["build timeouts"], "off")
        size = design["block"]
        self.reactor.pump([1] * 500)
        self.assertEqual(self.numbers(), dict.fromkeys(range(-7, 0), 12) | dict.fromkeys(range(5), 2 * size))

    def test_failing_pilot(self) -> None:
        """If nothing works the log says that, and by which error."""
        self.experiment.refusal, self.experiment.fails = None, True
        with capturedLogs() as events:
            self.reactor.pump([1] * 90)
        (told,) = [formatEvent(event) for event in events if "the pilot took" in str(event.get("log_format"))]
        self.assertIn("all runs failed, 36 of a and 36 of b: TOR/END/MISC (72), so blocks have 6 + 6 runs", told)

    def test_long_waiting_is_told(self) -> None:
        """Once after five minutes, and when it goes on; meanwhile that is known with its reason."""
        with capturedLogs() as events:
            self.reactor.pump([1] * 299)
            self.assertIsNone(self.service.hindrance)
            self.reactor.pump([1] * 601)
            self.assertEqual(self.service.hindrance, "tor c-1 has not learnt its circuit build timeout yet")
            self.experiment.refusal = "tor c-1 is not ready"
            self.assertEqual(self.service.hindrance, "tor c-1 is not ready")
            self.experiment.refusal = None
            self.reactor.pump([1] * 10)
        self.assertIsNone(self.service.hindrance)
        self.assertEqual(
            [formatEvent(event) for event in events if "wait" in str(event.get("log_format"))],
            [
                "comparison-c has waited for 5 min, and still does: tor c-1 has not learnt its circuit build "
                "timeout yet",
                "comparison-c goes on after 15 min",
            ],
        )

    def test_long_launch_is_told(self) -> None:
        """So is that of a tor that does not become ready as one of an arm."""
        self.service.stopService()
        with patch.object(Place, "become", lambda *_: Deferred()), capturedLogs() as events:
            service = self.start()
            self.reactor.pump([1] * 301)
            self.assertIsNotNone(service.hindrance)
            service.stopService()
        self.assertIsNone(service.hindrance)
        told = [formatEvent(event) for event in events if "wait" in str(event.get("log_format"))]
        self.assertEqual(len(told), 1)

    def test_interrupted_blocks_are_made_up_for(self) -> None:
        """After a restart there are as many whole blocks as were planned, and there is no other pilot."""
        self.experiment.refusal = None
        self.reactor.pump([1] * 84)
        size = json.loads(self.designs.stored.design)["block"]  # type: ignore[union-attr]
        self.service.stopService()
        self.sink.measurements.clear()
        self.designs.blocks = [(-1, 12, 0), (0, 2 * size, 0), (1, 2 * size, 1), (2, 2, 0)]
        self.start()
        self.experiment.refusal = None
        self.reactor.pump([1] * 500)
        self.assertEqual(self.numbers(), dict.fromkeys(range(3, 7), 2 * size))


class OfTwoTests(SynchronousTestCase):
    """Two comparisons, whose runs take three seconds."""

    def make(self, options: str) -> tuple[TaskClock, MemorySink, list[SlowExperiment]]:
        reactor, sink = TaskClock(), MemorySink()
        self.overlaps = overlaps = Overlaps(lambda: ())
        clock = Clock(wall=lambda: WALL + reactor.seconds(), monotonic=reactor.seconds)
        made = []
        for name in ("c", "d"):
            text = f"[comparison:{name}]\narms =\n a=\n b=\nexperiment = fast\npause = 1\n{options}"
            (config,) = read(text).comparisons
            experiment = SlowExperiment(name, clock, reactor)
            made.append(experiment)
            place = Place(None, config.arms, [experiment, experiment])
            sinks = FanOut({"one": sink, "overlaps": overlaps})
            service = ComparisonService(
                reactor, clock, config, "test", [place], sinks, FakeDesigns(), overlaps, JudgeHere()
            )
            service.startService()
            self.addCleanup(service.stopService)
        return reactor, sink, made

    def test_waiting_for_others_is_not_told(self) -> None:
        """It is as it should be, however long it takes."""
        with capturedLogs() as events:
            reactor, *_ = self.make("")
            with self.overlaps.measuring("long"):
                reactor.pump([1] * 1000)
        self.assertFalse([event for event in events if "wait" in str(event.get("log_format"))])

    def test_one_waits_for_the_other(self) -> None:
        """They do not measure at the same time, and both come on."""
        reactor, sink, made = self.make("")
        for _ in range(200):
            reactor.advance(0.5)
            self.assertLessEqual(sum(each.is_measuring for each in made), 1)
        self.assertEqual({m.extra["COMPARISON"] for m in sink.measurements}, {"c", "d"})
        self.assertFalse(any("OVERLAP" in m.extra for m in sink.measurements))

    def test_beside_each_other(self) -> None:
        """If they are told to, each says that the other ran, also the one that ended first."""
        reactor, sink, _ = self.make("beside = yes")
        reactor.pump([0.5] * 40)
        self.assertGreater(len(sink.measurements), 4)
        for m in sink.measurements:
            self.assertEqual(m.extra.get("OVERLAP"), "d" if m.extra["COMPARISON"] == "c" else "c")


@pytest.mark.long
def test_another_design(instance: TestInstance) -> None:
    """What was begun with another design is not gone on with: that is in the log."""
    instance.start()
    wait_for(lambda: max(blocks(instance), default=-1) >= 0, "a block")
    instance.perfd("stop")
    count = sum(sum(each.values()) for each in blocks(instance).values())
    instance.configure(SOCKS_CONFIG + COMPARISON.replace("block = 3", "block = 4"))
    instance.start()
    wait_for(lambda: "another design" in instance.log.read_text(), "the message")
    instance.perfd("stop")
    assert sum(sum(each.values()) for each in blocks(instance).values()) == count


def read(text: str) -> Config:
    return parse_config("[experiment:fast]\nsize = 50 KiB\n" + text, Path("perfd.conf"))


def test_config() -> None:
    """Both arms have an experiment, over four tors that are launched like the experiment's own."""
    config = read(
        "[tor]\ntorrc = NumCPUs 1\n[comparison:c]\narms =\n  a=\n  b=ConfluxEnabled 0\nexperiment = fast\n"
    )
    (comparison,) = config.comparisons
    assert comparison.tors == ("c-1", "c-2", "c-3", "c-4")
    assert [each.name for each in comparison.experiments] == ["c", "c"]
    assert comparison.experiments[0].tors == comparison.tors
    torrc = next(tor.torrc for tor in config.tors if tor.name == "c-3")
    assert torrc.splitlines() == ["NumCPUs 1", "LearnCircuitBuildTimeout 0"]
    assert [arm.torrc for arm in comparison.arms] == [(), ("ConfluxEnabled 0",)]
    check_comparison(comparison, torrc.splitlines())
    assert comparison.margin == 0.03


def test_build_timeouts() -> None:
    """On the public network runs wait until they are learnt, unless no tor learns them."""
    text = (
        "[perfd]\nnetwork = tor\n[server]\nlisten = 0.0.0.0:80\npublic-address = 192.0.2.1:80\n"
        "[tor]\ntorrc = TORRC\n"
        "[experiment:fast]\nsize = 50 KiB\n[comparison:c]\narms =\n  a=\n  b=\nexperiment = fast\n"
    )
    (learning,) = parse_config(text.replace("TORRC", "NumCPUs 1"), Path("perfd.conf")).comparisons
    assert learning.build_timeouts == "learnt"
    assert all(each.skip_until_cbt for each in learning.experiments)
    (other,) = parse_config(text.replace("TORRC", "LearnCircuitBuildTimeout 0"), Path("perfd.conf")).comparisons
    assert other.build_timeouts == "off"
    assert not any(each.skip_until_cbt for each in other.experiments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "arms: needed"),
        ("arms =\n  a=\n", "two arms are compared"),
        ("arms =\n  a=\n  b=\nexperiment = nothing", "no experiment is named 'nothing'"),
        ("arms =\n  a=\n  b=nonsense=1\nexperiment = fast", "nonsense"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nmargin = much", "not a percentage"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nblocs = 3", "did you mean 'blocks'"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nlooks = 21", "looks: must be 1 to 20"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nlooks = 4", "looks: only used with blocks"),
        ("arms =\n  a=\n  b=\nexperiment = fast\nblock = 1", "must be 2 to 100"),
    ],
)
def test_mistakes(options: str, message: str) -> None:
    """Mistakes are told with the section."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(f"[comparison:c]\n{options}\n")
    assert "[comparison:c]" in str(caught.value)


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        ("a=\n  b=EntryNodes {de}", "", "different guards"),
        ("a=\n  b=optimistic=yes", "", "Conflux"),
        ("a=optimistic=no\n  b=ConfluxEnabled 1; optimistic=yes", "", "Conflux"),
        ("a=size=50 KiB\n  b=size=1 MiB", "", "different sizes"),
        ("a=\n  b=type=upload", "", "different types"),
        ("a=server=onion\n  b=", "primary = onion-descriptor", "b does not have"),
        ("a=\n  b=", "blocks = 3", "5 looks"),
        ("a=\n  b=", "primary = load", "pageload only"),
        ("a=\n  b=", "primary = nonsense", "no metric"),
    ],
)
def test_designs_that_cannot_answer(arms: str, options: str, message: str) -> None:
    """They are refused, with the reason."""
    (comparison,) = read(f"[comparison:c]\narms =\n  {arms}\nexperiment = fast\n{options}\n").comparisons
    with pytest.raises(DesignError, match=message):
        check_comparison(comparison, ())


@pytest.mark.parametrize(
    ("tor", "is_refused"),
    [("", True), ("torrc = ConfluxEnabled 0", False), ("control = 127.0.0.1:9051", False)],
)
def test_optimistic_data_over_a_tor_that_is_there(tor: str, is_refused: bool) -> None:
    """It is refused over Conflux circuits; what a tor allows that Perfd does not launch is not known."""
    config = parse_config(
        f"[tor:alpha]\n{tor}\n[experiment:fast]\nsize = 50 KiB\ninterval = 5 min\n"
        "[comparison:c]\narms =\n  x=tor = alpha\n  y=tor = alpha; optimistic = yes\nexperiment = fast\n",
        Path("perfd.conf"),
    )
    assert ("y has optimistic data" in str(comparison_troubles(config))) is is_refused


def test_overlaps() -> None:
    """What measured at the same time is told; the comparison itself, and what came before or after, is not."""
    overlaps = Overlaps(lambda: ())
    for n, name in enumerate(("before", "within", "after", "eager")):
        start = typical(0).start + (n - 1) * 10
        overlaps.record(typical(n, experiment=name, start=start, end=start + 5))
    start = typical(0).start
    overlaps.record(typical(9, experiment="long", start=start - 100, end=start + 100))
    overlaps.record(typical(8, experiment="skipped", start=start, end=None))
    assert overlaps.running("eager") == set()
    with overlaps.measuring("eager"):
        assert overlaps.running("other") == {"eager"}
        assert overlaps.running("eager") == set()
    assert overlaps.running("other") == set()
    assert overlaps.during("eager", start + 1, start + 2) == {"within", "long"}
    assert overlaps.during("eager", start - 5, start) == {"long"}
