"""OnionPerf's analysis documents: all versions read, 3.1 written."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.formats import onionperf, onionperf_runs, onionperf_writer, torperf
from perfd.formats.errors import Damage, FormatError
from perfd.formats.torperf_line import format_line, parse
from perfd.record import Attach, Circuit, Event, Hop, Measurement, Outcome, Stream
from tests.support import analysis_rules
from tests.support.format_strategies import runs
from tests.support.joins import joined_by_port, known_of
from tests.support.places import DATA, SHARED
from tests.support.strategies import circuits, streams, typical

EXCERPT = DATA / "op-nl2.onionperf-2.0.analysis.json"
WHOLE = SHARED / "op-nl2.onionperf-2.0.analysis.json.xz"

ONION = "abcdefghijklmnop.onion:0.0.0.0:8080"
FINGERPRINTS = ("A" * 40, "B" * 40, "C" * 40)


def read(document: Any) -> list[Measurement | Circuit | Stream | Damage]:
    return list(onionperf.read(document if isinstance(document, bytes) else json.dumps(document), "x.json"))


def of(kind: type, found: Sequence[Any]) -> list[Any]:
    return [item for item in found if isinstance(item, kind)]


def written(*measurements: Measurement, **more: Any) -> dict[str, Any]:
    """The document that we write, checked and as others read it."""
    document = onionperf_writer.analysis("example", measurements, **more)
    analysis_rules.check(json.loads(onionperf_writer.dumps(document, xz=False)))
    return json.loads(lzma.decompress(onionperf_writer.dumps(document)))  # type: ignore[no-any-return]


def run_of(document: dict[str, Any]) -> dict[str, Any]:
    (run,) = document["data"]["example"]["tgen"]["streams"].values()
    return run  # type: ignore[no-any-return]


def tgen_stream(**changes: Any) -> dict[str, Any]:
    """A run as OnionPerf 0.6 to 1.1 writes it."""
    run = {
        "byte_info": {
            "payload-bytes-recv": "5242880",
            "payload-bytes-send": "0",
            "payload-progress-recv": "100.00%",
            "payload-progress-send": "?",
            "total-bytes-recv": "5242990",
            "total-bytes-send": "2174",
        },
        "elapsed_seconds": {
            "payload_bytes_recv": {"10240": 5.383327, "5242880": 27.048753},
            "payload_progress_recv": {"0.0": 5.226954, "0.7": 20.5, "1.0": 27.048753},
        },
        "is_complete": True,
        "is_error": False,
        "is_success": True,
        "stream_id": "155:9:localhost:127.0.0.1:46222:x",
        "stream_info": {
            "error": "NONE",
            "name": "op",
            "peername": "(null)",
            "recvsize": "5242880",
            "sendsize": "0",
        },
        "time_info": {
            "usecs-to-socket-create": "27",
            "usecs-to-socket-connect": "1351",
            "usecs-to-proxy-choice": "1784",
            "usecs-to-proxy-request": "6459",
            "usecs-to-proxy-response": "4600355",
            "usecs-to-command": "4600631",
            "usecs-to-response": "5227359",
            "usecs-to-last-byte-recv": "27048753",
            "usecs-to-last-byte-send": "-1",
        },
        "transport_info": {"local": "localhost:127.0.0.1:46222", "proxy": "NULL:0.0.0.0:0", "remote": ONION},
        "unix_ts_end": 1594633145.461114,
        "unix_ts_start": 1594633118.412361,
    }
    return {**run, **changes}


def document(version: Any = "3.1", runs: dict[str, Any] | None = None, **tor: Any) -> dict[str, Any]:
    source = {"measurement_ip": "192.0.2.1", "tgen": {"streams": runs or {"155": tgen_stream()}}, "tor": tor}
    return {"type": "onionperf", "version": version, "data": {"op": source}}


def tor_stream(**changes: Any) -> dict[str, Any]:
    return {
        "circuit_id": "7",
        "elapsed_seconds": [["USER:NEW", 0.0], ["USER:SENTCONNECT", 0.5], ["USER:CLOSED", 27.02]],
        "source": "127.0.0.1:46222",
        "stream_id": 12,
        "target": "abcdefghijklmnop.onion:8080",
        "unix_ts_start": 1594633118.44,
        "unix_ts_end": 1594633145.46,
        **changes,
    }


def tor_circuit(**changes: Any) -> dict[str, Any]:
    return {
        "build_quantile": 0.8,
        "build_timeout": 1500,
        "buildtime_seconds": 1.26,
        "cbt_set": True,
        "circuit_id": 7,
        "elapsed_seconds": [
            ["GENERAL:LAUNCHED", 0.0],
            ["GENERAL:BUILT", 1.26],
            ["CANNIBALIZED:HS_CLIENT_REND", 1.5],
            ["HSCR_JOINED:abcdefghijklmnop", 3.28],
            ["HS_CLIENT_REND:CLOSED", 60.5],
        ],
        "path": [[f"${FINGERPRINTS[0]}~first", 0.62], [f"${FINGERPRINTS[1]}", 1.26]],
        "unix_ts_start": 1594633119.06,
        "unix_ts_end": 1594633179.64,
        **changes,
    }


# Reading real results


@pytest.mark.parametrize(("path", "counts"), [(EXCERPT, (3, 4, 4)), (WHOLE, (3, 59, 7))])
def test_results_of_2020(path: Path, counts: tuple[int, ...]) -> None:
    """The real document gives what metrics-lib makes of it (but for steps that were not reached)."""
    if not path.exists():
        pytest.skip("the shared data is not here")
    content = path.read_bytes()
    found = read(lzma.decompress(content) if path.suffix == ".xz" else content)
    first, failed, third = sorted(of(Measurement, found), key=lambda m: m.start)
    assert (3, len(of(Circuit, found)), len(of(Stream, found))) == counts
    assert not of(Damage, found)
    line = dict(pair.split("=") for pair in format_line(first).split(" "))
    for key, value in {
        "BUILDTIMES": "0.15,0.22,0.34",
        "CIRC_ID": "39",
        "CONNECT": "1587991280.37",
        "DATACOMPLETE": "1587991286.62",
        "DATAPERC0": "1587991283.81",
        "DATAPERC10": "1587991284.15",
        "DATAPERC100": "1587991286.62",
        "DATAPERC70": "1587991285.67",
        "DATAREQUEST": "1587991283.36",
        "DATARESPONSE": "1587991283.81",
        "DIDTIMEOUT": "0",
        "ENDPOINTLOCAL": "localhost:127.0.0.1:40878",
        "ENDPOINTREMOTE": "m3eahz7co6lzi6jn.onion:0.0.0.0:443",
        "FILESIZE": "1048576",
        "HOSTNAMEREMOTE": "op-nl2",
        "LAUNCH": "1587991281.38",
        "NEGOTIATE": "1587991280.37",
        "PARTIAL10240": "1587991283.81",
        "PARTIAL1048576": "1587991286.62",
        "READBYTES": "1048643",
        "REQUEST": "1587991280.38",
        "SOCKET": "1587991280.37",
        "SOURCE": "op-nl2",
        "SOURCEADDRESS": "unknown",
        "START": "1587991280.37",
        "USED_AT": "1587991286.62",
        "USED_BY": "71",
        "WRITEBYTES": "53",
    }.items():
        assert line[key] == value
    assert first.outcome is Outcome.OK
    assert first.path[0] == first.guard == "$970F0966DAA7EBDEE44E3772045527A6854E997B"
    assert first.payloadbytes == 1048576
    assert first.experiment == "onionperf-1048576"
    assert (third.buildtimes, third.circ_id, third.used_by) == ((22.81, 23.57, 24.45), 72, 112)
    assert (failed.outcome, failed.errorcode, failed.server) == (Outcome.FAILED, "TOR/END/MISC", "public")
    assert (failed.response, failed.datacomplete, failed.end) == (None, None, 1587991580.841607)
    assert failed.hostnameremote is None
    assert failed.buildtimes == (0.09, 0.15, 0.27)


def test_circuits_and_streams_of_2020() -> None:
    """They are records of their own, linked to one another and to the measurement."""
    found = read(EXCERPT.read_bytes())
    measurements = {m.id: m for m in of(Measurement, found)}
    by_id = {c.id: c for c in of(Circuit, found)}
    used = {s.stream_id: s for s in of(Stream, found) if s.measurement}
    assert sorted(used) == [71, 93, 112]
    stream = used[93]
    assert measurements[stream.measurement].errorcode == "TOR/END/MISC"
    assert (stream.status, stream.purpose, stream.source_addr) == ("FAILED", "USER", "127.0.0.1:40948")
    assert (stream.failure_local, stream.failure_remote) == ("END", "MISC")
    assert [event.name for event in stream.events].count("USER:DETACHED") == 2
    assert by_id[stream.circuit].circ_id == 49
    assert stream.attaches == (Attach(49, 1587991580.76),)
    unused = next(c for c in by_id.values() if c.status == "FAILED")
    assert (unused.circ_id, unused.failure_local, unused.failure_remote) == (78, "DESTROYED", "CHANNEL_CLOSED")
    assert unused.built is None
    assert unused.path == (Hop("$E767C3B8295AD79B02E80A21345C9F2B3C2AD7DB", "Geoff2", 1587992007.87),)
    rendezvous = by_id[used[71].circuit]
    assert (rendezvous.purpose, rendezvous.hs_state) == ("HS_CLIENT_REND", "HSCR_JOINED")
    assert rendezvous.rend_query == "m3eahz7co6lzi6jn"
    assert rendezvous.events[0] == Event(1587991281.38, "HS_CLIENT_REND:LAUNCHED")


def test_same_id_as_in_tpf() -> None:
    """A run is recognised whether it comes as .tpf or as JSON."""
    for run in of(Measurement, read(EXCERPT.read_bytes())):
        pairs = format_line(run).split(" ")
        foreign = " ".join(pair for pair in pairs if not pair.startswith(("ID=", "OUTCOME=", "EXPERIMENT=")))
        assert parse(foreign).id == run.id


# Reading


@pytest.mark.parametrize("version", [1.0, "2.0", "3.0", "3.1", "4.0", "5.0"])
def test_versions(version: object) -> None:
    """All that there were."""
    assert len(of(Measurement, read(document(version)))) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\xff",
        b'{"type": "onionperf", "version": NaN}',
        b"[" * 100000,
        b'{"n": ' + b"9" * 5000 + b"}",
        json.dumps(document("6.0")).encode(),
        json.dumps(document(0.9)).encode(),
        json.dumps(document(None)).encode(),
        json.dumps({**document(), "type": "tgen"}).encode(),
        json.dumps({**document(), "data": []}).encode(),
        json.dumps({**document(), "data": {"op": 5}}).encode(),
        json.dumps({**document(), "data": {"op": {"measurement_ip": 5}}}).encode(),
    ],
)
def test_no_document(content: bytes) -> None:
    """What is no analysis that can be read gives one report."""
    (found,) = read(content)
    assert isinstance(found, Damage)
    assert found.file == "x.json"


def test_run_of_3_1() -> None:
    """All of a run since 3.0, joined to its stream and circuit."""
    found = read(document(circuits={"7": tor_circuit()}, streams={"12": tor_stream()}, guards=[{"x": 1}]))
    (run,) = of(Measurement, found)
    assert run == Measurement(
        start=1594633118.412361,
        socket=1594633118.412388,
        connect=1594633118.413712,
        negotiate=1594633118.414145,
        request=1594633118.41882,
        response=1594633123.012716,
        datarequest=1594633123.012992,
        dataresponse=1594633123.63972,
        datacomplete=1594633145.461114,
        dataperc={0: 1594633123.639315, 70: 1594633138.912361, 100: 1594633145.461114},
        partial={10240: 1594633123.795688, 5242880: 1594633145.461114},
        end=1594633145.461114,
        id=run.id,
        source="op",
        experiment="onionperf-5242880",
        server="onion",
        filesize=5242880,
        outcome=Outcome.OK,
        writebytes=2174,
        readbytes=5242990,
        payloadbytes=5242880,
        endpointlocal="localhost:127.0.0.1:46222",
        endpointremote=ONION,
        hostnamelocal="op",
        sourceaddress="192.0.2.1",
        used_by=12,
        used_at=1594633145.46,
        circ_id=7,
        launch=1594633119.06,
        path=("$" + FINGERPRINTS[0], "$" + FINGERPRINTS[1]),
        buildtimes=(0.62, 1.26),
        timeout=1500,
        quantile=0.8,
        cbt_set=True,
        guard="$" + FINGERPRINTS[0],
    )
    (circuit,) = of(Circuit, found)
    assert (circuit.purpose, circuit.status, circuit.hs_state) == ("HS_CLIENT_REND", "CLOSED", "HSCR_JOINED")
    assert circuit.built == 1594633120.32
    assert circuit.path[1].nickname is None


@pytest.mark.parametrize(
    ("changes", "joined"),
    [
        ({}, True),
        ({"unix_ts_end": 1594633145.46 + 149.9}, True),
        ({"unix_ts_end": 1594633145.46 + 150.1}, False),
        ({"source": "127.0.0.1:46223"}, False),
        ({"source": None}, False),
    ],
)
def test_join(changes: dict[str, Any], joined: bool) -> None:
    """Local port and end decide."""
    (run,) = of(Measurement, read(document(streams={"12": tor_stream(**changes)})))
    assert run.used_by == (12 if joined else None)
    assert run.circ_id == (7 if joined else None)
    assert run.path is None


def test_join_takes_the_nearest() -> None:
    """A port that was used again soon does not confuse."""
    near = tor_stream(stream_id=13, unix_ts_end=1594633145.5)
    far = tor_stream(stream_id=14, unix_ts_end=1594633245.5)
    for order in ([near, far], [far, near]):
        (run,) = of(Measurement, read(document(streams={str(s["stream_id"]): s for s in order})))
        assert run.used_by == 13


@pytest.mark.parametrize(
    ("error", "errorcode", "outcome"),
    [
        ("PROXY", "TOR/END/MISC", Outcome.FAILED),
        ("TIMEOUT", "TGEN/TIMEOUT/END/MISC", Outcome.TIMEOUT),
        ("STALLOUT", "TGEN/STALLOUT/END/MISC", Outcome.TIMEOUT),
        ("READ", "TGEN/READ/END/MISC", Outcome.FAILED),
        ("NEWERROR", "TGEN/NEWERROR/END/MISC", Outcome.FAILED),
    ],
)
def test_errors(error: str, errorcode: str, outcome: Outcome) -> None:
    """TGen's errors with tor's reasons; an unknown one costs nothing; the last byte so far completes nothing."""
    run = tgen_stream(is_error=True, is_success=False)
    run["stream_info"]["error"] = error
    stream = tor_stream(failure_reason_local="END", failure_reason_remote="MISC")
    (found,) = of(Measurement, read(document(runs={"1": run}, streams={"12": stream})))
    assert (found.errorcode, found.outcome) == (errorcode, outcome)
    assert (found.datacomplete, found.end) == (None, 1594633145.461114)


def test_upload() -> None:
    """A run that sends is an upload, with the times of sending."""
    run = tgen_stream()
    run["stream_info"] |= {"recvsize": "0", "sendsize": "1048576"}
    run["time_info"]["usecs-to-last-byte-send"] = "9000000"
    run["elapsed_seconds"] = {"payload_progress_send": {"0.5": 5.0}}
    (found,) = of(Measurement, read(document(runs={"1": run})))
    assert (found.type, found.filesize, found.dataperc) == ("upload", 1048576, {50: 1594633123.412361})
    assert found.datacomplete == 1594633127.412361


@pytest.mark.parametrize(
    "changes",
    [
        {"unix_ts_start": None},
        {"unix_ts_start": 0.0},
        {"unix_ts_start": "x"},
        {"unix_ts_start": -5},
        {"unix_ts_start": 1e300},
        {"unix_ts_start": 10**400},
        {"unix_ts_end": True},
        {"stream_info": {"recvsize": "many"}},
        {"stream_info": {"recvsize": None}},
        {"stream_info": {"recvsize": str(2**31)}},
        {"stream_info": {"recvsize": "5", "name": "\ud800"}},
        {"stream_info": {"recvsize": "5", "name": 5}},
        {"stream_info": []},
        {"time_info": {"usecs-to-command": "soon"}},
        {"time_info": {"usecs-to-command": str(2**62)}},
        {"transport_info": {"local": {}}},
        {"is_error": "no"},
        {"elapsed_seconds": {"payload_progress_recv": {"2.0": 1.0}}},
        {"elapsed_seconds": {"payload_progress_recv": {"x": 1.0}}},
        {"elapsed_seconds": {"payload_bytes_recv": {"x": 1.0}}},
        {"perfd": {"id": "x"}},
        {"perfd": {"id": "x", "experiment": "y", "outcome": "great"}},
        {"perfd": {"id": "x", "experiment": "y", "outcome": "ok", "path": [5]}},
        {"perfd": {"id": "x", "experiment": "y", "outcome": "ok", "dataperc": {"x": 5.0}}},
        {"perfd": {"id": "x", "experiment": "y", "outcome": "ok", "extra": {"A": []}}},
    ],
)
def test_damaged_runs(changes: dict[str, Any]) -> None:
    """A run with a wrong value is reported with the way to the value; the others are read."""
    found = read(document(runs={"bad\n": tgen_stream(**changes), "good": tgen_stream()}))
    assert len(of(Measurement, found)) == 1
    (damage,) = of(Damage, found)
    assert damage.message.startswith("data/op/tgen/streams/'bad\\n'/")


@pytest.mark.parametrize(
    "tor",
    [
        {"circuits": []},
        {"streams": 5},
        {"circuits": {"7": tor_circuit(circuit_id=None)}},
        {"circuits": {"7": tor_circuit(unix_ts_start=None)}},
        {"circuits": {"7": tor_circuit(path=[["$ABC~x", 1.0]])}},
        {"circuits": {"7": tor_circuit(path=[[f"${'A' * 40}~x"]])}},
        {"circuits": {"7": tor_circuit(path=[[f"${'A' * 40}~x", "1"]])}},
        {"circuits": {"7": tor_circuit(elapsed_seconds={})}},
        {"circuits": {"7": 5}},
        {"streams": {"12": tor_stream(stream_id="x")}},
        {"streams": {"12": tor_stream(unix_ts_end=None)}},
        {"streams": {"12": tor_stream(circuit_id="x")}},
    ],
)
def test_damaged_circuits_and_streams(tor: dict[str, Any]) -> None:
    """They are reported, and cost no run."""
    found = read(document(**tor))
    assert len(of(Measurement, found)) == 1
    assert len(of(Damage, found)) == 1
    assert not of(Circuit, found)
    assert not of(Stream, found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    """Whatever stands in the place of a value, reading ends without an exception."""
    whole = document(circuits={"7": tor_circuit()}, streams={"12": tor_stream()})
    place: Any = whole["data"]["op"]
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    for item in read(whole):
        assert isinstance(item, Measurement | Circuit | Stream | Damage)


@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    """No file whatever raises."""
    assert of(Damage, read(content))


# Writing


def test_success() -> None:
    """A run that went well, in all its parts."""
    run = run_of(written(typical(endpointremote=ONION, server="onion")))
    assert run["is_success"] is True
    assert run["stream_id"] == f"1:-1:localhost:127.0.0.1:43221:{ONION}"
    assert run["byte_info"]["payload-progress-recv"] == "100.00%"
    assert run["stream_info"] == {
        "error": "NONE",
        "id": "1",
        "name": "example",
        "peername": "example",
        "recvsize": "51200",
        "recvstate": "RECV_SUCCESS",
        "sendsize": "0",
        "sendstate": "SEND_SUCCESS",
        "vertexid": "download-50k",
    }
    assert run["time_info"]["usecs-to-socket-create"] == "123"
    assert run["time_info"]["usecs-to-last-byte-recv"] == "1234567"
    assert run["time_info"]["usecs-to-proxy-init"] == "-1"
    assert run["elapsed_seconds"]["payload_bytes_recv"]["10240"] == 0.823456
    assert run["elapsed_seconds"]["payload_progress_recv"]["0.8"] == 1.123456
    assert run["transport_info"]["state"] == "SUCCESS_OPEN"
    assert run["perfd"]["id"] == typical().id


@pytest.mark.parametrize(
    ("outcome", "errorcode", "error"),
    [
        (Outcome.FAILED, "TOR/END/MISC", "PROXY"),
        (Outcome.FAILED, "TOR", "PROXY"),
        (Outcome.TIMEOUT, "PERFD/TIMEOUT", "TIMEOUT"),
        (Outcome.TIMEOUT, "PERFD/STALL", "STALLOUT"),
        (Outcome.TIMEOUT, None, "TIMEOUT"),
        (Outcome.FAILED, "PERFD/CLOSED", "READ"),
        (Outcome.FAILED, "PERFD/RESET", "READ"),
        (Outcome.FAILED, "PERFD/STATUS", "HEADER"),
        (Outcome.FAILED, "PERFD/SOMETHING", "MISC"),
        (Outcome.FAILED, "TGEN/AUTH/END", "AUTH"),
        (Outcome.FAILED, "TGEN/", "MISC"),
        (Outcome.CANCELLED, "PERFD/STOPPED", "MISC"),
    ],
)
def test_failures(outcome: Outcome, errorcode: str | None, error: str) -> None:
    """Failures have TGen's names for others, and Perfd's own for us, with the progress that they made."""
    failure = typical(outcome=outcome, errorcode=errorcode, datacomplete=None, payloadbytes=25600)
    document = written(failure)
    run = run_of(document)
    assert run["stream_info"]["error"] == error
    assert run["is_error"] is True
    assert run["time_info"]["usecs-to-last-byte-recv"] == "-1"
    assert run["byte_info"]["payload-progress-recv"] == "50.00%"
    assert of(Measurement, read(document)) == [failure]


def test_failure_without_an_error() -> None:
    """What others call a failure because too little was read is neither an error nor a success."""
    failure = typical(outcome=Outcome.FAILED, readbytes=25600, network=None)
    document = written(failure)
    run = run_of(document)
    assert (run["is_error"], run["is_success"], run["stream_info"]["error"]) == (False, False, "NONE")
    assert of(Measurement, read(document)) == [failure]


def test_nothing_reached() -> None:
    """A run that did not even get a socket."""
    run = Measurement(
        start=5.5,
        id="a",
        source="example",
        experiment="e",
        filesize=50,
        outcome=Outcome.FAILED,
        errorcode="PERFD/CONNECT",
    )
    document = written(run)
    found = run_of(document)
    assert found["transport_info"] == {
        "error": "NONE",
        "fd": "-1",
        "local": "NULL:0.0.0.0:0",
        "proxy": "NULL:0.0.0.0:0",
        "remote": "NULL:0.0.0.0:0",
        "state": "CONNECT",
    }
    assert found["stream_info"]["name"] == "(null)"
    assert (found["unix_ts_start"], found["unix_ts_end"]) == (5.5, 5.5)
    assert document["data"]["example"]["measurement_ip"] == "unknown"
    (back,) = of(Measurement, read(document))
    assert back == attrs.evolve(run, end=5.5, writebytes=0, readbytes=0, payloadbytes=0)


@pytest.mark.parametrize(
    ("reached", "state"),
    [
        ({"connect": 6.0}, "CHOICE"),
        ({"connect": 6.0, "negotiate": 6.1}, "REQUEST"),
        ({"connect": 6.0, "negotiate": 6.1, "request": 6.2}, "RESPONSE_STATUS"),
    ],
)
def test_transport_state(reached: dict[str, float], state: str) -> None:
    """How far the way through the proxy was."""
    run = Measurement(start=5.5, id="a", source="example", experiment="e", filesize=50, outcome=Outcome.TIMEOUT)
    assert run_of(written(attrs.evolve(run, **reached)))["transport_info"]["state"] == state


def test_runs_without_endpoint_do_not_collide() -> None:
    """Each run is there, though nothing in it tells it from the others; skipped slots are not."""
    run = Measurement(start=5.5, id="a", source="example", experiment="e", filesize=50, outcome=Outcome.FAILED)
    document = written(run, run, attrs.evolve(run, outcome=Outcome.SKIPPED), run)
    assert len(document["data"]["example"]["tgen"]["streams"]) == 3


def test_circuits_and_streams() -> None:
    """Whole circuits and streams are written, linked as OnionPerf links them."""
    circuit = Circuit(
        id="c1",
        source="example",
        tor="default",
        circ_id=7,
        launch=100.0,
        built=101.5,
        end=160.25,
        status="FAILED",
        purpose="GENERAL",
        path=(
            Hop(f"${FINGERPRINTS[0]}", "first", 100.5),
            Hop(FINGERPRINTS[1], "bad name", 101.5),
        ),
        failure_local="DESTROYED",
        failure_remote="FINISHED",
        timeout=1500,
        quantile=0.8,
        cc_cwnd=124,
        events=(Event(100.0, "LAUNCHED"), Event(101.0, "HSCI_CONNECTING"), Event(160.25, "HS_CLIENT_REND:FAILED")),
    )
    stream = Stream(
        id="s1",
        source="example",
        tor="default",
        stream_id=12,
        new=110.0,
        end=120.5,
        status="CLOSED",
        purpose="USER",
        target="192.0.2.1:8080",
        source_addr="127.0.0.1:43221",
        circuit="c1",
        attaches=(Attach(7, 110.1),),
    )
    tor = written(circuits=[circuit], streams=[stream])["data"]["example"]["tor"]
    assert tor["circuits"] == {
        "7": {
            "build_quantile": 0.8,
            "build_timeout": 1500,
            "buildtime_seconds": 1.5,
            "circuit_id": 7,
            "elapsed_seconds": [
                ["GENERAL:LAUNCHED", 0.0],
                ["HSCI_CONNECTING", 1.0],
                ["HS_CLIENT_REND:FAILED", 60.25],
            ],
            "failure_reason_local": "DESTROYED",
            "failure_reason_remote": "FINISHED",
            "filtered_out": False,
            "path": [[f"${FINGERPRINTS[0]}~first", 0.5], [f"${FINGERPRINTS[1]}~Unnamed", 1.5]],
            "unix_ts_end": 160.25,
            "unix_ts_start": 100.0,
        }
    }
    assert tor["streams"] == {
        "12": {
            "circuit_id": "7",
            "elapsed_seconds": [["USER:NEW", 0.0], ["USER:SENTCONNECT", 0.1], ["USER:CLOSED", 10.5]],
            "source": "127.0.0.1:43221",
            "stream_id": 12,
            "target": "192.0.2.1:8080",
            "unix_ts_end": 120.5,
            "unix_ts_start": 110.0,
        }
    }
    eventless = written(circuits=[attrs.evolve(circuit, events=())])["data"]["example"]["tor"]["circuits"]["7"]
    names = [name for name, _ in eventless["elapsed_seconds"]]
    assert names == ["GENERAL:LAUNCHED", *["GENERAL:EXTENDED"] * 2, "GENERAL:BUILT", "GENERAL:FAILED"]
    for unseen in ({"launch": None}, {"end": None}):
        assert written(circuits=[attrs.evolve(circuit, **unseen)])["data"]["example"]["tor"]["circuits"] == {}
    for unseen in ({"new": None}, {"end": None}):
        assert written(streams=[attrs.evolve(stream, **unseen)])["data"]["example"]["tor"]["streams"] == {}


def test_path_is_whole_or_not_there() -> None:
    """Without one of its hops, whose time is not known, a path would be another one: with the middle as guard."""
    relays = ["$" + letter * 40 for letter in "ABC"]
    for missing in range(3):
        hops = tuple(Hop(r, None, None if n == missing else 1.5 + n) for n, r in enumerate(relays))
        circuit = Circuit(
            id="c", source="example", tor="a", circ_id=7, launch=1.0, end=9.0, status="CLOSED", path=hops
        )
        assert "path" not in written(circuits=[circuit])["data"]["example"]["tor"]["circuits"]["7"]


def test_circuit_that_tor_gave_up() -> None:
    """It ends at FAILED, as in OnionPerf, although tor went on to see how long it takes; so it was never built."""
    circuit = Circuit(
        id="c", source="example", tor="a", circ_id=7, launch=1.0, built=61.0, end=62.0, status="CLOSED",
        purpose="MEASURE_TIMEOUT", failure_local="TIMEOUT",
        path=(Hop("$" + "A" * 40, None, 1.5), Hop("$" + "B" * 40, None, 60.0)),
        events=(
            Event(1.0, "GENERAL:LAUNCHED"), Event(1.5, "GENERAL:EXTENDED"), Event(3.0, "GENERAL:FAILED"),
            Event(3.0001, "PURPOSE_CHANGED:MEASURE_TIMEOUT"), Event(60.0, "MEASURE_TIMEOUT:EXTENDED"),
            Event(61.0, "MEASURE_TIMEOUT:BUILT"), Event(62.0, "MEASURE_TIMEOUT:CLOSED"),
        ),
    )  # fmt: skip
    found = written(circuits=[circuit])["data"]["example"]["tor"]["circuits"]["7"]
    assert "buildtime_seconds" not in found
    assert (found["unix_ts_end"], found["failure_reason_local"]) == (3.0, "TIMEOUT")
    assert found["path"] == [["$" + "A" * 40 + "~Unnamed", 0.5]]
    assert found["elapsed_seconds"][-1] == ["GENERAL:FAILED", 2.0]


def test_circuits_that_only_the_record_knows() -> None:
    """Own rows whose circuits were deleted, also where only the circuit was, keep what the record knows of them."""
    runs = [typical(n, endpointlocal=f"localhost:127.0.0.1:{40000 + n}") for n in range(4)]
    stream = Stream(
        id="s", source="example", tor="default", stream_id=1001, new=runs[1].start, end=runs[1].used_at,
        status="CLOSED", source_addr="127.0.0.1:40001", measurement=runs[1].id, circuit="deleted",
    )  # fmt: skip
    assert joined_by_port(written(*runs, streams=[stream])) == [known_of(run) for run in runs]


def test_runs_on_one_circuit_that_only_the_record_knows() -> None:
    """It is written once."""
    circuit = {"circ_id": 5, "launch": 1_700_000_000.0}
    runs = [typical(n, endpointlocal=f"localhost:127.0.0.1:{40000 + n}", **circuit) for n in range(3)]
    document = written(*runs)
    assert joined_by_port(document) == [known_of(run) for run in runs]
    assert list(document["data"]["example"]["tor"]["circuits"]) == ["5"]


@pytest.mark.parametrize("name", ["torperf-51200-2016-10-02.tpf", "op-nl-1048576-2017-04-11.tpf"])
@pytest.mark.parametrize("directory", [DATA, SHARED])
def test_imported_lines_keep_their_circuits(directory: Path, name: str) -> None:
    """A document that is made of .tpf files has a stream and a circuit for each run that had them."""
    if not (directory / name).is_file():
        pytest.skip("the shared data is not here")
    lines = (directory / name).read_text().splitlines()
    runs = [run for run in torperf.read(lines) if isinstance(run, Measurement)]
    document = onionperf_writer.analysis(runs[0].source, runs)
    runs.sort(key=lambda run: run.start)
    for run, found in zip(runs, joined_by_port(document), strict=True):
        wanted = known_of(run)
        if wanted["used_by"] is None:
            assert not found
            continue
        numbered = wanted.pop("circ_id"), found.pop("circ_id")
        assert found == {key: value if key != "path" else value or () for key, value in wanted.items()}
        assert numbered[0] == numbered[1]


def test_unknown_port_stays_unknown() -> None:
    """The number by which readers find the stream of a run of Torperf's is no port that we read."""
    runs = [typical(n, endpointlocal=None, network=None) for n in range(3)]
    document = written(*runs)
    ends = [run["transport_info"]["local"] for run in document["data"]["example"]["tgen"]["streams"].values()]
    assert ends == ["NULL:0.0.0.0:1", "NULL:0.0.0.0:2", "NULL:0.0.0.0:3"]
    assert [run.endpointlocal for run in of(Measurement, read(document))] == [None] * 3


def test_numbers_of_several_tors() -> None:
    """Two tors use the same numbers: the second's get others, and streams keep to their circuits."""

    def circuit(tor: str) -> Circuit:
        return Circuit(id=tor, source="example", tor=tor, circ_id=7, launch=1.0, end=2.0, status="CLOSED")

    def stream(tor: str, **changes: Any) -> Stream:
        common: dict[str, Any] = {"source": "example", "tor": tor, "new": 1.0, "end": 2.0, "status": "CLOSED"}
        return Stream(
            **{**common, "id": tor, "stream_id": 5, "circuit": tor, "attaches": (Attach(7, 1.5),), **changes}
        )

    tor = written(
        circuits=[circuit("alpha"), circuit("beta")],
        streams=[stream("alpha"), stream("beta"), stream("gamma"), stream("delta", attaches=(Attach(9, 1.5),))],
    )["data"]["example"]["tor"]
    assert sorted(tor["circuits"]) == ["1", "7"]
    assert {number: item["circuit_id"] for number, item in tor["streams"].items()} == {
        "5": "7",
        "1": "1",
        "2": None,
        "3": "9",
    }


def test_upload_is_written_as_sending() -> None:
    """The other way round, and back."""
    upload = typical(type="upload", extra={"RATE": 1.5, "WAY": "5"})
    run = run_of(written(upload))
    assert (run["stream_info"]["sendsize"], run["stream_info"]["recvsize"]) == ("51200", "0")
    assert run["time_info"]["usecs-to-last-byte-send"] == "1234567"
    assert of(Measurement, read(written(upload))) == [upload]


@pytest.mark.parametrize("source", ["", "a_b", "a b", "a.b"])
def test_nicknames(source: str) -> None:
    """Only letters, digits and hyphens."""
    with pytest.raises(FormatError, match="use letters, digits and hyphens"):
        onionperf_writer.analysis(source, [])


def test_what_cannot_be_written() -> None:
    """Another source's results, what metrics-lib's integers cannot hold, and relays without fingerprint."""
    for bad in (typical(source="other"), typical(filesize=2**31), typical(readbytes=2**31)):
        with pytest.raises(FormatError):
            onionperf_writer.analysis("example", [bad])
    circuit = Circuit(id="c", source="example", tor="t", circ_id=7, launch=1.0, end=2.0, status="CLOSED")
    with pytest.raises(FormatError, match="no relay"):
        onionperf_writer.analysis("example", [], [attrs.evolve(circuit, path=(Hop("x", None, 1.5),))])


def test_dumps() -> None:
    """Sorted, indented by two, and compressed unless asked otherwise."""
    document = onionperf_writer.analysis("example", [typical()])
    text = onionperf_writer.dumps(document, xz=False).decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2)
    assert lzma.decompress(onionperf_writer.dumps(document)).decode() == text


@given(st.lists(runs(), max_size=3))
def test_round_trip(measurements: list[Measurement]) -> None:
    """Nothing of a measurement is lost, but the name and address of the host are one for all."""
    ours = [
        attrs.evolve(
            m,
            source="example",
            sourceaddress="192.0.2.1",
            payloadbytes=m.payloadbytes or 0,
            end=m.end or m.start,
            **{
                name: f"localhost:127.0.0.1:{number}"
                for number, name in enumerate(("endpointlocal", "endpointproxy", "endpointremote"))
            },
            **{
                step: None if (at := getattr(m, step)) is None else max(at, m.start)
                for step in (*onionperf_runs.STEPS, "datacomplete")
            },
            dataperc={n: max(at, m.start) for n, at in m.dataperc.items()},
            partial={n: max(at, m.start) for n, at in m.partial.items()},
        )
        for m in measurements
    ]
    back = of(Measurement, read(written(*ours)))
    key = attrs.astuple
    assert len(back) == len(ours)
    for one in ours:
        assert one in back, min(
            back, key=lambda other: sum(a != b for a, b in zip(key(one), key(other), strict=True))
        )


@given(st.lists(circuits(), max_size=3), st.lists(streams(), max_size=3))
def test_any_circuit_and_stream(found: list[Circuit], used: list[Stream]) -> None:
    """Whatever tor told is either refused or written by the rules, and read without damage."""
    try:
        document = onionperf_writer.analysis(
            "example",
            [],
            [attrs.evolve(circuit, source="example") for circuit in found],
            [attrs.evolve(stream, source="example") for stream in used],
        )
    except FormatError:
        return
    analysis_rules.check(document)
    assert not of(Damage, read(onionperf_writer.dumps(document, xz=False)))


def test_tpf_of_our_own_document() -> None:
    """The two formats agree on a measurement of ours."""
    (back,) = of(Measurement, read(written(typical())))
    assert back == typical()
    assert list(torperf.write([back])) == list(torperf.write([typical()]))
