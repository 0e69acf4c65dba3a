"""What the readers of published files make of a run: metrics-lib's rules, for both formats, as keys of .tpf."""

from __future__ import annotations

import re
from typing import Any

from perfd.formats import torperf_rules
from tests.support.joins import joined_by_port

STEPS = {
    "SOCKET": "socket-create",
    "CONNECT": "socket-connect",
    "NEGOTIATE": "proxy-choice",
    "REQUEST": "proxy-request",
    "RESPONSE": "proxy-response",
    "DATAREQUEST": "command",
    "DATARESPONSE": "response",
    "DATACOMPLETE": "last-byte-recv",
}
CIRCUIT = {
    "USED_BY": "used_by",
    "USED_AT": "used_at",
    "CIRC_ID": "circ_id",
    "LAUNCH": "launch",
    "PATH": "path",
    "BUILDTIMES": "buildtimes",
    "TIMEOUT": "timeout",
    "QUANTILE": "quantile",
}


def of_document(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Each run of an analysis document, in order of starting; what is missing is left out."""
    (source,) = document["data"].values()
    runs = sorted(source["tgen"]["streams"].values(), key=lambda run: run["unix_ts_start"])
    return [_of_run(run, joined, source) for run, joined in zip(runs, joined_by_port(document), strict=True)]


def _of_run(run: dict[str, Any], joined: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    start, info, elapsed = run["unix_ts_start"], run["stream_info"], run.get("elapsed_seconds", {})
    found: dict[str, Any] = {
        "START": start,
        "FILESIZE": int(info["recvsize"]),
        "DIDTIMEOUT": run["is_error"],
        "READBYTES": int(run["byte_info"]["total-bytes-recv"]),
        "WRITEBYTES": int(run["byte_info"]["total-bytes-send"]),
        **{f"ENDPOINT{end.upper()}": run["transport_info"][end] for end in ("local", "proxy", "remote")},
        "HOSTNAMELOCAL": info["name"],
        "HOSTNAMEREMOTE": info["peername"],
    }
    for key, step in STEPS.items():
        if (microseconds := int(run["time_info"][f"usecs-to-{step}"])) >= 0:
            found[key] = round(start + microseconds / 1e6, 6)
    for share, seconds in elapsed.get("payload_progress_recv", {}).items():
        found[f"DATAPERC{round(float(share) * 100)}"] = round(start + seconds, 6)
    for size, seconds in elapsed.get("payload_bytes_recv", {}).items():
        found[f"PARTIAL{size}"] = round(start + seconds, 6)
    found |= {key: joined[name] for key, name in CIRCUIT.items() if joined.get(name) is not None}
    if info["error"] != "NONE":
        stream = source["tor"]["streams"].get(str(joined.get("used_by")), {})
        reasons = [
            stream[f"failure_reason_{end}"] for end in ("local", "remote") if f"failure_reason_{end}" in stream
        ]
        found["ERRORCODE"] = "/".join(["TOR" if info["error"] == "PROXY" else f"TGEN/{info['error']}", *reasons])
    return found


def of_lines(text: str) -> list[dict[str, Any]]:
    """Each run of a .tpf file that follows the rules, likewise."""
    torperf_rules.check(text)
    found = [_of_line(line) for line in text.splitlines() if not line.startswith("@")]
    return sorted(found, key=lambda run: float(run["START"]))


def _of_line(line: str) -> dict[str, Any]:
    pairs: dict[str, Any] = dict(pair.split("=") for pair in line.split(" "))
    found: dict[str, Any] = {}
    for key, value in pairs.items():
        if re.fullmatch(r"START|LAUNCH|USED_AT|DATAPERC\d+|PARTIAL\d+|QUANTILE", key) or key in STEPS:
            if float(value):
                found[key] = float(value)
        elif key in ("FILESIZE", "READBYTES", "WRITEBYTES", "TIMEOUT", "CIRC_ID", "USED_BY"):
            found[key] = int(value)
        elif key == "DIDTIMEOUT":
            found[key] = value == "1"
        elif key == "PATH":
            found[key] = tuple(value.split(","))
        elif key == "BUILDTIMES":
            found[key] = tuple(map(float, value.split(",")))
        elif key in (
            "ERRORCODE",
            "ENDPOINTLOCAL",
            "ENDPOINTPROXY",
            "ENDPOINTREMOTE",
            "HOSTNAMELOCAL",
            "HOSTNAMEREMOTE",
        ):
            found[key] = value
    return found
