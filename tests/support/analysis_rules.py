"""What OnionPerf's schema of analysis documents, version 3.1, and metrics-lib demand of what we write.

Members are required, patterns, or values by type. Circuits and Tor streams must not have members beside these.
"""

from __future__ import annotations

import re
from typing import Any

DIGITS = r"[0-9]+"
PERCENT = r"[0-9]+\.[0-9]+%"
MICROSECONDS = r"-1|[0-9]+"
ENDPOINT = r"[^:]+:[0-9.:]+:[0-9]+"
HOP = r"\$[0-9A-Z]{40}~[0-9a-zA-Z]{1,19}"
SHARE = r"[01]\.[0-9]"

BYTE_INFO = {
    **dict.fromkeys([f"{what}-bytes-{way}" for what in ("payload", "total") for way in ("recv", "send")], DIGITS),
    **dict.fromkeys(["payload-progress-recv", "payload-progress-send"], PERCENT),
}
STREAM_INFO = {
    "error": "NONE|PROXY|READ|TIMEOUT|STALLOUT|HEADER|MISC|[A-Z]+",
    "id": DIGITS,
    "name": ".+",
    "peername": ".+",
    "recvsize": DIGITS,
    "sendsize": DIGITS,
    "recvstate": "RECV_(NONE|AUTHENTICATE|HEADER|MODEL|PAYLOAD|CHECKSUM|SUCCESS|ERROR)",
    "sendstate": "SEND_(NONE|COMMAND|RESPONSE|PAYLOAD|CHECKSUM|FLUSH|SUCCESS|ERROR)",
    "vertexid": ".*",
}
TIME_INFO = {
    "created-ts": DIGITS,
    "now-ts": DIGITS,
    **dict.fromkeys(
        [
            f"usecs-to-{step}"
            for step in (
                *("socket-create", "socket-connect", "proxy-init", "proxy-choice", "proxy-request"),
                *("proxy-response", "command", "response", "first-byte-recv", "first-byte-send"),
                *("last-byte-recv", "last-byte-send", "checksum-recv", "checksum-send"),
            )
        ],
        MICROSECONDS,
    ),
}
TRANSPORT_INFO = {
    "error": "NONE|STATUS",
    "fd": "-1|[0-9]+",
    "local": ENDPOINT,
    "proxy": ENDPOINT,
    "remote": ENDPOINT,
    "state": "CONNECT|INIT|CHOICE|REQUEST|RESPONSE_STATUS|SUCCESS_OPEN|SUCCESS_EOF|ERROR",
}
RUN = {
    *("byte_info", "is_complete", "is_error", "is_success", "stream_id", "stream_info", "time_info"),
    *("transport_info", "unix_ts_start", "unix_ts_end"),
}
CIRCUIT = {"circuit_id", "elapsed_seconds", "unix_ts_start", "unix_ts_end", "filtered_out"}
CIRCUIT_OPTIONAL = {
    *("build_quantile", "build_timeout", "buildtime_seconds", "cbt_set", "current_guards", "path"),
    *("failure_reason_local", "failure_reason_remote"),
}
STREAM = {"circuit_id", "elapsed_seconds", "stream_id", "target", "unix_ts_start", "unix_ts_end"}
STREAM_OPTIONAL = {"failure_reason_local", "failure_reason_remote", "source"}
GUARD = {"fingerprint", "nickname", "country", "new_ts", "up_ts", "down_ts", "dropped_ts"}
FILTERS = {"include_fingerprints", "exclude_fingerprints", "exclude_cbt"}


def check(document: dict[str, Any]) -> None:
    """Assert that OnionPerf, metrics-lib and tornettools can read the document."""
    assert document["type"] == "onionperf"
    assert re.fullmatch(r"3\.[1-9]+", document["version"])
    assert document.keys() <= {"type", "version", "data", "filters"}
    for target, filters in document.get("filters", {}).items():
        assert target == "tor/circuits"
        assert all(each["name"] in FILTERS and each.keys() <= {"name", "filepath"} for each in filters)
    for nickname, source in document["data"].items():
        assert re.fullmatch(r"[A-Za-z0-9-]+", nickname)
        assert isinstance(source["measurement_ip"], str)
        for key, run in source["tgen"]["streams"].items():
            check_run(key, run)
        tor = source["tor"]
        check_guards(tor["guards"])
        for key, circuit in tor["circuits"].items():
            check_circuit(key, circuit)
        for key, stream in tor["streams"].items():
            assert STREAM <= stream.keys() <= STREAM | STREAM_OPTIONAL
            assert re.fullmatch(DIGITS, key)
            assert stream["stream_id"] == int(key)
            assert stream["circuit_id"] is None or re.fullmatch(DIGITS, stream["circuit_id"])
            check_events(stream)


def check_run(key: str, run: dict[str, Any]) -> None:
    assert run.keys() >= RUN
    assert run["stream_id"] == key
    for name, patterns in {
        "byte_info": BYTE_INFO,
        "stream_info": STREAM_INFO,
        "time_info": TIME_INFO,
        "transport_info": TRANSPORT_INFO,
    }.items():
        info = run[name]
        assert info.keys() == patterns.keys()
        for member, pattern in patterns.items():
            assert re.fullmatch(pattern, info[member], re.DOTALL), (name, member, info[member])
    transport, times = run["transport_info"], run["time_info"]
    assert key == f"{run['stream_info']['id']}:{transport['fd']}:{transport['local']}:{transport['remote']}"
    assert run["is_complete"] is True
    assert not (run["is_success"] and run["is_error"])
    assert run["is_error"] is (run["stream_info"]["error"] != "NONE")
    assert run["is_success"] is ("elapsed_seconds" in run)
    duration = (int(times["now-ts"]) - int(times["created-ts"])) / 1e6
    assert abs(run["unix_ts_end"] - run["unix_ts_start"] - duration) < 2e-6
    for elapsed, pattern in (("payload_bytes", DIGITS), ("payload_progress", SHARE)):
        for way in ("recv", "send") if run["is_success"] else ():
            for share, seconds in run["elapsed_seconds"][f"{elapsed}_{way}"].items():
                assert re.fullmatch(pattern, share)
                assert seconds == round(seconds, 6)


def check_circuit(key: str, circuit: dict[str, Any]) -> None:
    assert CIRCUIT <= circuit.keys() <= CIRCUIT | CIRCUIT_OPTIONAL
    assert re.fullmatch(DIGITS, key)
    assert circuit["circuit_id"] == int(key)
    assert isinstance(circuit.get("cbt_set", False), bool)
    assert isinstance(circuit["filtered_out"], bool)
    assert isinstance(circuit.get("build_timeout", 0), int)
    check_guards(circuit.get("current_guards", []))
    for seconds in (circuit.get("buildtime_seconds", 0.0), circuit.get("build_quantile", 0.0)):
        assert isinstance(seconds, float)
    check_events(circuit)
    for hop, seconds in circuit.get("path", ()):
        assert re.fullmatch(HOP, hop)
        assert seconds >= 0


def check_guards(guards: list[dict[str, Any]]) -> None:
    for guard in guards:
        assert {"fingerprint"} <= guard.keys() <= GUARD
        for name, value in guard.items():
            assert isinstance(value, float if name.endswith("_ts") else str)


def check_events(item: dict[str, Any]) -> None:
    """Events are text, such as ``PURPOSE:STATUS``, and the seconds since the start."""
    assert isinstance(item["unix_ts_start"], float)
    assert isinstance(item["unix_ts_end"], float)
    for name, seconds in item["elapsed_seconds"]:
        assert isinstance(name, str)
        assert isinstance(seconds, float)
