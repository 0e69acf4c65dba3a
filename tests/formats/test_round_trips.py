"""What was imported comes back as it was: from files through a real database into files."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from tests.support import analysis_rules
from tests.support.places import DATA, SHARED
from tests.support.stored import Stored

DAY = 1594598400.0  # 2020-07-13

FINGERPRINTS = ["$" + letter * 40 for letter in "ABC"]


def exported(tmp_path: Path, form: str, *options: str) -> Path:
    directory = tmp_path / f"out-{form}"
    directory.mkdir(exist_ok=True)
    code, _, err = Stored(tmp_path / "instance").perfd(
        "export", "--format", form, "--output", str(directory), *options
    )
    assert code == 0, err
    return directory


def imported(tmp_path: Path, *paths: Path) -> Stored:
    instance = Stored(tmp_path / "instance")
    code, out, err = instance.perfd("import", *paths)
    assert code == 0, out + err
    return instance


def documents(directory: Path) -> list[dict[str, Any]]:
    """The documents of a directory, by day, each by the rules."""
    found = [json.loads(lzma.decompress(path.read_bytes())) for path in sorted(directory.iterdir())]
    for document in found:
        analysis_rules.check(document)
    return found


# .tpf


def pairs(line: str) -> dict[str, Any]:
    """What the pairs of a line mean: times are numbers, lists of them tuples."""
    found: dict[str, Any] = {}
    for pair in line.split(" "):
        key, value = pair.split("=")
        if key == "BUILDTIMES":
            found[key] = tuple(round(float(seconds), 6) for seconds in value.split(","))
        elif value.replace(".", "", 1).isdigit():
            found[key] = float(value)
        else:
            found[key] = value
    return found


# Endings that OnionPerf's and Torperf's files have, as keys of a line; the rest of it is OTHERS.
ENDINGS = [
    "DATACOMPLETE=1475366711.25 DIDTIMEOUT=0",
    "DATACOMPLETE=0.0 DIDTIMEOUT=0",
    "DATACOMPLETE=0.0 DIDTIMEOUT=1",
    "DATACOMPLETE=1475367000.50 DIDTIMEOUT=1",
    "DATACOMPLETE=1475366711.25 DIDTIMEOUT=1 ERRORCODE=TGEN/READ",
    "DATACOMPLETE=1475366711.25 DIDTIMEOUT=1 ERRORCODE=TGEN/TIMEOUT/END/MISC",
    "DATACOMPLETE=0.0 DIDTIMEOUT=1 ERRORCODE=TOR/END/MISC",
    "DATACOMPLETE=1475366711.25 DIDTIMEOUT=0 ERRORCODE=TGEN/STALLOUT",
]
OTHERS = (
    "CONNECT=1475366701.26 DATAREQUEST=1475366705.50 DATARESPONSE=1475366706.25 FILESIZE=51200 "
    "NEGOTIATE=1475366702.00 READBYTES={read} REQUEST=1475366703.00 RESPONSE=1475366704.00 SOCKET=1475366701.25 "
    "SOURCE=moria START={start}.25 WRITEBYTES=75"
)


@pytest.mark.parametrize("data", [DATA, SHARED])
def test_real_tpf(data: Path, tmp_path: Path) -> None:
    """Every pair of every line is there again; what is added is what others write where they know nothing."""
    paths = sorted(data.glob("*.tpf"))
    if not paths:
        pytest.skip("the shared data is not here")
    imported(tmp_path, *paths)
    directory = exported(tmp_path, "tpf")
    for path in paths:
        before = [pairs(line) for line in path.read_text().splitlines() if not line.startswith("@")]
        after = [pairs(line) for line in (directory / path.name).read_text().splitlines() if line[0] != "@"]
        before.sort(key=lambda run: float(run["START"]))
        for old, new in zip(before, after, strict=True):
            assert old.items() <= new.items()


def test_every_ending_of_a_tpf_line(tmp_path: Path) -> None:
    """DATACOMPLETE and DIDTIMEOUT come back, of errors too, and again after a second round."""
    lines = [
        f"{OTHERS.format(read=read, start=1475366701 + 2 * n + more)} {ending}"
        for n, ending in enumerate(ENDINGS)
        for more, read in enumerate((51300, 1000))
    ]
    path = tmp_path / "x.tpf"
    path.write_text("".join(f"@type torperf 1.1\n{line}\n" for line in lines))
    for _ in range(2):
        imported(tmp_path, path)
        (path,) = exported(tmp_path, "tpf").iterdir()
        after = [pairs(line) for line in path.read_text().splitlines() if line[0] != "@"]
        for line, new in zip(lines, after, strict=True):
            assert pairs(line).items() <= new.items()
        (tmp_path / "instance" / "perfd.sqlite").unlink()


def test_endings_of_a_tpf_line_in_a_document(tmp_path: Path) -> None:
    """A document that is made of it has the same for metrics-lib: is_error and the last byte."""
    lines = [f"{OTHERS.format(read=51300, start=1475366701 + n)} {ending}" for n, ending in enumerate(ENDINGS)]
    path = tmp_path / "x.tpf"
    path.write_text("".join(f"@type torperf 1.1\n{line}\n" for line in lines))
    imported(tmp_path, path)
    (document,) = documents(exported(tmp_path, "onionperf"))
    runs = sorted(document["data"]["moria"]["tgen"]["streams"].values(), key=lambda run: run["unix_ts_start"])
    for line, run in zip(map(pairs, lines), runs, strict=True):
        assert run["is_error"] is (line["DIDTIMEOUT"] == 1)
        last = int(run["time_info"]["usecs-to-last-byte-recv"])
        complete = line["DATACOMPLETE"] and round((line["DATACOMPLETE"] - line["START"]) * 1e6)
        assert last == (complete or -1)


# Documents


EXCERPT, WHOLE = DATA / "op-nl2.onionperf-2.0.analysis.json", SHARED / "op-nl2.onionperf-2.0.analysis.json.xz"


@pytest.mark.parametrize("path", [EXCERPT, WHOLE])
def test_real_document(path: Path, tmp_path: Path) -> None:
    """All that OnionPerf 2.0 says of its runs, circuits and streams is in the document of 3.1."""
    if not path.exists():
        pytest.skip("the shared data is not here")
    imported(tmp_path, path)
    content = path.read_bytes()
    old = json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)["data"]["op-nl2"]
    (document,) = documents(exported(tmp_path, "onionperf"))
    new = document["data"]["op-nl2"]
    for table in ("circuits", "streams"):
        assert new["tor"][table].keys() == old["tor"][table].keys()
        for key, item in old["tor"][table].items():
            assert rounded(item).items() <= rounded(new["tor"][table][key]).items()
    runs = {run["unix_ts_start"]: run for run in new["tgen"]["streams"].values()}
    assert len(runs) == len(old["tgen"]["transfers"])
    for transfer in old["tgen"]["transfers"].values():
        assert said_by_transfer(transfer) == said_by_stream(runs[round(transfer["unix_ts_start"], 6)])


def rounded(value: Any) -> Any:
    """A value with its seconds to the microsecond, as all writers since 3.0 have them."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(member) for key, member in value.items()}
    return [rounded(member) for member in value] if isinstance(value, list) else value


STEPS = {
    **{step: step for step in ("socket_create", "socket_connect", "proxy_init", "proxy_choice", "proxy_request")},
    **{step: step for step in ("proxy_response", "command", "response")},
    "first_byte": "first_byte_recv",
    "last_byte": "last_byte_recv",
    "checksum": "checksum_recv",
}


def said_by_transfer(run: dict[str, Any]) -> dict[str, Any]:
    """What version 2.0 says of a run."""
    elapsed = run["elapsed_seconds"]
    return rounded(  # type: ignore[no-any-return]
        {
            "ends": [run["unix_ts_start"], run["unix_ts_end"]],
            "error": run["error_code"],
            "flags": [run["is_error"], run["is_success"]],
            "places": [run[f"endpoint_{end}"] for end in ("local", "proxy", "remote")],
            "names": [run[f"hostname_{end}"].lower() for end in ("local", "remote")],
            "bytes": [run["total_bytes_read"], run["total_bytes_write"], run["payload_bytes_status"]],
            "size": run["filesize_bytes"],
            "steps": {name: elapsed[step] for step, name in STEPS.items() if step in elapsed},
            "progress": elapsed.get("payload_progress", {}),
            "partial": elapsed.get("payload_bytes", {}),
        }
    )


def said_by_stream(run: dict[str, Any]) -> dict[str, Any]:
    """The same of a run of version 3.1."""
    info, places, sizes = run["stream_info"], run["transport_info"], run["byte_info"]
    times = {key.removeprefix("usecs-to-").replace("-", "_"): value for key, value in run["time_info"].items()}
    elapsed = run.get("elapsed_seconds", {})
    return rounded(  # type: ignore[no-any-return]
        {
            "ends": [run["unix_ts_start"], run["unix_ts_end"]],
            "error": info["error"],
            "flags": [run["is_error"], run["is_success"]],
            "places": [places[end] for end in ("local", "proxy", "remote")],
            "names": [info[name] for name in ("name", "peername")],
            "bytes": [int(sizes[key]) for key in ("total-bytes-recv", "total-bytes-send", "payload-bytes-recv")],
            "size": int(info["recvsize"]),
            "steps": {name: int(times[name]) / 1e6 for name in STEPS.values() if times[name] != "-1"},
            "progress": elapsed.get("payload_progress_recv", {}),
            "partial": elapsed.get("payload_bytes_recv", {}),
        }
    )


GUARD = {
    "fingerprint": "A" * 40,
    "nickname": "first",
    "country": "nl",
    "new_ts": DAY - 86400.0,
    "up_ts": DAY + 5.5,
    "down_ts": DAY + 3.25,
}
FILTERS = {"tor/circuits": [{"name": "exclude_fingerprints", "filepath": "/home/op/relays.txt"}]}


def onionperf_run(n: int, start: float, **changes: Any) -> dict[str, Any]:
    """A run as OnionPerf 1.1 writes it: its first byte is not the moment of its first progress."""
    local, remote = f"localhost:127.0.0.1:{40000 + n}", "192.0.2.1:192.0.2.1:8080"
    times = {
        "socket-create": 11,
        "socket-connect": 210,
        "proxy-init": 283,
        "proxy-choice": 348,
        "proxy-request": 412,
        "proxy-response": 400_123,
        "command": 400_456,
        "response": 1_000_000,
        "first-byte-recv": 1_084_000,
        "last-byte-recv": 2_500_000,
        "checksum-recv": 2_500_100,
        **dict.fromkeys(("first-byte-send", "last-byte-send", "checksum-send"), -1),
    }
    run: dict[str, Any] = {
        "byte_info": {
            "payload-bytes-recv": "51200",
            "payload-bytes-send": "0",
            "payload-progress-recv": "100.00%",
            "payload-progress-send": "100.00%",
            "total-bytes-recv": "51300",
            "total-bytes-send": "90",
        },
        "elapsed_seconds": {
            "payload_bytes_recv": {"10240": 1.5, "51200": 2.4},
            "payload_bytes_send": {},
            "payload_progress_recv": {"0.0": 1.465, "1.0": 2.4},
            "payload_progress_send": {},
        },
        "is_complete": True,
        "is_error": False,
        "is_success": True,
        "stream_id": f"{n}:-1:{local}:{remote}",
        "stream_info": {
            "error": "NONE",
            "id": str(n),
            "name": "op",
            "peername": "server",
            "recvsize": "51200",
            "recvstate": "RECV_SUCCESS",
            "sendsize": "0",
            "sendstate": "SEND_SUCCESS",
            "vertexid": "onionperf-51200",
        },
        "time_info": {
            "created-ts": str(round(start * 1e6)),
            "now-ts": str(round(start * 1e6) + 2_500_200),
            **{f"usecs-to-{step}": str(at) for step, at in times.items()},
        },
        "transport_info": {
            "error": "NONE",
            "fd": "-1",
            "local": local,
            "proxy": "localhost:127.0.0.1:9050",
            "remote": remote,
            "state": "SUCCESS_OPEN",
        },
        "unix_ts_end": round(start + 2.5002, 6),
        "unix_ts_start": start,
    }
    return {**run, **changes}


def onionperf_error(n: int, start: float, error: str) -> dict[str, Any]:
    """A run that ended early, with the last byte that came."""
    run = onionperf_run(n, start, is_error=True, is_success=False)
    del run["elapsed_seconds"]
    run["stream_info"] |= {"error": error, "recvstate": "RECV_PAYLOAD"}
    run["byte_info"] |= {"payload-bytes-recv": "10240", "payload-progress-recv": "20.00%"}
    run["time_info"] |= {"usecs-to-last-byte-recv": "1700000", "usecs-to-checksum-recv": "-1"}
    return run


def tor_stream(n: int, start: float) -> dict[str, Any]:
    return {
        "circuit_id": str(n),
        "elapsed_seconds": [["USER:NEW", 0.0], ["USER:SENTCONNECT", 0.25], ["USER:CLOSED", 2.5]],
        "source": f"127.0.0.1:{40000 + n}",
        "stream_id": 100 + n,
        "target": "192.0.2.1:8080",
        "unix_ts_start": start + 0.25,
        "unix_ts_end": start + 2.75,
    }


def tor_circuit(n: int, launch: float, **more: Any) -> dict[str, Any]:
    return {
        "build_quantile": 0.8,
        "build_timeout": 1500 + n,
        "buildtime_seconds": 0.75,
        "circuit_id": n,
        "elapsed_seconds": [["GENERAL:LAUNCHED", 0.0], ["GENERAL:BUILT", 0.75], ["GENERAL:CLOSED", 600.0]],
        "path": [[f"{relay}~relay{n}", 0.25 * (k + 1)] for k, relay in enumerate(FINGERPRINTS)],
        "unix_ts_start": launch,
        "unix_ts_end": launch + 600.0,
        **more,
    }


def onionperf_document() -> dict[str, Any]:
    """Six runs of which three are plotted: one has no circuit, two have filtered ones. One ends after midnight."""
    starts = [DAY + 3600.0 * n + 0.25 for n in range(1, 6)] + [DAY + 86399.5]
    runs = [onionperf_run(n, start) for n, start in enumerate(starts, 1)]
    runs[1] = onionperf_error(2, starts[1], "READ")
    runs[4] = onionperf_error(5, starts[4], "TIMEOUT")
    guards = {"current_guards": [GUARD]}
    circuits = [
        tor_circuit(1, starts[0] - 30.0, cbt_set=True, filtered_out=False, **guards),
        tor_circuit(2, starts[1] - 30.0, cbt_set=False, filtered_out=True, **guards),
        tor_circuit(3, starts[2] - 30.0, filtered_out=True),
        tor_circuit(5, starts[4] - 30.0, filtered_out=False),
        tor_circuit(6, DAY + 86400.25, cbt_set=True, filtered_out=False),
        tor_circuit(7, DAY - 300.0, cbt_set=True, filtered_out=False),  # nobody used these
        tor_circuit(8, DAY + 86500.0, filtered_out=True),
    ]
    streams = [tor_stream(n, start) for n, start in enumerate(starts, 1) if n != 4]
    source = {
        "measurement_ip": "192.0.2.7",
        "tgen": {"streams": {run["stream_id"]: run for run in runs}},
        "tor": {
            "circuits": {str(circuit["circuit_id"]): circuit for circuit in circuits},
            "guards": [GUARD, {"fingerprint": "B" * 40, "nickname": "second", "dropped_ts": DAY + 7.0}],
            "streams": {str(stream["stream_id"]): stream for stream in streams},
        },
    }
    return {"type": "onionperf", "version": "3.1", "data": {"op": source}, "filters": FILTERS}


def written(tmp_path: Path, document: dict[str, Any]) -> Path:
    path = tmp_path / "2020-07-13.onionperf.analysis.json"
    path.write_text(json.dumps(document))
    return path


def test_document_with_all_that_there_is(tmp_path: Path) -> None:
    """It comes back with every member: filters and marks, guards, first bytes, circuits after midnight."""
    document = onionperf_document()
    analysis_rules.check(document)
    imported(tmp_path, written(tmp_path, document))
    (found,) = documents(exported(tmp_path, "onionperf"))
    for run in found["data"]["op"]["tgen"]["streams"].values():
        assert run.pop("perfd")["network"] is None if "network" in run["perfd"] else run.pop("perfd")
        # How far TGen was, in its own words, is not kept.
        of_run = document["data"]["op"]["tgen"]["streams"][run["stream_id"]]
        run["stream_info"]["sendstate"] = of_run["stream_info"]["sendstate"]
    assert found == document


def plotted(document: dict[str, Any]) -> int:
    """The runs of which OnionPerf makes graphs: those whose circuit is known and not filtered out."""
    (source,) = document["data"].values()
    count = 0
    for run in source["tgen"]["streams"].values():
        port = run["transport_info"]["local"].rpartition(":")[2]
        streams = [s for s in source["tor"]["streams"].values() if s["source"].rpartition(":")[2] == port]
        circuits = [source["tor"]["circuits"][s["circuit_id"]] for s in streams]
        count += any(not circuit["filtered_out"] for circuit in circuits)
    return count


def test_filtered_runs(tmp_path: Path) -> None:
    """Three of six are plotted, before and after; results, exports and what is read of them can leave them out."""
    document = onionperf_document()
    assert plotted(document) == 3
    instance = imported(tmp_path, written(tmp_path, document))
    assert [run.extra.get("FILTEREDOUT") for run in instance.measurements()] == [None, 1, 1, 1, None, None]
    (found,) = documents(exported(tmp_path, "onionperf"))
    assert plotted(found) == 3
    for asked, number in (("no", 3), ("yes", 3)):
        _, out, _ = instance.perfd("export", "--format", "json", "--filtered", asked)
        assert len(out.splitlines()) == number
        assert ("FILTEREDOUT" in out) is (asked == "yes")
    _, out, _ = instance.perfd("results", "--json", "--filtered", "no")
    assert len(json.loads(out)["results"]) == 3


def test_a_filtered_document_of_our_own(tmp_path: Path) -> None:
    """OnionPerf's filter on a document of ours: the marks are kept, the runs are the same."""
    imported(tmp_path, written(tmp_path, onionperf_document() | {"filters": {}}))
    (ours,) = documents(exported(tmp_path, "onionperf"))
    for circuit in ours["data"]["op"]["tor"]["circuits"].values():
        circuit["filtered_out"] = circuit["circuit_id"] == 5
    (tmp_path / "instance" / "perfd.sqlite").unlink()
    instance = imported(tmp_path, written(tmp_path, ours | {"filters": FILTERS}))
    assert [run.extra.get("FILTEREDOUT") for run in instance.measurements()][4] == 1


def test_documents_of_neighbouring_days(tmp_path: Path) -> None:
    """Each circuit is in the document of its day, once; what nobody used does not come twice."""
    first = onionperf_document()
    second = onionperf_document()
    source = second["data"]["op"]
    for run in source["tgen"]["streams"].values():
        run["unix_ts_start"] += 86400.0
        run["unix_ts_end"] += 86400.0
    for table in ("circuits", "streams"):
        for item in source["tor"][table].values():
            item["unix_ts_start"] += 86400.0
            item["unix_ts_end"] += 86400.0
    path = tmp_path / "2020-07-14.onionperf.analysis.json"
    path.write_text(json.dumps(second))
    imported(tmp_path, written(tmp_path, first), path)
    found = documents(exported(tmp_path, "onionperf"))
    assert [len(document["data"]["op"]["tgen"]["streams"]) for document in found] == [6, 6]
    launched = [
        [circuit["unix_ts_start"] - DAY for circuit in document["data"]["op"]["tor"]["circuits"].values()]
        for document in found
    ]
    assert {-300.0, 86400.25} < set(launched[0])  # the one before the first day, and the one that a run used
    assert {86100.0, 86500.0} <= set(launched[0] + launched[1])
    assert 86500.0 not in launched[0]


@pytest.mark.parametrize("wrong", [{"filters": {"x": float("nan")}}, {"filters": 5}])
def test_damaged_filters(wrong: dict[str, Any], tmp_path: Path) -> None:
    """They cost themselves."""
    instance = Stored(tmp_path / "instance")
    code, _, err = instance.perfd("import", written(tmp_path, onionperf_document() | wrong))
    assert (code, err.count("filters: ")) == (1, 1)
    assert len(instance.measurements()) == 6
