"""Experiments in memory: turn and refusals, pairs, parallel streams, series, the direct way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock, Phase, Timeline
from perfd.experiments.parallel import combined, jain, shares
from perfd.experiments.run import Alternative, TorExperiment
from perfd.experiments.series import allocation
from perfd.experiments.ways import NoTor
from perfd.record import Attach, Error, Measurement, Outcome
from perfd.socks.errors import ConnectionLostEarly
from perfd.tor.events.join import Joined
from tests.support.experiments import SIZE, ExperimentCase
from tests.support.scripted import WALL, Bench


class TurnTests(ExperimentCase):
    """``TorExperiment``: whatever happens, there is a record, and the tor is given back."""

    def experiment(self, options: str = "", **changes: Any) -> Any:
        return self.bench.experiment(SIZE + options, **changes)

    def test_a_run(self) -> None:
        """A record of all that is known of the run."""
        running = self.bench.run(self.experiment(), slot=5.0)
        self.reactor.advance(1.0)
        self.download(0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.start, m.datacomplete), (Outcome.OK, WALL, WALL + 1.0))
        self.assertEqual(
            (m.slot, m.experiment, m.payloadbytes, dict(m.extra)), (5.0, "x", 1000, {"STAMPS": "user"})
        )
        self.assertEqual(m.endpointlocal, "localhost:127.0.0.1:40000")
        self.assertEqual(m.endpointproxy, "localhost:127.0.0.1:9050")
        self.assertEqual([self.connections[0].measurement, self.connections[0].token], [m.id] * 2)
        self.assertEqual(len(self.bench.stamps), 0)

    def test_held_up(self) -> None:
        """A record says for how long the reactor was held up during its run."""
        self.bench.hold_ups.moments = [0.5, 0.7, 5.0]
        running = self.bench.run(self.experiment(), slot=5.0)
        self.reactor.advance(1.0)
        self.download(0)
        self.assertEqual(dict(self.result(running).extra), {"HELDUP": 2.0, "STAMPS": "user"})

    def test_refusals(self) -> None:
        """Nothing is run while tor or the way to the server is not ready, or tor is still learning."""
        for place, value, options, code in (
            (self.tor, "bootstrapping: 5 %", "", Error.NOTREADY),
            (self.bench.server, "the descriptor is not published", "", Error.NOTREADY),
        ):
            place.not_ready = value
            m = self.result(self.bench.run(self.experiment(options), slot=5.0))
            self.assertEqual((m.outcome, m.errorcode, m.reason, m.start), (Outcome.SKIPPED, code, value, 5.0))
            place.not_ready = None
        self.tor.events.cbt_set = False
        m = self.result(self.bench.run(self.experiment(skip_until_cbt=True)))
        self.assertEqual((m.outcome, m.errorcode), (Outcome.SKIPPED, Error.NOCBT))
        self.assertEqual(self.connections, [])

    def test_cancelled_before_its_turn(self) -> None:
        """A run that waits for the tor is cancelled, and the next one gets it."""
        experiment = self.experiment()
        first, second, third = [self.bench.run(experiment) for _ in range(3)]
        second.cancel()
        m = self.successResultOf(second)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertEqual(len(self.connections), 1)
        self.download(0)
        self.successResultOf(first)
        self.download(1)
        self.assertEqual(self.result(third).outcome, Outcome.OK)

    def test_cancelled(self) -> None:
        """A run under way ends at once, keeps what it has, and does not wait for tor's last words."""
        running = self.bench.run(self.experiment())
        self.connections[0].open()
        running.cancel()
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertEqual(m.datarequest, WALL)
        self.assertEqual(self.tor.events.waits, [0])
        self.assertTrue(self.connections[0].transport.aborted)

    def test_internal_error(self) -> None:
        """An error of Perfd itself goes to the schedule, which makes the record; the tor is free."""

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("oh")

        experiment = TorExperiment(self.bench.setup(), [Alternative(broken)])
        self.failureResultOf(self.bench.run(experiment), ZeroDivisionError)
        self.assertFalse(self.tor.turn.locked)

    def test_fresh_descriptor(self) -> None:
        """Whether tor forgot the descriptors is in the record; the wait for that can be cancelled."""
        experiment = self.experiment(fresh_descriptor=True)
        for forgot in (True, False):
            self.tor.events.forgetting = Deferred()
            running = self.bench.run(experiment)
            self.assertEqual(len(self.connections), 0)
            self.tor.events.forgetting.callback(forgot)
            self.download(-1)
            self.assertEqual(self.result(running).extra, {"FRESHDESCRIPTOR": int(forgot), "STAMPS": "user"})
            self.connections.clear()
        self.tor.events.forgetting = Deferred()
        running = self.bench.run(experiment)
        running.cancel()
        self.assertEqual(self.result(running).outcome, Outcome.CANCELLED)

    def test_tor_knows_better(self) -> None:
        """Where we only see that the connection ended, tor's reason is the error code, strict or optimistic."""
        for options in ("", "optimistic = yes"):
            running = self.bench.run(self.experiment(options))
            connection = self.connections[-1]
            connection.open()
            self.tor.events.tell(connection.measurement, failure_local="END", failure_remote="MISC")
            connection.lose(ConnectionLostEarly())
            m = self.result(running)
            self.assertEqual((m.outcome, m.errorcode), (Outcome.FAILED, "TOR/END/MISC"))

    def test_not_through_tor(self) -> None:
        """A run whose stream tor never announced did not go through it, however well it went."""
        for failing, errorcode in ((False, Error.NOSTREAM), (True, Error.CLOSED)):
            running = self.bench.run(self.experiment())
            connection = self.connections[-1]
            connection.open()
            self.tor.events.told[connection.measurement] = Joined(is_unannounced=True)
            if failing:
                connection.lose()
            else:
                connection.respond(1000)
            m = self.result(running)
            self.assertEqual((m.outcome, m.errorcode, m.datacomplete), (Outcome.FAILED, errorcode, None))
            self.assertEqual(m.payloadbytes or 0, 0 if failing else 1000)


class PairTests(ExperimentCase):
    """``optimistic = both``."""

    def test_taking_turns(self) -> None:
        """Each slot has one run of each kind with the same PAIR; who is first alternates."""
        pair = self.bench.experiment(SIZE + "optimistic = both")
        order, names = [], []
        for number in range(4):
            running = self.bench.run(pair, slot=float(number))
            for _ in range(2):
                self.download(-1)
            second, first = self.result(running), self.parts[-1]
            self.assertEqual([first.slot, second.slot], [number] * 2)
            self.assertEqual(first.extra["PAIR"], second.extra["PAIR"])
            self.assertNotEqual(first.id, second.id)
            names.append(first.extra["PAIR"])
            order.append([first.extra["OPTIMISTIC"], second.extra["OPTIMISTIC"]])
        self.assertEqual(order, [[0, 1], [1, 0]] * 2)
        self.assertEqual([c.optimistic for c in self.connections], [False, True, True, False] * 2)
        self.assertEqual(len(set(names)), 4)
        self.assertEqual([c.user for c in self.connections[::2]], [str(name) for name in names])
        self.assertEqual([c.user for c in self.connections[1::2]], [str(name) for name in names])

    def test_first_one_fails(self) -> None:
        """The second one is run all the same."""
        running = self.bench.run(self.bench.experiment(SIZE + "optimistic = both"))
        self.connections[0].refuse(error.ConnectionRefusedError())
        self.download(1)
        self.assertEqual(self.result(running).outcome, Outcome.OK)
        self.assertEqual([m.outcome for m in self.parts], [Outcome.FAILED])

    def test_cancelled(self) -> None:
        """Cancelled in the first run, the second one is not begun; both have records."""
        running = self.bench.run(self.bench.experiment(SIZE + "optimistic = both"))
        self.connections[0].open()
        running.cancel()
        m = self.result(running)
        self.assertEqual([m.outcome, *(each.outcome for each in self.parts)], [Outcome.CANCELLED] * 2)
        self.assertEqual(len(self.connections), 1)

    def test_both_measure_before_either_finishes(self) -> None:
        """While tor's last words of the first are awaited, the second has measured, and the tor is free."""
        self.tor.events.finishing = []
        running = self.bench.run(self.bench.experiment(SIZE + "optimistic = both"))
        self.download(0)
        self.download(1)
        self.assertEqual(len(self.tor.events.finishing), 2)
        self.assertFalse(self.tor.turn.locked)
        self.assertNoResult(running)
        for waiting in reversed(self.tor.events.finishing):
            waiting.callback(None)
        m = self.result(running)
        self.assertEqual([each.outcome for each in (*self.parts, m)], [Outcome.OK] * 2)

    def test_stopped_while_it_finishes(self) -> None:
        """A stop ends the waiting for tor's last words of both, and begins nothing; both records are whole."""
        self.tor.events.finishing = []
        running = self.bench.run(self.bench.experiment(SIZE + "optimistic = both"))
        self.download(0)
        self.download(1)
        running.cancel()
        m = self.result(running)
        self.assertEqual([each.outcome for each in (*self.parts, m)], [Outcome.OK] * 2)
        self.assertEqual(len(self.connections), 2)

    def test_tor_lost_between_both(self) -> None:
        """The second one fails with a code of its own, and is no error of Perfd's."""
        running = self.bench.run(self.bench.experiment(SIZE + "optimistic = both"))
        self.tor.is_lost, self.tor.not_ready = True, None
        self.download(0)
        m = self.result(running)
        self.assertEqual([each.outcome for each in (*self.parts, m)], [Outcome.OK, Outcome.FAILED])
        self.assertEqual((m.errorcode, m.reason), (Error.NOTREADY, "tor default was lost"))

    def test_not_ready(self) -> None:
        """Both are skipped."""
        pair = self.bench.experiment(SIZE + "optimistic = both")
        self.tor.not_ready = "no tor"
        self.assertEqual((pair.not_ready, pair.name), ("no tor", "x"))
        m = self.result(self.bench.run(pair))
        self.assertEqual([m.outcome, *(each.outcome for each in self.parts)], [Outcome.SKIPPED] * 2)
        self.assertEqual({each.extra["PAIR"] for each in self.parts}, {m.extra["PAIR"]})
        self.assertEqual([each.extra["OPTIMISTIC"] for each in (*self.parts, m)], [0, 1])
        blanks = pair.blanks(1.0, Outcome.SKIPPED, Error.BUSY, "busy")
        self.assertEqual([each.extra["OPTIMISTIC"] for each in blanks], [0, 1])
        self.assertEqual({each.errorcode for each in blanks}, {Error.BUSY})
        self.assertEqual(len({each.extra["PAIR"] for each in blanks}), 1)
        self.assertEqual(len(self.parts), 1)  # of the run; blanks are for who asked for them


def stream(**changes: Any) -> Measurement:
    """The record of one stream of several."""
    what: dict[str, Any] = {"id": "s", "source": "test", "experiment": "x", "filesize": 1000}
    times = {"start": 10.0, "socket": 10.1, "datarequest": 11.0, "dataresponse": 12.0, "datacomplete": 13.0}
    times |= {"end": 13.1, "serverrequest": 11.5, "servercomplete": 12.9}
    ending = {"outcome": Outcome.OK, "errorcode": None, "reason": None, "status": 200}
    numbers = {"payloadbytes": 1000, "readbytes": 1100, "circ_id": 5, "used_by": 8}
    return Measurement(**{**what, **times, **ending, **numbers, **changes})


NOTHING = ("status", "circ_id", "datarequest", "dataresponse", "datacomplete", "payloadbytes", "readbytes")
LOST: dict[str, Any] = dict.fromkeys(NOTHING)
LOST |= {"outcome": Outcome.FAILED, "errorcode": "TOR/END/MISC", "reason": "lost"}


class ParallelTests(ExperimentCase):
    """``parallel = K``."""

    def test_combined(self) -> None:
        """The first of each step up to the response, the last for the end, the sum of the bytes."""
        m = combined([stream(), stream(start=9.0, dataresponse=14.0, datacomplete=20.0, end=20.5)])
        self.assertEqual((m.start, m.dataresponse, m.datacomplete, m.end), (9.0, 12.0, 20.0, 20.5))
        self.assertEqual((m.payloadbytes, m.readbytes, m.outcome, m.reason), (2000, 2200, Outcome.OK, None))
        self.assertEqual((m.connect, m.writebytes), (None, None))

    def test_combined_failure(self) -> None:
        """One stream that fails fails the run, which then has no DATACOMPLETE; all else is kept."""
        m = combined([stream(), stream(**LOST), stream(end=30.0)])
        self.assertEqual((m.outcome, m.errorcode), (Outcome.FAILED, "TOR/END/MISC"))
        self.assertEqual(m.reason, "1 of 3 streams: lost")
        self.assertEqual((m.datacomplete, m.dataresponse, m.end, m.payloadbytes), (None, 12.0, 30.0, 2000))

    def test_shares(self) -> None:
        """Each stream's part in a list, with nothing for what did not happen."""
        found = shares([stream(), stream(datacomplete=15.0, circ_id=6, used_by=9), stream(**LOST, used_by=10)])
        self.assertEqual((found["STREAMSOK"], found["THROUGHPUT"]), (2, 500.0))
        self.assertEqual(found["STREAMRATES"], "500,250,0")
        self.assertEqual(found["JAIN"], round(750**2 / (3 * (500**2 + 250**2)), 6))
        self.assertEqual(found["STREAMRESPONSES"], "2.000000,2.000000,")
        self.assertEqual(found["STREAMCOMPLETES"], "3.000000,5.000000,")
        self.assertEqual((found["STREAMBYTES"], found["STREAMCIRCS"]), ("1000,1000,", "5,6,"))
        self.assertEqual((found["STREAMIDS"], found["STREAMERRORS"]), ("8,9,10", ",,TOR/END/MISC"))

    def test_nothing_shared(self) -> None:
        """There is no fairness without a byte."""
        found = shares([stream(**LOST), stream(**LOST)])
        self.assertNotIn("JAIN", found)
        self.assertNotIn("THROUGHPUT", found)
        self.assertEqual((found["STREAMSOK"], found["STREAMRATES"]), (0, "0,0"))

    @given(st.lists(st.floats(0, 1e9), min_size=1).filter(any))
    def test_jain(self, rates: list[float]) -> None:
        """It is from 1/n to 1."""
        n = len(rates)
        if sum(rate**2 for rate in rates) > 1e-200:
            self.assertTrue(1 / n - 1e-9 <= jain(rates) <= 1 + 1e-9)
        self.assertAlmostEqual(jain([5.0] * n), 1.0)
        self.assertAlmostEqual(jain([5.0] + [0.0] * (n - 1)), 1 / n)

    def run_of(self, options: str) -> Deferred[Measurement]:
        return self.bench.run(self.bench.experiment(f"{SIZE}parallel = 3\n{options}"))

    def test_run(self) -> None:
        """All at once; the server and the tor know each stream by an id of its own."""
        running = self.run_of("")
        for number in range(3):
            self.reactor.advance(1.0)
            self.tor.connections[number].open()
            measurement = self.connections[number].measurement
            self.tor.events.tell(measurement, stream_id=number)
        for number in range(3):
            self.reactor.advance(1.0)
            self.connections[number].respond(1000)
        m = self.result(running)
        self.assertEqual((m.outcome, m.payloadbytes, m.filesize), (Outcome.OK, 3000, 1000))
        self.assertEqual((m.datarequest, m.dataresponse, m.datacomplete), (WALL + 1, WALL + 4, WALL + 6))
        self.assertEqual((m.extra["PARALLEL"], m.extra["STREAMSOK"], m.extra["JAIN"]), (3, 3, 1.0))
        self.assertEqual(
            (m.extra["STREAMIDS"], m.extra["STREAMCOMPLETES"]), ("0,1,2", "4.000000,5.000000,6.000000")
        )
        self.assertEqual([c.measurement for c in self.connections], [f"{m.id}-{n}" for n in range(3)])
        self.assertFalse(
            [c.token for c in self.connections if m.id in c.token]
        )  # not to be guessed from another one
        self.assertEqual({c.user for c in self.connections}, {m.id})
        self.assertEqual(len(self.bench.stamps), 0)

    def test_a_circuit_for_each(self) -> None:
        """Streams that must not share a circuit have names of their own, with optimistic data or without."""
        running = self.run_of("parallel-circuits = each\noptimistic = yes")
        for number in range(3):
            self.download(number)
        m = self.result(running)
        self.assertEqual([c.user for c in self.connections], [f"{m.id}-{n}" for n in range(3)])
        self.assertEqual(([c.optimistic for c in self.connections], m.extra["OPTIMISTIC"]), ([True] * 3, 1))

    def test_one_fails(self) -> None:
        """The others go on."""
        running = self.run_of("")
        self.connections[1].refuse(error.ConnectionRefusedError())
        self.download(0)
        self.assertNoResult(running)
        self.download(2)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.payloadbytes), (Outcome.FAILED, Error.CONNECT, 2000))
        self.assertEqual((m.extra["STREAMERRORS"], m.extra["STREAMSOK"]), (",PERFD/CONNECT,", 2))

    def test_pairs(self) -> None:
        """Parallel streams with and without optimistic data."""
        running = self.run_of("optimistic = both")
        for number in range(6):
            self.download(number)
        self.assertEqual(self.result(running).extra["PAIR"], self.parts[0].extra["PAIR"])
        self.assertEqual([c.optimistic for c in self.connections], [False] * 3 + [True] * 3)

    def test_cancelled(self) -> None:
        """All of them end."""
        running = self.run_of("")
        self.download(0)
        self.connections[1].open()
        running.cancel()
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.payloadbytes), (Outcome.CANCELLED, Error.STOPPED, 1000))
        self.assertTrue(self.connections[2].cancelled)

    def test_timeout(self) -> None:
        """The one deadline is for all."""
        running = self.run_of("timeout = 10 s")
        self.download(0)
        self.reactor.advance(10.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.extra["STREAMERRORS"]), (Outcome.TIMEOUT, ",PERFD/TIMEOUT,PERFD/TIMEOUT"))


class SeriesTests(ExperimentCase):
    """``type = series``."""

    def run_of(self, options: str) -> Deferred[Measurement]:
        return self.bench.run(self.bench.experiment(f"{SIZE}type = series\n{options}"), slot=3.0)

    def tell(self, number: int, *circuits: int) -> None:
        """The request was attached to each of ``circuits``, and detached from all but the last."""
        attaches = [Attach(c, WALL + n, WALL + n + 0.5, "TIMEOUT") for n, c in enumerate(circuits[:-1])]
        last = Attach(circuits[-1], WALL + len(attaches))
        self.tor.events.tell(self.connections[number].measurement, *attaches, last)

    def test_one_after_the_other(self) -> None:
        """A request begins when the one before has ended; the groups take turns; each has a record."""
        running = self.run_of("requests = 5\ngroups = 2")
        for number in range(5):
            self.assertEqual(len(self.connections), number + 1)
            self.connections[number].open()
            self.tell(number, *([3, 4] if number == 1 else [3]))
            self.reactor.advance(1.0)
            self.connections[number].respond(1000)
        m = self.result(running)
        self.assertEqual([c.user for c in self.connections], [f"{m.id}-g{n}" for n in (0, 1, 0, 1, 0)])
        self.assertEqual(
            (m.type, m.outcome, m.slot, m.start, m.datacomplete), ("series", Outcome.OK, 3.0, WALL, WALL + 5)
        )
        expected = {"REQUESTS": 5, "REQUESTSOK": 5, "GROUPS": 2, "ATTACHES": 6, "DETACHES": 1}
        self.assertEqual({key: m.extra[key] for key in expected}, expected)
        self.assertEqual((m.extra["CIRCUITWAITMEDIAN"], m.extra["CIRCUITWAITMAX"]), (0.0, 1.0))
        self.assertEqual((m.payloadbytes, m.readbytes), (5000, sum(part.readbytes or 0 for part in self.parts)))
        self.assertEqual([part.id for part in self.parts], [f"{m.id}-000{n}" for n in range(5)])
        for number, part in enumerate(self.parts):
            self.assertEqual((part.type, part.outcome, part.slot), ("request", Outcome.OK, 3.0))
            self.assertEqual((part.extra["SERIES"], part.extra["REQUESTNUMBER"]), (m.id, number))
            self.assertEqual((part.start, part.datacomplete), (WALL + number, WALL + number + 1))
        self.assertEqual(self.parts[1].extra["ATTACHEDTO"], "3,4")
        self.assertEqual(self.parts[1].extra["DETACHREASONS"], "TIMEOUT")
        self.assertEqual((self.parts[0].extra["ATTACHEDTO"], self.parts[1].extra["GROUP"]), (3, 1))

    def test_held_up(self) -> None:
        """The requests that were under way say so, and the series."""
        self.bench.hold_ups.moments = [1.5]
        running = self.run_of("requests = 3")
        for number in range(3):
            self.reactor.advance(1.0)
            self.download(number)
        m = self.result(running)
        self.assertEqual([each.extra.get("HELDUP") for each in (*self.parts, m)], [None, 1.0, None, 1.0])

    def test_staggered(self) -> None:
        """Each begins so long after the one before, whether that has ended or not."""
        running = self.run_of("requests = 3\nstagger = 2 s")
        self.reactor.advance(0)
        self.assertEqual(len(self.connections), 1)
        self.reactor.advance(2.0)
        self.reactor.advance(2.0)
        self.assertEqual(len(self.connections), 3)
        for number in (2, 0, 1):
            self.download(number)
        m = self.result(running)
        self.assertEqual((m.outcome, [part.start for part in self.parts]), (Outcome.OK, [WALL + 4, WALL, WALL + 2]))
        self.assertEqual(len({c.user for c in self.connections}), 1)

    def test_deadline(self) -> None:
        """The timeout is that of all; what was not begun by then has records too."""
        running = self.run_of("requests = 3\ntimeout = 10 s")
        self.reactor.advance(7.0)
        self.download(0)
        self.reactor.advance(3.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertEqual(m.reason, "2 of 3 requests: no connection before the deadline")
        self.assertEqual([part.outcome for part in self.parts], [Outcome.OK, Outcome.TIMEOUT, Outcome.TIMEOUT])
        self.assertEqual(self.parts[2].reason, "the series was over time before it")
        self.assertEqual((m.extra["FAILURES"], m.extra["REQUESTSOK"]), ("PERFD/TIMEOUT:2", 1))
        self.assertIsNone(m.datacomplete)

    def test_late_requests(self) -> None:
        """Staggered requests whose time comes after the deadline are not begun."""
        text = f"{SIZE}type = series\nrequests = 3\nstagger = 6 s"
        running = self.bench.run(self.bench.experiment(text, timeout=10.0))
        for _ in range(10):
            self.reactor.advance(1.0)
        m = self.result(running)
        self.assertEqual((len(self.connections), m.outcome), (2, Outcome.TIMEOUT))

    def test_a_failure(self) -> None:
        """The series goes on, and names the failures."""
        running = self.run_of("requests = 3")
        self.download(0)
        self.connections[1].refuse(error.ConnectionRefusedError())
        self.download(2)
        m = self.result(running)
        self.assertEqual(
            (m.outcome, m.errorcode, m.extra["FAILURES"]), (Outcome.FAILED, Error.CONNECT, "PERFD/CONNECT:1")
        )

    def test_cancelled(self) -> None:
        """One after the other: the request under way is ended, the others are not begun."""
        running = self.run_of("requests = 4")
        self.download(0)
        running.cancel()
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, len(self.connections)), (Outcome.CANCELLED, Error.STOPPED, 2))
        self.assertEqual([part.outcome for part in self.parts], [Outcome.OK, *[Outcome.CANCELLED] * 3])
        self.assertEqual(self.parts[3].reason, "Perfd was stopped before it")

    def test_lost_tor(self) -> None:
        """Requests for which there is no tor any more fail; the series keeps its id and what it had."""
        running = self.run_of("requests = 4")
        self.download(0)
        self.tor.is_lost, self.tor.not_ready = True, "tor default is being restarted"
        self.download(1)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.FAILED, Error.NOTREADY))
        self.assertEqual(m.reason, "2 of 4 requests: tor default is being restarted")
        outcomes = [(part.extra["SERIES"], part.outcome) for part in self.parts]
        self.assertEqual(outcomes, [(m.id, Outcome.OK)] * 2 + [(m.id, Outcome.FAILED)] * 2)
        self.assertEqual((m.payloadbytes, m.extra["REQUESTSOK"]), (2000, 2))

    def test_cancelled_while_staggered(self) -> None:
        """Staggered: all that are under way end, and those that wait are not begun."""
        running = self.run_of("requests = 4\nstagger = 1 s")
        self.reactor.advance(1.0)
        running.cancel()
        m = self.result(running)
        self.assertEqual((m.outcome, len(self.connections)), (Outcome.CANCELLED, 2))
        self.assertEqual([part.errorcode for part in self.parts], [Error.STOPPED] * 4)

    def test_allocation(self) -> None:
        """Attaches and detaches in tor's words; nothing if nothing is known."""
        self.assertEqual(allocation(None), {})
        self.assertEqual(allocation(Joined()), {})
        self.tor.events.tell(
            "m",
            Attach(5, WALL + 1, WALL + 2, "END", "EXITPOLICY"),
            Attach(6, WALL + 3, WALL + 4, "TIMEOUT"),
            Attach(5, WALL + 5),
        )
        self.assertEqual(
            allocation(self.tor.events.told["m"]),
            {
                "ATTACHES": 3,
                "ATTACHEDTO": "5,6,5",
                "DETACHES": 2,
                "CIRCUITWAIT": 5.0,
                "DETACHREASONS": "END/EXITPOLICY,TIMEOUT",
            },
        )


class DirectTests(SynchronousTestCase):
    """``tor = none``: a direct connection, stamped like one to a SOCKS port."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.timeline = Timeline(Clock(monotonic=self.reactor.seconds))
        self.told: list[Any] = []

    def connect(self, host: str) -> Deferred[Any]:
        endpoint = NoTor(self.reactor).endpoint(
            *(host, 80, "user"), timeline=self.timeline, connected=self.told.append, optimistic=False
        )
        return endpoint.connect(Factory.forProtocol(Protocol))

    def test_stamps(self) -> None:
        """SOCKET when it is begun, CONNECT when it is there, and none of the steps of SOCKS."""
        for host in ("192.0.2.1", "2001:db8::1"):
            connecting = self.connect(host)
            self.reactor.advance(0.5)
            address, port, made, *_ = self.reactor.tcpClients.pop()
            factory: Any = made
            self.assertEqual((address, port), (host, 80))
            transport = StringTransport()
            factory.buildProtocol(None).makeConnection(transport)
            self.successResultOf(connecting)
            self.assertEqual(self.told.pop(), transport.getHost())
            self.assertEqual(self.told, [])
        stamps = self.timeline.stamps
        self.assertEqual(set(stamps), {Phase.START, Phase.SOCKET, Phase.CONNECT})
        self.assertEqual(stamps[Phase.CONNECT] - stamps[Phase.SOCKET], 0.5)

    def test_refused(self) -> None:
        """The failure is passed on, with SOCKET and without CONNECT."""
        connecting = self.connect("192.0.2.1")
        factory: Any = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        self.failureResultOf(connecting, error.ConnectionRefusedError)
        self.assertNotIn(Phase.CONNECT, self.timeline.stamps)

    def test_without_tor(self) -> None:
        """It is always ready, and the record names neither a tor nor a proxy."""
        bench = Bench()
        way = NoTor(bench.reactor)
        self.assertEqual((way.name, way.version, way.events, way.not_ready), ("none", None, None, None))
        way = NoTor(self.reactor)
        experiment = bench.experiment(SIZE, tor=way, reactor=self.reactor)
        running = bench.run(experiment)
        factory: Any = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        m = self.successResultOf(running)
        self.assertEqual((m.tor, m.errorcode, m.endpointproxy), ("none", Error.CONNECT, None))
