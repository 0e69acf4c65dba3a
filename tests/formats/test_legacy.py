"""Torperf's .data, .extradata and .mergedata, and merging them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.formats import legacy, legacy_merge, torperf
from perfd.formats.errors import Damage, FormatError
from perfd.formats.legacy import Extra, format_data, parse_data, parse_extra
from perfd.formats.torperf_line import TIMES as TIME_KEYS
from perfd.record import Circuit, Hop, Measurement, Outcome, Stream
from tests.support.format_strategies import data_runs
from tests.support.places import DATA
from tests.support.strategies import typical

TPF = DATA / "torperf-51200-2016-10-02.tpf"

TIMES = "100 0 100 250000 100 500000 100 750000 101 0 101 250000 101 500000 101 750000 102 123456"
DATA20 = f"{TIMES} 75 51493"
DATA21 = f"{DATA20} 0"
DECILES = " ".join(f"101 {n}00000" for n in range(1, 10))
DATA39 = f"{DATA21} {DECILES}"
RELAYS = ("$" + "A" * 40, "$" + "B" * 40)
EXTRA = f"CIRC_ID=5 LAUNCH=90.5 PATH={','.join(RELAYS)} BUILDTIMES=0.25,0.5"
USED = f"{EXTRA} USED_AT=102.2 USED_BY=9 TIMEOUT=1500 QUANTILE=0.800000"


def run(line: str) -> Measurement:
    return parse_data(line, "moria", 51200)


def at(seconds: int, used: bool = True) -> Extra:
    """A circuit whose stream ended at ``seconds``."""
    return Extra(circ_id=seconds, used_at=float(seconds) if used else None, used_by=seconds if used else None)


def ended(seconds: int, microseconds: int = 0) -> Measurement:
    return run(DATA21.replace("102 123456", f"{seconds} {microseconds}").replace("100 0", f"{seconds - 5} 0", 1))


def partners(data: Iterable[Measurement], extra: Iterable[Extra]) -> list[tuple[float | None, int | None]]:
    """What ``pair`` gives, as times of completion and circuit ids."""
    found = []
    for item in legacy_merge.pair(data, extra):
        assert not isinstance(item, Damage)
        found.append((item[0].datacomplete if item[0] else None, item[1].circ_id if item[1] else None))
    return found


# .data


def test_data_of_39_columns() -> None:
    """A whole line, with the deciles."""
    found = run(DATA39)
    assert found == Measurement(
        start=100.0,
        socket=100.25,
        connect=100.5,
        negotiate=100.75,
        request=101.0,
        response=101.25,
        datarequest=101.5,
        dataresponse=101.75,
        datacomplete=102.123456,
        dataperc={n: 101 + n / 100 for n in range(10, 100, 10)},
        id=found.id,
        source="moria",
        experiment="torperf-51200",
        server="public",
        filesize=51200,
        outcome=Outcome.OK,
        writebytes=75,
        readbytes=51493,
    )


@pytest.mark.parametrize("line", [DATA20, DATA21, DATA39])
def test_data_columns(line: str) -> None:
    """20, 21 and 39 columns are read and written, with or without a space behind them."""
    assert run(f"{line} ") == run(line)
    assert format_data(run(line), len(line.split())) == line


def test_timeout_in_data() -> None:
    """DATACOMPLETE of a timeout is the time of the signal, so it is the run's end, and is written as that."""
    line = "100 0 100 1 100 2 0 0 0 0 0 0 0 0 0 0 395 7 0 0 1 " + " ".join(["0 0"] * 9)
    found = run(line)
    assert (found.outcome, found.datacomplete, found.end) == (Outcome.TIMEOUT, None, 395.000007)
    assert found.negotiate is None
    assert found.dataperc == {}
    assert format_data(found) == line


def test_oldest_data_has_no_didtimeout() -> None:
    """Without DIDTIMEOUT a run that did not complete is a timeout, as Tor Metrics counts."""
    assert run(DATA20.replace("102 123456", "0 0")).outcome is Outcome.TIMEOUT
    assert run(DATA21.replace("102 123456", "0 0")).outcome is Outcome.FAILED
    assert run(DATA20.replace("51493", "51199")).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1 2 3",
        " ".join(DATA20.split()[:19]),
        f"{DATA21} 5",
        f"{DATA39} 5",
        DATA20.replace("100 0", "0 0", 1),
        DATA20.replace("123456", "1000000"),
        DATA20.replace("123456", "-1"),
        DATA20.replace("123456", "1.5"),
        DATA20.replace("100", "9" * 30),
        DATA20.replace("100", "9" * 15),
        DATA20.replace("75", "\u0667"),
        f"{DATA20} 2",
    ],
)
def test_damaged_data(line: str) -> None:
    """Lines with other columns, or other things than whole numbers in them, are reported."""
    with pytest.raises(FormatError):
        run(line)
    found = list(legacy.read_data([f"{line}\n", f"{DATA39}\n"], "moria", 51200, "moria-50kb.data"))
    assert isinstance(found[0], Damage)
    assert (found[0].file, found[0].line) == ("moria-50kb.data", 1)
    assert found[1] == run(DATA39)


def test_id_is_that_of_the_tpf() -> None:
    """CollecTor cut microseconds to hundredths: the run is recognised in its file."""
    line = DATA21.replace("100 0", "1475366401 239999", 1)
    pairs = "START=1475366401.23 FILESIZE=51200 SOURCE=moria WRITEBYTES=1 READBYTES=1"
    times = " ".join(f"{key}=0.0" for key in TIME_KEYS[1:])
    (tpf,) = torperf.read(["@type torperf 1.0", f"{pairs} {times}"])
    assert isinstance(tpf, Measurement)
    assert run(line).id == tpf.id


def test_write_data() -> None:
    """Lines in the order given, without skipped slots."""
    skipped = attrs.evolve(run(DATA21), outcome=Outcome.SKIPPED)
    assert list(legacy.write_data([run(DATA21), skipped, run(DATA20)], 21)) == [f"{DATA21}\n"] * 2
    with pytest.raises(ValueError, match="20, 21 or 39"):
        list(legacy.write_data([], 22))


@given(data_runs())
def test_data_round_trip(found: Measurement) -> None:
    """What .data has columns for comes back to the microsecond."""
    back = parse_data(format_data(found), "moria", found.filesize)
    assert attrs.evolve(back, id=found.id) == found


# .extradata


def test_extradata() -> None:
    """A circuit and its stream."""
    found = parse_extra(USED)
    assert found == Extra(
        circ_id=5,
        launch=90.5,
        path=RELAYS,
        buildtimes=(0.25, 0.5),
        used_at=102.2,
        used_by=9,
        timeout=1500,
        quantile=0.8,
    )
    assert parse_extra(legacy.format_extra(found)) == found


def test_extradata_of_failures() -> None:
    """Circuits and streams that failed, with remote reasons, and one that failed before its first relay."""
    found = parse_extra("CIRC_ID=6 LAUNCH=1.0 PATH= BUILDTIMES= FAIL_REASONS=TIMEOUT:OR_CONN_CLOSED TIMEOUT=1")
    assert found == Extra(circ_id=6, launch=1.0, fail_reasons="TIMEOUT:OR_CONN_CLOSED", timeout=1)
    circuit = legacy.circuit_of(found, "moria")
    assert (circuit.status, circuit.failure_local, circuit.failure_remote) == (
        "FAILED",
        "TIMEOUT",
        "OR_CONN_CLOSED",
    )
    assert legacy.stream_of(found, "moria") is None
    stream = parse_extra(f"{EXTRA} STREAM_FAIL_REASONS=END:TIMEOUT ")
    assert stream is not None
    assert stream.stream_fail_reasons == "END:TIMEOUT"


def test_split_reason_is_rejoined() -> None:
    """A space that got into the reason of a stream is known damage, and repaired."""
    found = parse_extra(f"{EXTRA} STREAM_FAIL_REASONS=END RESOLVEFAILED TIMEOUT=5")
    assert found is not None
    assert found.stream_fail_reasons == "END:RESOLVEFAILED"
    assert found.timeout == 5


@pytest.mark.parametrize("line", ["", "BUILDTIMEOUT_SET COMPUTED TOTAL_TIMES=1000", "ok 5 6 7", "error x"])
def test_lines_without_circuit(line: str) -> None:
    """Events and the oldest format are passed over in silence."""
    assert list(legacy.read_extra([f"{line}\n"])) == []


@pytest.mark.parametrize(
    "line",
    [
        "LAUNCH=1.0",
        "CIRC_ID=x",
        "CIRC_ID=5 CIRC_ID=6",
        "CIRC_ID=5 MISC",
        "CIRC_ID=5 A=B=C",
        "CIRC_ID=5 =C",
        "CIRC_ID=5 LAUNCH=-1.0",
        "CIRC_ID=5 LAUNCH=nan",
        "CIRC_ID=5 USED_AT=1e300",
        "CIRC_ID=5 PATH=$ABC",
        "CIRC_ID=5 BUILDTIMES=1.0,",
        "CIRC_ID=5 FAIL_REASONS=\udcff",
    ],
)
def test_damaged_extradata(line: str) -> None:
    """Anything else that is no circuit is reported with its line."""
    found = list(legacy.read_extra([f"{USED}\n", f"{line}\n"], "x.extradata"))
    assert found[0] == parse_extra(USED)
    assert isinstance(found[1], Damage)
    assert found[1].line == 2


def test_records_of_extradata() -> None:
    """The circuit and the stream as records, always with the same ids."""
    extra = parse_extra(USED)
    assert extra is not None
    circuit, stream = legacy.circuit_of(extra, "moria"), legacy.stream_of(extra, "moria")
    assert circuit == Circuit(
        id=circuit.id,
        source="moria",
        tor="unknown",
        circ_id=5,
        launch=90.5,
        built=91.0,
        status="CLOSED",
        path=(Hop(RELAYS[0], None, 90.75), Hop(RELAYS[1], None, 91.0)),
        timeout=1500,
        quantile=0.8,
    )
    assert stream == Stream(
        id=legacy.stream_of(extra, "moria").id,  # type: ignore[union-attr]
        source="moria",
        tor="unknown",
        stream_id=9,
        end=102.2,
        status="CLOSED",
        purpose="USER",
        circuit=circuit.id,
    )


# Merging


def test_pairs() -> None:
    """Within a second they belong together; circuits nobody used and runs without circuit come alone, in order."""
    data = [ended(100), ended(200), ended(300), ended(400, 500000)]
    extra = [at(90), at(101), at(150), at(1, used=False), at(298), at(401), at(500)]
    assert partners(data, extra) == [
        (None, 90),
        (100.0, 101),
        (None, 150),
        (None, 1),
        (200.0, None),
        (None, 298),
        (300.0, None),
        (400.5, 401),
        (None, 500),
    ]


def test_pairs_are_made_once() -> None:
    """A circuit carries one run only, the first that fits."""
    assert partners([ended(100), ended(100, 500000)], [at(100)]) == [(100.0, 100), (100.5, None)]


def test_completion_is_compared_in_hundredths() -> None:
    """As CollecTor did: 101.009 is 101.00 and so still within a second of 100."""
    assert partners([ended(101, 9000)], [at(100)]) == [(101.009, 100)]
    assert partners([ended(101, 10000)], [at(100)]) == [(None, 100), (101.01, None)]


def test_merge_as_collector_did() -> None:
    """Real results of CollecTor's, taken apart into .data and .extradata, come out of the merge as they were."""
    original = TPF.read_text(encoding="utf-8")
    results = [m for m in torperf.read(original.splitlines(), "") if isinstance(m, Measurement)]
    data = list(legacy.write_data(results))
    extra = list(legacy.write_extra(e for m in results if (e := legacy.extra_of(m))))
    noise = ["BUILDTIMEOUT_SET x\n", f"{EXTRA} FAIL_REASONS=TIMEOUT\n", "ok 1 2\n"]
    merged = list(
        legacy_merge.merge(
            legacy.read_data(data, "torperf", 51200), legacy.read_extra([*noise, extra[0], *noise, *extra[1:]])
        )
    )
    assert merged == results


def test_merge_reports_damage_of_both() -> None:
    """Damaged lines of either file cost themselves only."""
    found = list(
        legacy_merge.merge(
            legacy.read_data(["x\n", f"{DATA21}\n"], "moria", 51200, "d"),
            legacy.read_extra(["CIRC_ID=x\n", f"{USED}\n", "PATH\n"], "e"),
        )
    )
    assert {(d.file, d.line) for d in found if isinstance(d, Damage)} == {("d", 1), ("e", 1), ("e", 3)}
    (merged,) = [m for m in found if isinstance(m, Measurement)]
    assert (merged.circ_id, merged.path, merged.guard, merged.used_by) == (5, RELAYS, RELAYS[0], 9)
    assert merged.buildtimes == (0.25, 0.5)
    assert (merged.timeout, merged.quantile, merged.launch, merged.used_at) == (1500, 0.8, 90.5, 102.2)


def test_merge_keeps_the_longer_of_two() -> None:
    """Of two lines for one START the one with the circuit stays."""
    first = run(DATA21)
    again = run(DATA21.replace("102 123456", "104 123456"))
    (kept,) = legacy_merge.merge([first, again], [at(104)])
    assert isinstance(kept, Measurement)
    assert (kept.datacomplete, kept.circ_id) == (104.123456, 104)
    (kept,) = legacy_merge.merge([first, again], [at(102)])
    assert isinstance(kept, Measurement)
    assert (kept.datacomplete, kept.circ_id) == (102.123456, 102)


def test_merge_resumes() -> None:
    """What was merged before is passed over."""
    data, extra = [ended(100), ended(200), ended(300)], [at(100), at(200), at(300)]
    whole = list(legacy_merge.merge(data, extra))
    assert list(legacy_merge.merge(data, extra, resume=200.0)) == whole[1:]


def test_failure_reasons_are_kept() -> None:
    """The reasons of a circuit that was used and failed are with the run, and come back into .extradata."""
    extra = attrs.evolve(at(102), fail_reasons="DESTROYED:FINISHED")
    (merged,) = legacy_merge.merge([run(DATA21)], [extra])
    assert isinstance(merged, Measurement)
    assert merged.extra == {"FAIL_REASONS": "DESTROYED:FINISHED"}
    assert legacy.extra_of(merged) == extra
    assert "FAIL_REASONS=DESTROYED:FINISHED" in next(torperf.write([merged]))


def test_extra_of_a_run_without_circuit() -> None:
    """There is no line for it."""
    assert legacy.extra_of(run(DATA21)) is None
    extra = legacy.extra_of(typical())
    assert extra is not None
    assert parse_extra(legacy.format_extra(extra)) == extra


# .mergedata


def test_mergedata() -> None:
    """Runs with their circuits, and what is unmatched of both, as sorted pairs with split times."""
    items = list(legacy_merge.consolidate([run(DATA21), ended(200)], [at(90), parse_extra(USED) or at(0)]))
    lines = list(legacy_merge.write_merged(i for i in items if not isinstance(i, Damage)))
    assert lines[0] == "CIRC_ID=90 LAUNCH=0.00 USED_AT=90.000000 USED_BY=90\n"
    assert lines[1].startswith(
        "BUILDTIMES=0.250000,0.500000 CIRC_ID=5 CONNECTSEC=100 CONNECTUSEC=500000 DATACOMPLETESEC"
    )
    assert lines[1].split() == sorted(lines[1].split())
    assert "STARTSEC=195 STARTUSEC=0" in lines[2]
    back = list(legacy_merge.read_merged(lines, "moria", 51200))
    assert back[1:] == items[1:]
    assert back[0] == at(90)


def test_mergedata_leaves_out_what_did_not_complete() -> None:
    """As the script that made these files did."""
    unfinished = run(DATA21.replace("102 123456", "0 0"))
    skipped = attrs.evolve(run(DATA21), outcome=Outcome.SKIPPED)
    assert list(legacy_merge.write_merged([unfinished, skipped])) == []


def test_damaged_mergedata() -> None:
    """A run without one of its numbers is reported."""
    (line,) = legacy_merge.write_merged([run(DATA21)])
    damaged = [line.replace("STARTUSEC=0 ", ""), line.replace("STARTUSEC=0", "STARTUSEC=x"), "x\n"]
    found = list(legacy_merge.read_merged([*damaged, "\n", line], "moria", 51200, "f"))
    assert [item.line if isinstance(item, Damage) else item for item in found] == [1, 2, 3, run(DATA21)]


@given(st.text() | st.lists(st.sampled_from([*USED.split(), *DATA21.split(), "=", "STARTSEC=1"])).map(" ".join))
def test_any_text(text: str) -> None:
    """No file whatever raises: lines are records or reports."""
    lines = text.splitlines(keepends=True)
    for read in (legacy.read_data, legacy_merge.read_merged):
        assert all(isinstance(item, Measurement | Extra | Damage) for item in read(lines, "moria", 51200))
    assert all(isinstance(item, Extra | Damage) for item in legacy.read_extra(lines))
