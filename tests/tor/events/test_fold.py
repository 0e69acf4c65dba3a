"""Folding tor's events into records, and joining them with measurements."""

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as FakeReactor
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from txtorcon import TorProtocolError

from perfd.clock import Anchor, Clock
from perfd.record import FIELDS, MAX_EVENT_TEXT, Measurement, Outcome
from perfd.tor.control import ControlProtocol
from perfd.tor.events import fold as fold_module
from perfd.tor.events.circuits import MAX_EVENTS
from perfd.tor.events.join import MAX_JOINS, Join, Joined, address_of, error_fields, tor_fields
from perfd.tor.events.lines import CircuitLine, Congestion, StreamLine, UnparsedError
from perfd.tor.events.listener import EVENTS, ControlEvents
from perfd.tor.events.sink import MAX_WORDS, EventCounts
from tests.support.tor_recording import ANCHOR, MemoryEventSink, make_fold, recorded, replay

A, B, C, D = (f"${letter * 40}" for letter in "ABCD")
LOCAL = ("127.0.0.1", 40000)


def new_stream(stream_id: int = 7, port: int = 40000) -> str:
    return f"{stream_id} NEW 0 10.0.0.1:80 SOURCE_ADDR=127.0.0.1:{port} PURPOSE=USER CLIENT_PROTOCOL=SOCKS5"


class Lines(SynchronousTestCase):
    """Single lines."""

    def test_every_recorded_line_is_understood(self) -> None:
        """Nothing that the real tor said is unparsed or unknown."""
        fold = make_fold()
        replay(fold)
        self.assertEqual((fold.counts.unparsed, fold.counts.unknown), ({}, {}))
        self.assertGreater(fold.counts.seen["CIRC"], 200)

    def test_circuit(self) -> None:
        """All that a CIRC line of a Conflux leg says, with its round trip in microseconds."""
        line = CircuitLine.parse(
            f"12 BUILT {A}~guard,{B},{C}=old BUILD_FLAGS=NEED_CAPACITY,NEED_UPTIME PURPOSE=CONFLUX_LINKED "
            "TIME_CREATED=2026-11-23T12:21:15.084551 CONFLUX_ID=AB CONFLUX_RTT=32591"
        )
        self.assertEqual([hop.fingerprint for hop in line.path], [A, B, C])
        self.assertEqual([hop.nickname for hop in line.path], ["guard", None, "old"])
        self.assertEqual((line.conflux_id, line.conflux_rtt), ("AB", 0.032591))
        self.assertEqual(line.build_flags, ("NEED_CAPACITY", "NEED_UPTIME"))
        self.assertEqual(line.time_created, 1795436475.084551)

    def test_congestion(self) -> None:
        """CIRC_BW gives round trips in milliseconds; 0 means that there was none yet."""
        text = "ID=4 READ=509 WRITTEN=0 TIME=2026-11-23T12:21:21.903931 SS=1 CWND=124 RTT={} MIN_RTT={}"
        self.assertEqual(
            Congestion.parse(text.format(183, 0)), Congestion(slow_start=True, cwnd=124, rtt=0.183, min_rtt=None)
        )

    def test_quoted_words(self) -> None:
        """A user name with spaces and quotes does not disturb what follows it."""
        line = StreamLine.parse(
            r'5 NEW 0 a.example:80 SOCKS_USERNAME="x PURPOSE=FAKE \" y" SOURCE_ADDR=127.0.0.1:9 PURPOSE=USER'
        )
        self.assertEqual((line.purpose, line.source_addr), ("USER", "127.0.0.1:9"))

    def test_damage_is_an_error(self) -> None:
        """What has not the form of a line raises the one error."""
        for text in (
            "",
            "x",
            "12",
            "-3 BUILT",
            "12 BUILT nonsense",
            f"12 BUILT {A} {B}",
            "٣ BUILT",
            "9" * 30 + " BUILT",
        ):
            with self.assertRaises(UnparsedError):
                CircuitLine.parse(text)
        for text in ("", "1 NEW 0", "1 NEW x 10.0.0.1:80", "1 NEW 0 10.0.0.1:80 more"):
            with self.assertRaises(UnparsedError):
                StreamLine.parse(text)

    def test_addresses(self) -> None:
        """SOURCE_ADDR and our own address compare equal, however they are written."""
        self.assertEqual(address_of("127.0.0.1:80"), ("127.0.0.1", 80))
        self.assertEqual(address_of("[::1]:80"), ("::1", 80))
        self.assertEqual(address_of("[::ffff:127.0.0.1]:80"), ("127.0.0.1", 80))
        for text in (None, "", "unix:/socket", "(Tor_internal):80", "127.0.0.1:x", "127.0.0.1:999999"):
            self.assertIsNone(address_of(text))


class Recording(SynchronousTestCase):
    """What the recorded events become."""

    def setUp(self) -> None:
        self.sink = MemoryEventSink()
        self.fold = make_fold(self.sink)

    def test_circuit_of_a_download(self) -> None:
        """A Conflux leg has its path, the time of each hop, its set, its congestion control and its whole story."""
        replay(self.fold)
        circuit = self.sink.circuit(3)
        self.assertEqual((circuit.status, circuit.purpose), ("CLOSED", "CONFLUX_LINKED"))
        self.assertEqual((circuit.source, circuit.tor), ("here", "default"))
        self.assertEqual(len(circuit.path), 3)
        stamps = [circuit.launch, *(hop.built for hop in circuit.path), circuit.built, circuit.end]
        self.assertNotIn(None, stamps)
        self.assertEqual(stamps, sorted(stamps))
        self.assertEqual(circuit.path[2].nickname, "e1")
        self.assertEqual((circuit.cc_ss, circuit.cc_cwnd), (True, 124))
        self.assertEqual(circuit.conflux_id, self.sink.circuit(4).conflux_id)
        self.assertEqual(
            [event.name for event in circuit.events],
            [
                *("CONFLUX_UNLINKED:LAUNCHED", *["CONFLUX_UNLINKED:EXTENDED"] * 3, "CONFLUX_UNLINKED:BUILT"),
                *("PURPOSE_CHANGED:CONFLUX_LINKED", "CONFLUX_LINKED:CLOSED"),
            ],
        )
        self.assertIsNone(circuit.failure_local)  # FINISHED is no failure

    def test_circuit_that_failed(self) -> None:
        """A circuit that no measurement used is recorded as well, with both reasons of its failure."""
        replay(self.fold)
        failed = [circuit for circuit in self.sink.circuits if circuit.status == "FAILED"]
        self.assertIn(("DESTROYED", "DESTROYED"), {(each.failure_local, each.failure_remote) for each in failed})

    def test_stream_that_failed(self) -> None:
        """Three tries to attach, their reasons, and one record although tor says FAILED and then CLOSED."""
        replay(self.fold)
        stream = self.sink.stream(15)
        self.assertEqual([attach.circ_id for attach in stream.attaches], [14, 5, 7])
        self.assertEqual([attach.reason for attach in stream.attaches], ["END", "END", None])
        self.assertEqual([attach.remote_reason for attach in stream.attaches], ["MISC", "MISC", None])
        self.assertEqual((stream.status, stream.failure_local, stream.failure_remote), ("FAILED", "END", "MISC"))
        self.assertEqual(stream.target, "127.0.0.1:25601")

    def test_onion_service(self) -> None:
        """The steps of a rendezvous circuit are in its story, in tor's words."""
        join = self.fold.join(("127.0.0.1", 56358), 0.0)
        replay(self.fold)
        joined = self.fold.joined(join)
        self.assertEqual(joined.circuit.purpose, "HS_CLIENT_REND")
        steps = [event.name.partition(":")[0] for event in joined.circuit.events]
        self.assertEqual(
            [step for step in steps if step.startswith("HSCR")],
            ["HSCR_CONNECTING", "HSCR_ESTABLISHED_IDLE", "HSCR_ESTABLISHED_WAITING", "HSCR_JOINED"],
        )
        self.assertTrue(joined.circuit.rend_query.startswith("dzgmewjrybehpums"))

    def test_join_of_a_download(self) -> None:
        """The measurement's fields come from its stream, its circuit and the whole Conflux set."""
        replay(self.fold, until=3660.2)
        join = self.fold.join(("127.0.0.1", 32842), 3660.2, "the-measurement")
        replay(self.fold, since=3660.2, until=3662.0)
        self.assertTrue(join.complete)
        run = Anchor(wall=1000.0, monotonic=3660.0)
        joined = self.fold.joined(join, run)
        fields = tor_fields(joined)
        self.assertEqual((fields["used_by"], fields["circ_id"], fields["conflux"]), (14, 3, True))
        self.assertEqual(fields["conflux_circ_ids"], ("3", "4"))
        self.assertEqual(fields["used_at"], 1000.4036)  # by the measurement's clock
        self.assertEqual(fields["buildtimes"], (0.04619, 0.051304, 0.05933))
        self.assertEqual(fields["path"], tuple(hop.fingerprint for hop in joined.circuit.path))
        self.assertEqual(fields["guard"], fields["path"][0])
        self.assertIs(fields["cbt_set"], False)
        self.assertEqual((fields["cc_ss"], fields["cc_cwnd"]), (True, 124))
        self.assertIsNone(error_fields(joined))
        self.assertEqual(self.sink.stream(14).measurement, "the-measurement")
        self.assertLessEqual(set(fields), {field.name for field in FIELDS})
        Measurement(
            start=1.0, id="x", source="here", experiment="e", filesize=1, outcome=Outcome.OK, **fields
        )  # fits

    def test_join_of_a_failure(self) -> None:
        """The stream's reasons make the ERRORCODE, and the words say whose they are."""
        join = self.fold.join(("127.0.0.1", 53024), 3660.2)
        replay(self.fold)
        code, reason = error_fields(self.fold.joined(join))
        self.assertEqual(code, "TOR/END/MISC")
        self.assertEqual(reason, "tor's stream 15 ended with END, as the far end said with MISC")

    def test_other_events(self) -> None:
        """What is no circuit's and no stream's is given on in tor's words; CIRC_BW only while measured."""
        self.fold.join(("127.0.0.1", 32842), 0.0)
        replay(self.fold)
        keywords = {event.keyword for event in self.sink.events}
        self.assertEqual(
            keywords,
            {"GUARD", "HS_DESC", "STATUS_CLIENT", "CONF_CHANGED", "BUILDTIMEOUT_SET", "CIRC_BW", "STREAM_BW"},
        )
        bandwidth = [event for event in self.sink.events if event.keyword == "CIRC_BW"]
        self.assertEqual([event.text.split()[0] for event in bandwidth], ["ID=3"])
        self.assertEqual(
            [event.text for event in self.sink.events if event.keyword == "CONF_CHANGED"], ["NumEntryGuards=2"]
        )

    def test_all_ids_are_unique(self) -> None:
        """No two records have the same id."""
        replay(self.fold)
        self.fold.lose()
        ids = [record.id for record in (*self.sink.circuits, *self.sink.streams)]
        self.assertEqual(len(ids), len(set(ids)))


class Folding(SynchronousTestCase):
    """Single rules."""

    def setUp(self) -> None:
        self.sink = MemoryEventSink()
        self.now = 100.0
        self.step = 0.0
        self.fold = fold_module.EventFold(
            source="here",
            tor="default",
            sink=self.sink,
            anchor=lambda: Anchor(1_000_000.0 + self.now + self.step, self.now),
        )

    def feed(self, keyword: str, *texts: str) -> None:
        """The events come one second after the other."""
        for text in texts:
            self.now += 1.0
            self.fold.event(self.now, keyword, text)

    def build(self, circ_id: int = 1, more: str = "PURPOSE=GENERAL") -> None:
        self.feed(
            "CIRC",
            f"{circ_id} LAUNCHED {more}",
            *(f"{circ_id} EXTENDED {path} {more}" for path in (A, f"{A},{B}", f"{A},{B},{C}")),
            f"{circ_id} BUILT {A},{B},{C} {more}",
        )

    def test_times(self) -> None:
        """Build times are cumulative, and each record has the wall clock's time."""
        self.build()
        self.feed("CIRC", f"1 CLOSED {A},{B},{C} PURPOSE=GENERAL REASON=FINISHED")
        (circuit,) = self.sink.circuits
        self.assertEqual(circuit.launch, 1_000_101.0)
        self.assertEqual([hop.built for hop in circuit.path], [1_000_102.0, 1_000_103.0, 1_000_104.0])
        self.assertEqual((circuit.built, circuit.end), (1_000_105.0, 1_000_106.0))

    def test_clock_step(self) -> None:
        """A step of the wall clock by an hour in the middle bends no duration."""
        for hours in (-1, 1):
            self.feed("CIRC", "1 LAUNCHED PURPOSE=GENERAL")
            self.step += hours * 3600.0
            self.feed("CIRC", f"1 BUILT {A} PURPOSE=GENERAL", f"1 CLOSED {A} PURPOSE=GENERAL REASON=FINISHED")
            circuit = self.sink.circuits[-1]
            self.fold.begin()
            self.assertEqual((circuit.built - circuit.launch, circuit.end - circuit.launch), (1.0, 2.0))

    def test_circuit_that_existed_before(self) -> None:
        """Its launch is tor's TIME_CREATED, marked as such; its hops have no times."""
        created = "1970-01-12T13:46:00.500000"
        self.fold.circuit_status(
            f"circuit-status=1 BUILT {A}~x,{B} PURPOSE=GENERAL TIME_CREATED={created}\n", whole=True
        )
        self.feed("CIRC", f"1 CLOSED {A},{B} PURPOSE=GENERAL TIME_CREATED={created} REASON=FINISHED")
        (circuit,) = self.sink.circuits
        self.assertEqual(circuit.launch, 999_960.5)
        self.assertEqual([event.name for event in circuit.events], ["TIME_CREATED", "GENERAL:CLOSED"])
        self.assertEqual([hop.built for hop in circuit.path], [None, None])
        self.assertEqual((circuit.path[0].nickname, circuit.built), ("x", None))

    def test_time_created_by_another_clock(self) -> None:
        """A TIME_CREATED in the future, or years ago, is not believed."""
        for created in ("2030-01-01T00:00:00.000000", "1960-01-01T00:00:00.000000", "nonsense"):
            self.fold.circuit_status(f"1 BUILT {A} TIME_CREATED={created}", whole=True)
            self.fold.begin()
            self.assertIsNone(self.sink.circuits[-1].launch)

    def test_build_in_progress(self) -> None:
        """Of a circuit that was half built before, only the hops that were seen to be reached have a time."""
        self.fold.circuit_status(f"circuit-status=\n1 EXTENDED {A} PURPOSE=GENERAL\n2 LAUNCHED PURPOSE=GENERAL\nOK")
        self.feed("CIRC", f"1 EXTENDED {A},{B} PURPOSE=GENERAL", f"1 FAILED {A},{B} REASON=NOPATH")
        (circuit,) = self.sink.circuits
        self.assertEqual([hop.built for hop in circuit.path], [None, 1_000_101.0])
        self.assertEqual((circuit.failure_local, circuit.purpose), ("NOPATH", "GENERAL"))

    def test_answers_take_no_events_place(self) -> None:
        """Tor may answer before it sends the events of what the answer shows: they still give hops their times."""
        more = "PURPOSE=CONFLUX_UNLINKED"
        self.fold.circuit_status(f"circuit-status=\n2 EXTENDED {A} {more}\nOK")  # of whose launch nothing is known
        self.feed("CIRC", f"1 LAUNCHED {more}", f"2 EXTENDED {A} {more}", f"1 EXTENDED {A} {more}")
        self.fold.circuit_status(
            f"circuit-status=\n1 EXTENDED {A},{B},{C} {more}\n2 EXTENDED {A},{B},{C} {more}\nOK"
        )
        for path in (f"{A},{B}", f"{A},{B},{C}"):
            self.feed("CIRC", *(f"{number} EXTENDED {path} {more}" for number in (1, 2)))
        self.feed(
            "CIRC", *(f"{number} {word} {A},{B},{C} {more}" for word in ("BUILT", "CLOSED") for number in (1, 2))
        )
        first, second = self.sink.circuits
        self.assertEqual([hop.built for hop in first.path], [1_000_103.0, 1_000_104.0, 1_000_106.0])
        self.assertEqual([hop.built for hop in second.path], [1_000_102.0, 1_000_105.0, 1_000_107.0])
        self.assertEqual(first.built, 1_000_108.0)

    def test_cannibalized(self) -> None:
        """A cannibalized circuit keeps its launch, and its new hop has a time of its own."""
        self.build(more="PURPOSE=HS_VANGUARDS")
        self.feed("CIRC_MINOR", f"1 CANNIBALIZED {A},{B},{C} PURPOSE=GENERAL OLD_PURPOSE=HS_VANGUARDS")
        self.feed(
            "CIRC", *(f"1 {word} {A},{B},{C},{D} PURPOSE=GENERAL" for word in ("EXTENDED", "BUILT", "CLOSED"))
        )
        (circuit,) = self.sink.circuits
        self.assertEqual((circuit.launch, circuit.built), (1_000_101.0, 1_000_105.0))
        self.assertEqual(circuit.path[3].built, 1_000_107.0)
        self.assertIn("CANNIBALIZED:GENERAL", [event.name for event in circuit.events])

    def time_out(self, more: str = "PURPOSE=GENERAL") -> None:
        self.feed(
            "CIRC", f"182 LAUNCHED {more}", f"182 EXTENDED {A} {more}", f"182 FAILED {A} {more} REASON=TIMEOUT"
        )

    def go_on_measuring(self) -> None:
        """Tor changes the purpose of a circuit that timed out in the same breath."""
        text = f"182 PURPOSE_CHANGED {A} PURPOSE=MEASURE_TIMEOUT OLD_PURPOSE=GENERAL"
        self.fold.event(self.now, "CIRC_MINOR", text)

    def test_timed_out_and_measured_on(self) -> None:
        """A circuit that timed out and is built on for tor's statistics is one record, and ended when it timed out.

        How long tor took in the end is no build time of a circuit that anybody could use.
        """
        self.time_out()
        self.go_on_measuring()
        self.now += 60.0
        self.feed("CIRC", f"182 BUILT {A},{B},{C} PURPOSE=MEASURE_TIMEOUT")
        self.assertEqual(self.sink.circuits, [])
        self.feed("CIRC", f"182 CLOSED {A},{B},{C} PURPOSE=MEASURE_TIMEOUT REASON=FINISHED")
        self.feed("CIRC_MINOR", f"182 PURPOSE_CHANGED {A} PURPOSE=GENERAL")
        self.fold.lose()
        (circuit,) = self.sink.circuits
        self.assertEqual(
            (circuit.status, circuit.failure_local, circuit.failure_remote), ("FAILED", "TIMEOUT", None)
        )
        self.assertEqual((circuit.launch, circuit.built, circuit.end), (1_000_101.0, None, 1_000_103.0))
        self.assertEqual(
            [event.name for event in circuit.events[-4:]],
            [
                *("GENERAL:FAILED", "PURPOSE_CHANGED:MEASURE_TIMEOUT"),
                *("MEASURE_TIMEOUT:BUILT", "MEASURE_TIMEOUT:CLOSED"),
            ],
        )
        self.assertEqual(self.fold.counts.unfinished, 0)

    def test_timed_out_and_never_built(self) -> None:
        """When tor gives up measuring too, that is the end."""
        self.time_out()
        self.go_on_measuring()
        self.feed("CIRC", f"182 FAILED {A} PURPOSE=MEASURE_TIMEOUT REASON=MEASUREMENT_EXPIRED")
        (circuit,) = self.sink.circuits
        self.assertEqual((circuit.end, circuit.failure_local), (1_000_103.0, "TIMEOUT"))
        self.assertEqual(circuit.events[-1].name, "MEASURE_TIMEOUT:FAILED")

    def test_timed_out_for_good(self) -> None:
        """A circuit that tor does not go on with, as one of an onion service, ended when it timed out."""
        self.time_out("PURPOSE=HS_CLIENT_REND")
        self.now += fold_module.TIMEOUT_PATIENCE
        self.feed("CIRC", "183 LAUNCHED PURPOSE=GENERAL")
        (circuit,) = self.sink.circuits
        self.assertEqual((circuit.end, circuit.failure_local), (1_000_103.0, "TIMEOUT"))

    def test_timed_out_before_the_end(self) -> None:
        """Its end is known too when Perfd stops in that moment."""
        self.time_out()
        self.fold.lose()
        self.assertEqual([circuit.end for circuit in self.sink.circuits], [1_000_103.0])

    def test_measurement_on_a_circuit_that_timed_out(self) -> None:
        """The measurement does not wait for the end of such a circuit, and knows the failure."""
        self.feed("CIRC", "182 LAUNCHED PURPOSE=GENERAL")
        join = self.fold.join(LOCAL, 0.0)
        self.feed(
            "STREAM", new_stream(), "7 SENTCONNECT 182 10.0.0.1:80", "7 CLOSED 182 10.0.0.1:80 REASON=TIMEOUT"
        )
        waiting = join.when_complete()
        self.assertNoResult(waiting)
        self.feed("CIRC", f"182 FAILED {A} PURPOSE=GENERAL REASON=TIMEOUT")
        self.successResultOf(waiting)
        self.assertEqual(self.fold.joined(join).circuit.failure_local, "TIMEOUT")

    def test_late_events(self) -> None:
        """What tor says of a circuit or stream that was given out makes no second record with the same id."""
        self.build()
        self.feed("STREAM", new_stream())
        self.fold.lose()
        late = f"1 BUILT {A} PURPOSE=GENERAL"
        self.feed("CIRC_MINOR", f"1 PURPOSE_CHANGED {A} PURPOSE=GENERAL")
        self.feed("CIRC", late, "1 CLOSED REASON=FINISHED")
        self.feed("STREAM", "7 CLOSED 0 10.0.0.1:80 REASON=DONE")
        self.fold.circuit_status(late, whole=True)
        self.fold.stream_status("7 SUCCEEDED 1 10.0.0.1:80")
        self.fold.lose()
        self.assertEqual((len(self.sink.circuits), len(self.sink.streams)), (1, 1))
        self.fold.begin()
        self.feed("CIRC", "1 FAILED REASON=NOPATH")
        self.assertEqual(len(self.sink.circuits), 2)

    def test_what_ended_is_bounded(self) -> None:
        """What ended is not remembered for ever."""
        for number in range(fold_module.MAX_ENDED + 3):
            self.fold.event(1.0, "CIRC", f"{number} FAILED REASON=NOPATH")
        self.assertEqual(len(self.fold._ended_circuits), fold_module.MAX_ENDED)

    def test_destroyed_after_it_was_built(self) -> None:
        """A built circuit that is closed for a reason other than that nobody needs it keeps the reason."""
        self.build()
        self.feed("CIRC", f"1 CLOSED {A} PURPOSE=GENERAL REASON=DESTROYED REMOTE_REASON=CHANNEL_CLOSED")
        (circuit,) = self.sink.circuits
        self.assertEqual((circuit.failure_local, circuit.failure_remote), ("DESTROYED", "CHANNEL_CLOSED"))
        self.assertEqual(len(circuit.path), 3)

    def test_unknown_words(self) -> None:
        """Statuses and purposes of the future are kept, counted, and do no harm."""
        self.feed("CIRC", "1 LAUNCHED PURPOSE=NEWPURPOSE", f"1 QUANTUM {A} PURPOSE=NEWPURPOSE", "1 CLOSED REASON=X")
        self.feed("STREAM", "2 NEW 0 a:1 PURPOSE=NEWER", "2 ODD 0 a:1", "2 CLOSED 0 a:1 REASON=WHY")
        self.feed("CIRC_MINOR", "3 STRANGE PURPOSE=GENERAL")
        self.feed("GUARD", f"ENTRY {A} STRANGE")
        self.feed("BUILDTIMEOUT_SET", "STRANGE TIMEOUT_MS=1")
        self.assertEqual(self.sink.circuits[0].purpose, "NEWPURPOSE")
        self.assertIn("NEWPURPOSE:QUANTUM", [event.name for event in self.sink.circuits[0].events])
        self.assertEqual((self.sink.streams[0].purpose, self.sink.streams[0].failure_local), ("NEWER", "WHY"))
        self.assertEqual(self.fold.counts.unknown["CIRC PURPOSE=NEWPURPOSE"], 2)
        self.assertLessEqual(
            {"CIRC QUANTUM", "STREAM ODD", "STREAM PURPOSE=NEWER", "CIRC_MINOR STRANGE", "GUARD STRANGE"},
            set(self.fold.counts.unknown),
        )
        self.assertEqual(self.fold.counts.unparsed, {})

    def test_unknown_event(self) -> None:
        """An event that nobody knows is given on, and one that is not understood too, cut to a bounded length."""
        self.feed("NEW_EVENT", "whatever it says")
        self.feed("CIRC", "x" * 100_000)
        self.assertEqual([event.keyword for event in self.sink.events], ["NEW_EVENT", "CIRC"])
        self.assertEqual([len(event.text) for event in self.sink.events], [16, MAX_EVENT_TEXT])
        self.assertEqual(self.fold.counts.unparsed, {"CIRC": 1})

    def test_counted_words_are_bounded(self) -> None:
        """A tor that invents words without end does not fill the memory."""
        counts = EventCounts()
        for number in range(MAX_WORDS + 10):
            counts.count_unknown(f"WORD{number}")
        self.assertEqual((len(counts.unknown), counts.unknown["(others)"]), (MAX_WORDS + 1, 10))

    def test_build_timeout(self) -> None:
        """A circuit has the timeout in force at its launch; the timeout is learnt with the first COMPUTED."""
        self.feed("CIRC", "1 LAUNCHED PURPOSE=GENERAL")
        computed = (
            "COMPUTED TOTAL_TIMES=100 TIMEOUT_MS=1823 XM=650 ALPHA=2.130000 CUTOFF_QUANTILE=0.800000 "
            "TIMEOUT_RATE=0.030000 CLOSE_MS=60000 CLOSE_RATE=0.010000"
        )
        self.feed("BUILDTIMEOUT_SET", computed)
        self.feed("CIRC", "2 LAUNCHED PURPOSE=GENERAL", "1 CLOSED REASON=FINISHED", "2 CLOSED REASON=FINISHED")
        first, second = self.sink.circuits
        self.assertEqual((first.timeout, first.quantile, first.cbt_set), (None, None, None))
        self.assertEqual((second.timeout, second.quantile, second.cbt_set), (1823, 0.8, True))
        timeout = self.fold.build_timeout
        self.assertEqual((timeout.total_times, timeout.xm, timeout.alpha), (100, 650, 2.13))
        self.assertEqual((timeout.timeout_rate, timeout.close_ms, timeout.close_rate), (0.03, 60000, 0.01))
        self.feed("BUILDTIMEOUT_SET", computed.replace("COMPUTED", "RESET").replace("2.130000", "nan"))
        self.assertIs(self.fold.cbt_set, False)
        self.assertIsNone(self.fold.build_timeout.alpha)

    def test_build_timeout_of_a_measurement(self) -> None:
        """It is that of its circuit's launch, also where that is not known; without a circuit that of its begin."""
        self.feed("CIRC", "1 LAUNCHED PURPOSE=GENERAL")
        self.feed("BUILDTIMEOUT_SET", "COMPUTED TIMEOUT_MS=1823 CUTOFF_QUANTILE=0.800000")
        self.feed("CIRC", "2 LAUNCHED PURPOSE=GENERAL")
        found = []
        for port, circuit in ((40001, 1), (40002, 2), (40003, 0)):
            join = self.fold.join(("127.0.0.1", port), 0.0)
            self.feed("STREAM", new_stream(port, port), f"{port} SENTCONNECT {circuit} 10.0.0.1:80")
            fields = tor_fields(self.fold.joined(join))
            found.append((fields.get("timeout"), fields.get("quantile")))
        self.assertEqual(found, [(None, None), (1823, 0.8), (1823, 0.8)])

    def test_build_timeout_not_learnt(self) -> None:
        """When a whole circuit was built and tor told no timeout, it has learnt none."""
        self.assertIsNone(self.fold.cbt_set)
        self.build()
        self.assertIs(self.fold.cbt_set, False)

    def test_join_is_by_the_first_new_stream(self) -> None:
        """Not an older stream of the same port, not another port, not a later one."""
        self.feed("STREAM", new_stream(1))
        join = self.fold.join(LOCAL, self.now + 0.5, "m")
        self.feed("STREAM", "1 SENTCONNECT 3 10.0.0.1:80", new_stream(2, port=40001), new_stream(3), new_stream(4))
        self.assertEqual(join.stream.stream_id, 3)

    def test_join_since(self) -> None:
        """A stream that came before the claim does not take it."""
        join = self.fold.join(LOCAL, self.now + 1.5)
        self.feed("STREAM", new_stream(1))
        self.assertIsNone(join.stream)
        self.feed("STREAM", new_stream(2))
        self.assertEqual(join.stream.stream_id, 2)

    def test_join_again_on_the_same_port(self) -> None:
        """A new claim of a port ends an older one that found nothing."""
        older, newer = self.fold.join(LOCAL, 0.0), self.fold.join(LOCAL, 0.0)
        self.feed("STREAM", new_stream())
        self.assertTrue(older.complete)
        self.assertEqual((older.stream, newer.stream.stream_id), (None, 7))

    def test_joins_are_bounded(self) -> None:
        """Claims that nobody ends do not fill the memory: the oldest are given up."""
        joins = [self.fold.join(("10.0.0.1", number), 0.0) for number in range(MAX_JOINS + 1)]
        self.assertEqual([join.complete for join in joins[:2]], [True, False])

    def test_join_with_no_address(self) -> None:
        """A connection that has no IP address is joined with nothing."""
        join = self.fold.join(("", 0), 0.0)
        self.assertTrue(join.complete)
        self.assertEqual(self.fold.joined(join), Joined())

    def test_nothing_joined(self) -> None:
        """Without a stream all of tor's fields stay empty."""
        self.assertEqual(tor_fields(Joined()), {"cbt_set": None})
        self.assertIsNone(error_fields(Joined()))

    def test_join_of_a_stream_that_never_had_a_circuit(self) -> None:
        """Then there is the stream, and nothing of a circuit."""
        join = self.fold.join(LOCAL, 0.0)
        self.feed("STREAM", new_stream(), "7 FAILED 0 10.0.0.1:80 REASON=TIMEOUT")
        joined = self.fold.joined(join)
        self.assertTrue(join.complete)
        self.assertNotIn("path", tor_fields(joined))
        self.assertEqual(tor_fields(joined)["used_by"], 7)
        self.assertEqual(error_fields(joined)[0], "TOR/TIMEOUT")

    def test_circuit_destroyed_in_the_middle(self) -> None:
        """The stream's reason is the code; the words tell the circuit's too."""
        self.build()
        join = self.fold.join(LOCAL, 0.0)
        self.feed("STREAM", new_stream(), "7 SENTCONNECT 1 10.0.0.1:80", "7 SUCCEEDED 1 10.0.0.1:80")
        self.feed("CIRC", f"1 CLOSED {A} REASON=DESTROYED REMOTE_REASON=CHANNEL_CLOSED")
        self.feed("STREAM", "7 CLOSED 1 10.0.0.1:80 REASON=DESTROY")
        code, reason = error_fields(self.fold.joined(join))
        self.assertEqual(code, "TOR/DESTROY")
        self.assertEqual(
            reason, "tor's stream 7 ended with DESTROY; its circuit 1 ended with DESTROYED, by CHANNEL_CLOSED"
        )
        self.assertEqual(len(self.sink.circuits), 1)
        self.assertTrue(join.complete)

    def test_normal_ends_are_no_failures(self) -> None:
        """DONE, from either side, is how streams end."""
        for stream_id, reasons in enumerate(("", "REASON=DONE", "REASON=END REMOTE_REASON=DONE", "REASON=NONE")):
            self.feed("STREAM", new_stream(stream_id), f"{stream_id} CLOSED 0 10.0.0.1:80 {reasons}")
            self.assertIsNone(self.sink.streams[-1].failure_local, reasons)

    def test_how_a_stream_ended(self) -> None:
        """Whether one side was done: not if it broke, or its end will not be told; of no stream it is not known."""
        for stream_id, (happen, expected) in enumerate(
            (
                (lambda _: self.feed("STREAM", "0 CLOSED 1 10.0.0.1:80 REASON=END REMOTE_REASON=DONE"), True),
                (lambda _: self.feed("STREAM", "1 CLOSED 1 10.0.0.1:80 REASON=DESTROY"), False),
                (lambda _: self.fold.pause(), False),
                (self.fold.release, None),
            )
        ):
            join = self.fold.join(LOCAL, 0.0)
            self.feed("STREAM", new_stream(stream_id))
            ending = join.when_ended()
            self.assertNoResult(ending)
            happen(join)
            self.assertIs(self.successResultOf(ending), expected)
            self.assertIs(self.successResultOf(join.when_ended()), expected)

    def test_conflux(self) -> None:
        """Both legs are known, a third that replaced one too, and the round trip from circuit-status."""
        self.build(1, "PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AB")
        self.build(2, "PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AB")
        self.build(3, "PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=CD")
        join = self.fold.join(LOCAL, 0.0)
        self.feed("STREAM", new_stream(), "7 SENTCONNECT 1 10.0.0.1:80")
        self.feed("CIRC", f"2 CLOSED {A} PURPOSE=CONFLUX_LINKED REASON=DESTROYED")
        self.build(4, "PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AB")
        self.feed("STREAM", "7 CLOSED 1 10.0.0.1:80 REASON=DONE")
        self.fold.circuit_status(f"1 BUILT {A},{B},{C} PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB CONFLUX_RTT=80049")
        fields = tor_fields(self.fold.joined(join))
        self.assertEqual(fields["conflux_circ_ids"], ("1", "2", "4"))
        self.assertEqual((fields["conflux"], fields["conflux_id"], fields["conflux_rtt"]), (True, "AB", 0.080049))

    def test_what_each_leg_carried(self) -> None:
        """Since the stream came to it, also after the stream's end; samples are of that time alone."""
        for circ_id in (1, 2):
            self.build(circ_id, "PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB")
            self.feed("CIRC_BW", f"ID={circ_id} READ=50000 WRITTEN=7000 TIME=x SS=1 CWND=124 RTT=0 MIN_RTT=0")
        join = self.fold.join(LOCAL, self.now)
        self.feed("STREAM", new_stream(), "7 SENTCONNECT 1 10.0.0.1:80")
        self.feed("CIRC_BW", "ID=1 READ=1018 WRITTEN=509 TIME=x SS=1 CWND=150 RTT=90 MIN_RTT=80")
        self.feed("CIRC_BW", "ID=2 READ=2036 WRITTEN=0 TIME=x", "ID=2 READ= WRITTEN=-5", "ID=2 READ=x")
        self.feed("STREAM", "7 CLOSED 1 10.0.0.1:80 REASON=DONE")
        self.feed("CIRC_BW", "ID=1 READ=509 WRITTEN=0 TIME=x SS=0 CWND=160 RTT=95 MIN_RTT=80")
        joined = self.fold.joined(join)
        self.assertEqual(
            {key: value for key, value in joined.keys.items() if key.startswith("CONFLUX")},
            {"CONFLUXREAD": "1527,2036", "CONFLUXWRITTEN": "509,0"},
        )
        first, second = joined.carried
        self.assertEqual(
            [(sample.read, sample.congestion.cwnd) for _, sample in first.samples], [(1018, 150), (1527, 160)]
        )
        self.assertEqual([sample.congestion.rtt for _, sample in first.samples], [0.09, 0.095])
        self.assertEqual(second.samples[0][1].read, 2036)
        self.assertIsNone(second.samples[0][1].congestion.cwnd)

    def test_complete_with_the_last_bandwidth(self) -> None:
        """A join waits for the CIRC_BW after the stream's end, of any leg, or for the circuit's end."""
        for circ_id, ending in ((1, "bandwidth"), (2, "end")):
            self.build(circ_id)
            join = self.fold.join(LOCAL, 0.0)
            stream_id = 10 + circ_id
            self.feed("STREAM", new_stream(stream_id), f"{stream_id} SENTCONNECT {circ_id} 10.0.0.1:80")
            self.feed("CIRC_BW", f"ID={circ_id} READ=1 WRITTEN=1")
            self.feed("STREAM", f"{stream_id} CLOSED {circ_id} 10.0.0.1:80 REASON=DONE")
            waiting = join.when_complete()
            self.assertNoResult(waiting)
            if ending == "bandwidth":
                self.feed("CIRC_BW", f"ID={circ_id} READ=1 WRITTEN=1 SS=0 CWND=300 RTT=200 MIN_RTT=100")
            else:
                self.feed("CIRC", f"{circ_id} CLOSED REASON=FINISHED")
            self.successResultOf(waiting)
        fields = tor_fields(self.fold.joined(join))
        self.assertIsNone(fields["cc_rtt"])

    def test_live_circuits_are_bounded(self) -> None:
        """Circuits and streams whose end never comes do not fill the memory: the oldest are given out."""
        for number in range(fold_module.MAX_LIVE + 3):
            self.fold.event(1.0, "CIRC", f"{number} LAUNCHED PURPOSE=GENERAL CONFLUX_ID={number}")
            self.fold.event(1.0, "STREAM", new_stream(number))
        self.assertEqual([circuit.circ_id for circuit in self.sink.circuits], [0, 1, 2])
        self.assertEqual([stream.stream_id for stream in self.sink.streams], [0, 1, 2])
        self.assertEqual((self.sink.circuits[0].end, self.fold.counts.unfinished), (None, 6))

    def test_events_of_one_record_are_bounded(self) -> None:
        """A stream that is paused and resumed without end keeps a bounded story, with its end."""
        self.feed("STREAM", new_stream(), *["7 XOFF_SENT 0 a:1"] * (MAX_EVENTS + 50), "7 CLOSED 0 a:1 REASON=DONE")
        (stream,) = self.sink.streams
        self.assertEqual((len(stream.events), stream.events[-1].name), (MAX_EVENTS + 1, "USER:CLOSED"))

    def test_another_process(self) -> None:
        """With another tor process all that lived is given out without an end, and ids do not come again."""
        self.feed("CIRC", "1 LAUNCHED PURPOSE=GENERAL")
        self.feed("STREAM", new_stream())
        self.fold.begin()
        self.feed("CIRC", "1 LAUNCHED PURPOSE=GENERAL")
        self.fold.begin()
        self.assertEqual([circuit.end for circuit in self.sink.circuits], [None, None])
        self.assertNotEqual(*(circuit.id for circuit in self.sink.circuits))
        self.assertEqual(self.sink.streams[0].end, None)

    def test_reconnection_to_the_same_process(self) -> None:
        """What still lives goes on as one record; what is gone is given out without an end."""
        self.build(1)
        self.build(2)
        self.feed("STREAM", new_stream(8), new_stream(9))
        self.fold.pause()
        self.fold.circuit_status(f"2 BUILT {A},{B},{C} PURPOSE=GENERAL", whole=True)
        self.fold.stream_status("9 SUCCEEDED 2 10.0.0.1:80")
        self.feed("CIRC", f"2 CLOSED {A} REASON=FINISHED")
        self.assertEqual([(each.circ_id, each.end is None) for each in self.sink.circuits], [(1, True), (2, False)])
        self.assertEqual([each.stream_id for each in self.sink.streams], [8])
        self.assertIsNotNone(self.sink.circuits[1].launch)

    def test_later_status_ends_nothing(self) -> None:
        """Tor leaves out of circuit-status what it is about to close; its CLOSED still comes."""
        self.build(1)
        self.fold.circuit_status("")
        self.assertEqual(self.sink.circuits, [])

    def test_secrets_are_hidden(self) -> None:
        """CONF_CHANGED is served to others, so passwords and bridges are not in it."""
        self.feed(
            "CONF_CHANGED",
            "HashedControlPassword=16:AB\nBridge=obfs4 10.0.0.1:1 x\nEntryNodes=$AB\nSocks5ProxyPassword=p\nOK",
        )
        self.assertEqual(
            self.sink.events[0].text,
            "HashedControlPassword=(hidden)\nBridge=(hidden)\nEntryNodes=$AB\nSocks5ProxyPassword=(hidden)",
        )

    def test_sink_that_fails(self) -> None:
        """A sink that raises costs the record, is logged once, and nothing else."""

        def broken(_record: object) -> None:
            raise OSError("disk full")

        self.sink.record_circuit = broken
        self.feed("CIRC", "1 FAILED REASON=NOPATH", "2 FAILED REASON=NOPATH")
        self.feed("STREAM", new_stream(), "7 CLOSED 0 a:1 REASON=DONE")
        self.assertEqual((self.fold.counts.not_taken, len(self.sink.streams)), (2, 1))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


REAL = [(keyword, text) for stamp, keyword, text in recorded() if stamp is not None]
STATUS_TEXTS = [text for stamp, keyword, text in recorded() if stamp is None]
NOISE = st.one_of(
    st.sampled_from(
        [" ", "=", ",", "$", "~", '"', "\\", "\n", "\0", "-", "9" * 20, "ID=", "NEW", "CLOSED", "PURPOSE="]
    ),
    st.text(max_size=8),
)


@st.composite
def damaged(draw: Callable) -> tuple[str, str]:
    """A real event in which something was cut out, put in or replaced, perhaps under another name."""
    keyword, text = draw(st.sampled_from(REAL))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 40)))
        text = text[:begin] + draw(NOISE) + text[end:]
    return draw(st.sampled_from([keyword] * 4 + ["CIRC", "STREAM", "CIRC_BW", "GUARD", "OTHER"])), text


class Damage(SynchronousTestCase):
    """Nothing that comes over a control connection makes the fold raise."""

    @settings(max_examples=500, deadline=None)
    @given(st.lists(damaged(), min_size=1, max_size=5))
    def test_damaged_events(self, events: list[tuple[str, str]]) -> None:
        """Thousands of damaged events: no exception, whole records, and a good event afterwards still works."""
        sink = MemoryEventSink()
        fold = make_fold(sink)
        join = fold.join(LOCAL, 0.0)
        for number, (keyword, text) in enumerate(events):
            fold.event(float(number), keyword, text)
            fold.circuit_status(text)
            fold.stream_status(text)
        fold.joined(join, ANCHOR)
        fold.lose()
        fold.event(1000.0, "STREAM", new_stream(1))
        fold.event(1001.0, "STREAM", "1 CLOSED 0 10.0.0.1:80 REASON=DONE")
        self.assertEqual(sink.streams[-1].stream_id, 1)
        for record in (*sink.circuits, *sink.streams):
            attrs.validate(record)
            self.assertLess(len(repr(record)), 200_000)

    def test_every_line_cut_anywhere(self) -> None:
        """Each kind of real line, cut after each character."""
        for keyword, text in dict(REAL).items():
            fold = make_fold()
            for end in range(len(text)):
                fold.event(float(end), keyword, text[:end])
            fold.lose()


class FakeProtocol:
    """What ControlEvents uses of txtorcon's protocol."""

    def __init__(self, *, events: tuple[str, ...] = EVENTS, pid: int = 10, uptime: int = 0) -> None:
        self.valid_events = dict.fromkeys(events)
        self.listeners: dict[str, Callable[[str], None]] = {}
        self.answers = {"circuit-status": "", "stream-status": "", "process/pid": str(pid), "uptime": str(uptime)}
        self.asked: list[str] = []

    def add_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred:
        others = self.listeners.get(keyword)

        def listen(text: str) -> None:
            if others is not None:
                others(text)
            listener(text)

        self.listeners[keyword] = listen
        return succeed(None)

    def get_info_raw(self, key: str) -> Deferred:
        self.asked.append(key)
        answer = self.answers[key]
        if isinstance(answer, (Exception, Deferred)):
            return fail(answer) if isinstance(answer, Exception) else answer
        return succeed(f"{key}={answer}")

    def get_info_single(self, key: str) -> Deferred:
        return self.get_info_raw(key).addCallback(lambda text: text.partition("=")[2])


class Listening(SynchronousTestCase):
    """``ControlEvents`` on control connections."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.clock = Clock(wall=lambda: 1000.0 + self.reactor.seconds(), monotonic=self.reactor.seconds)
        self.sink = MemoryEventSink()
        self.events = ControlEvents(self.reactor, self.clock, source="here", tor="default", sink=self.sink)

    def connect(self, protocol: FakeProtocol) -> FakeProtocol:
        self.successResultOf(Deferred.fromCoroutine(self.events.connected(protocol)))
        return protocol

    def finish(self, join: Join, wait: float = 2.0) -> Deferred:
        return Deferred.fromCoroutine(self.events.finish(join, self.clock.anchor(), wait))

    def measured(self, protocol: FakeProtocol, conflux: str = "") -> Join:
        """A measurement whose stream runs over circuit 1."""
        protocol.listeners["CIRC"](f"1 LAUNCHED PURPOSE=GENERAL {conflux}")
        join = self.events.join(LOCAL, self.reactor.seconds(), "m")
        protocol.listeners["STREAM"](new_stream())
        protocol.listeners["STREAM"]("7 SENTCONNECT 1 10.0.0.1:80")
        return join

    def test_only_what_the_tor_has(self) -> None:
        """An older tor is listened to as far as it has the events."""
        protocol = self.connect(FakeProtocol(events=("CIRC", "STREAM", "BW")))
        self.assertEqual(set(protocol.listeners), {"CIRC", "STREAM"})

    def test_stamps_on_arrival(self) -> None:
        """Events have the time at which they arrived."""
        protocol = self.connect(FakeProtocol())
        self.reactor.advance(5.0)
        protocol.listeners["STREAM"](new_stream())
        self.reactor.advance(2.0)
        protocol.listeners["STREAM"]("7 CLOSED 0 10.0.0.1:80 REASON=DONE")
        (stream,) = self.sink.streams
        self.assertEqual((stream.new, stream.end), (1005.0, 1007.0))

    def test_existing_circuits(self) -> None:
        """What lives when the connection is made is read."""
        protocol = FakeProtocol()
        protocol.answers["circuit-status"] = f"\n1 BUILT {A} PURPOSE=GENERAL\n2 BUILT {B} PURPOSE=GENERAL"
        protocol.answers["stream-status"] = "4 SUCCEEDED 1 10.0.0.1:80"
        self.connect(protocol)
        self.events.stop()
        self.assertEqual([circuit.circ_id for circuit in self.sink.circuits], [1, 2])
        self.assertEqual(self.sink.streams[0].circuit, self.sink.circuits[0].id)

    def test_finish(self) -> None:
        """The result comes with the last event, not after a fixed time."""
        protocol = self.connect(FakeProtocol())
        join = self.measured(protocol)
        finishing = self.finish(join)
        self.assertNoResult(finishing)
        protocol.listeners["STREAM"]("7 CLOSED 1 10.0.0.1:80 REASON=END REMOTE_REASON=DONE")
        self.assertNoResult(finishing)
        self.reactor.advance(0.5)
        protocol.listeners["CIRC_BW"]("ID=1 READ=1 WRITTEN=1 SS=1 CWND=124 RTT=50 MIN_RTT=40")
        fields = tor_fields(self.successResultOf(finishing))
        self.assertEqual((fields["used_by"], fields["circ_id"], fields["cc_rtt"]), (7, 1, 0.05))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertNotIn("circuit-status", protocol.asked[3:])

    def test_finish_without_the_last_events(self) -> None:
        """What does not come in time is not waited for."""
        join = self.measured(self.connect(FakeProtocol()))
        finishing = self.finish(join)
        self.reactor.advance(2.0)
        joined = self.successResultOf(finishing)
        self.assertEqual((joined.stream.stream_id, joined.stream.end), (7, None))

    def test_finish_at_once(self) -> None:
        """With no time to wait it is what is known now."""
        join = self.measured(self.connect(FakeProtocol()))
        self.assertEqual(self.successResultOf(self.finish(join, wait=0.0)).circuit.circ_id, 1)

    def test_finish_of_conflux_asks_for_the_round_trip(self) -> None:
        """Tor tells it only in circuit-status."""
        protocol = self.connect(FakeProtocol())
        join = self.measured(protocol, "CONFLUX_ID=AB")
        protocol.answers["circuit-status"] = f"1 BUILT {A} PURPOSE=CONFLUX_LINKED CONFLUX_ID=AB CONFLUX_RTT=32591"
        joined = self.successResultOf(self.finish(join, wait=0.0))
        self.assertEqual(tor_fields(joined)["conflux_rtt"], 0.032591)

    def test_finish_of_conflux_without_an_answer(self) -> None:
        """A tor that hangs, or refuses, costs the round trip and a bounded time."""
        for pid, answer in enumerate((Deferred(), TorProtocolError(551, "no"))):
            protocol = self.connect(FakeProtocol(pid=pid))
            join = self.measured(protocol, "CONFLUX_ID=AB")
            protocol.answers["circuit-status"] = answer
            finishing = self.finish(join, wait=0.0)
            self.reactor.advance(2.0)
            self.assertIsNone(tor_fields(self.successResultOf(finishing))["conflux_rtt"])

    def test_finish_cancelled(self) -> None:
        """A measurement that is stopped leaves no claim behind."""
        self.connect(FakeProtocol())
        join = self.events.join(LOCAL, 0.0)
        finishing = self.finish(join)
        finishing.cancel()
        self.failureResultOf(finishing)
        self.assertTrue(join.complete)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_disconnected(self) -> None:
        """When the control connection is lost nobody waits any longer, and what is known stays known."""
        protocol = self.connect(FakeProtocol())
        join = self.measured(protocol)
        other = self.events.join(("127.0.0.1", 40001), 0.0)
        finishing, nothing = self.finish(join), self.finish(other)
        self.events.disconnected()
        self.assertEqual(self.successResultOf(finishing).circuit.circ_id, 1)
        self.assertEqual(self.successResultOf(nothing).stream, None)
        self.assertEqual([(stream.measurement, stream.end) for stream in self.sink.streams], [("m", None)])

    def test_disconnected_before_the_last_bandwidth(self) -> None:
        """Then it is not waited for."""
        protocol = self.connect(FakeProtocol())
        join = self.measured(protocol)
        protocol.listeners["STREAM"]("7 CLOSED 1 10.0.0.1:80 REASON=DONE")
        finishing = self.finish(join)
        self.assertNoResult(finishing)
        self.events.disconnected()
        self.assertEqual(tor_fields(self.successResultOf(finishing))["used_at"], 1000.0)

    def test_unannounced(self) -> None:
        """Tor was listened to all the time, and told of no stream; whoever could not hear it cannot say that."""
        self.connect(FakeProtocol())
        finishing = self.finish(self.events.join(LOCAL, 0.0))
        self.reactor.advance(2.0)
        self.assertTrue(self.successResultOf(finishing).is_unannounced)
        self.assertFalse(self.successResultOf(self.finish(self.events.join(LOCAL, 0.0), wait=0.0)).is_unannounced)
        finishing = self.finish(self.events.join(LOCAL, 0.0))
        self.events.disconnected()
        self.assertFalse(self.successResultOf(finishing).is_unannounced)
        finishing = self.finish(self.measured(self.connect(FakeProtocol())))
        self.reactor.advance(2.0)
        self.assertFalse(self.successResultOf(finishing).is_unannounced)

    def test_join_while_disconnected(self) -> None:
        """Without a control connection there is nothing to wait for."""
        join = self.events.join(LOCAL, 0.0)
        self.assertEqual(self.successResultOf(self.finish(join)), Joined())

    def test_reconnected_to_the_same_process(self) -> None:
        """A circuit lives on over a lost connection, as one record."""
        protocol = self.connect(FakeProtocol(uptime=100))
        protocol.listeners["CIRC"]("1 LAUNCHED PURPOSE=GENERAL")
        self.events.disconnected()
        self.reactor.advance(60.0)
        again = FakeProtocol(uptime=160)
        again.answers["circuit-status"] = "1 LAUNCHED PURPOSE=GENERAL"
        self.connect(again)
        again.listeners["CIRC"]("1 FAILED PURPOSE=GENERAL REASON=NOPATH")
        (circuit,) = self.sink.circuits
        self.assertEqual((circuit.launch, circuit.end), (1000.0, 1060.0))

    def test_reconnected_to_another_process(self) -> None:
        """Another process id, or the same with a shorter life: everything begins anew."""
        for pid, uptime in ((11, 500), (10, 3)):
            protocol = self.connect(FakeProtocol(pid=10, uptime=100))
            protocol.listeners["CIRC"]("1 LAUNCHED PURPOSE=GENERAL")
            self.events.disconnected()
            self.reactor.advance(60.0)
            self.connect(FakeProtocol(pid=pid, uptime=uptime))
            self.assertEqual(self.sink.circuits.pop().end, None)
            self.events.disconnected()
            self.reactor.advance(1000.0)

    def test_tor_that_does_not_tell_its_process(self) -> None:
        """Then every connection is taken for one to another process."""
        for _ in range(2):
            protocol = FakeProtocol()
            protocol.answers["process/pid"] = TorProtocolError(552, "unrecognized")
            self.connect(protocol).listeners["CIRC"]("1 LAUNCHED PURPOSE=GENERAL")
        self.assertEqual(len(self.sink.circuits), 1)

    def test_mistake_in_the_fold(self) -> None:
        """A listener never raises into txtorcon, and logs once."""
        protocol = self.connect(FakeProtocol())
        self.patch(fold_module.LiveCircuit, "happened", lambda *_: 1 / 0)
        for _ in range(2):
            protocol.listeners["CIRC"]("1 LAUNCHED PURPOSE=GENERAL")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_over_the_wire(self) -> None:
        """With txtorcon's real protocol: events on one line and on several, between the answers to commands."""
        protocol = ControlProtocol()
        protocol.valid_events = {}
        protocol.makeConnection(StringTransport())
        protocol.commands.clear()
        protocol.command = protocol.defer = None
        protocol._set_valid_events(" ".join(EVENTS))
        connecting = Deferred.fromCoroutine(self.events.connected(protocol))
        answers = {
            b"GETINFO process/pid": b"250-process/pid=10\r\n250 OK\r\n",
            b"GETINFO uptime": b"250-uptime=10\r\n250 OK\r\n",
            b"GETINFO circuit-status": b"250+circuit-status=\r\n1 BUILT\r\n2 BUILT\r\n.\r\n250 OK\r\n",
            b"GETINFO stream-status": b"250-stream-status=\r\n250 OK\r\n",
        }
        for _ in range(20):
            command = protocol.transport.value().splitlines()[-1]
            protocol.transport.clear()
            protocol.dataReceived(answers.get(command, b"250 OK\r\n"))
            if connecting.called:
                break
        self.successResultOf(connecting)
        protocol.dataReceived(b"650-CONF_CHANGED\r\n650-EntryNodes=$AB\r\n650-NumEntryGuards=1\r\n650 OK\r\n")
        protocol.dataReceived(f"650 CIRC 1 CLOSED {A} REASON=FINISHED\r\n".encode())
        self.assertEqual(self.sink.events[0].text, "EntryNodes=$AB\nNumEntryGuards=1")
        self.assertEqual([circuit.circ_id for circuit in self.sink.circuits], [1])


@pytest.mark.parametrize("stamp", [0.0, 1e9])
def test_anchor_of_the_measurement(stamp: float) -> None:
    """The joined times are the measurement's own, wherever the monotonic clock stands."""
    fold = make_fold()
    join = fold.join(LOCAL, stamp)
    fold.event(stamp + 1.0, "STREAM", new_stream())
    fold.event(stamp + 3.0, "STREAM", "7 CLOSED 0 10.0.0.1:80 REASON=DONE")
    assert tor_fields(fold.joined(join, Anchor(50.0, stamp)))["used_at"] == 53.0
