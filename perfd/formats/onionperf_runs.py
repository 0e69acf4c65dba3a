"""A run in OnionPerf's analysis documents: a member of ``tgen.transfers`` until 2.0, of ``tgen.streams`` since 3.0.

What is read are fields of a measurement, and ``error``: the beginning of its ERRORCODE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from perfd.formats import imported
from perfd.formats.json_object import JsonObject
from perfd.formats.values import INT32, LATEST

STEPS: Mapping[str, tuple[str, str]] = {
    "socket": ("socket_create", "usecs-to-socket-create"),
    "connect": ("socket_connect", "usecs-to-socket-connect"),
    "negotiate": ("proxy_choice", "usecs-to-proxy-choice"),
    "request": ("proxy_request", "usecs-to-proxy-request"),
    "response": ("proxy_response", "usecs-to-proxy-response"),
    "datarequest": ("command", "usecs-to-command"),
    "dataresponse": ("response", "usecs-to-response"),
}
"""The steps of a run and their names in transfers (seconds) and streams (microseconds)."""


TGEN_STEPS: Mapping[str, tuple[str, str]] = {
    "PROXYINIT": ("proxy_init", "usecs-to-proxy-init"),
    "FIRSTBYTE": ("first_byte", "usecs-to-first-byte-{way}"),
    "CHECKSUM": ("checksum", "usecs-to-checksum-{way}"),
}
"""Further steps of TGen's, by their keys in ``extra``: Torperf and Perfd have none of these."""


def needed(item: JsonObject, key: str, take: Callable[[str], Any]) -> Any:
    """The member ``key`` of ``item``, which must be there. Raises FormatError."""
    value = take(key)
    if value is None:
        raise item.wrong(key, "the member is missing")
    return value


def transfer(item: JsonObject) -> dict[str, Any]:
    """The fields of a run of versions 1.0 and 2.0."""
    elapsed = item.object("elapsed_seconds")
    start = needed(item, "unix_ts_start", item.time)
    code = item.text("error_code")
    return {
        "error": _error(code, item.flag("is_error")),
        "type": "upload" if item.text("method") == "PUT" else "download",
        "filesize": _size(item, "filesize_bytes"),
        "start": start,
        "end": item.time("unix_ts_end"),
        **{name: _at(elapsed, key, start) for name, (key, _) in STEPS.items()},
        "datacomplete": _at(elapsed, "last_byte", start),
        "dataperc": _progress(elapsed.object("payload_progress"), start),
        "partial": _partial(elapsed.object("payload_bytes"), start),
        "writebytes": item.integer("total_bytes_write"),
        "readbytes": item.integer("total_bytes_read"),
        "payloadbytes": item.integer("payload_bytes_status"),
        "extra": _known({key: _at(elapsed, name, start) for key, (name, _) in TGEN_STEPS.items()}),
        **_ends(item, "endpoint_", "hostname_local", "hostname_remote", item),
    }


def tgen_stream(item: JsonObject) -> dict[str, Any]:
    """The fields of a run since version 3.0."""
    times, info, sizes = item.object("time_info"), item.object("stream_info"), item.object("byte_info")
    start = needed(item, "unix_ts_start", item.time)
    upload = not info.integer("recvsize") and bool(info.integer("sendsize"))
    way = "send" if upload else "recv"
    elapsed = item.object("elapsed_seconds")
    return {
        "error": _error(info.text("error"), item.flag("is_error")),
        "type": "upload" if upload else "download",
        "filesize": _size(info, f"{way}size"),
        "start": start,
        "end": item.time("unix_ts_end"),
        **{name: _at(times, key, start) for name, (_, key) in STEPS.items()},
        "datacomplete": _at(times, f"usecs-to-last-byte-{way}", start),
        "dataperc": _progress(elapsed.object(f"payload_progress_{way}"), start),
        "partial": _partial(elapsed.object(f"payload_bytes_{way}"), start),
        "writebytes": sizes.integer("total-bytes-send"),
        "readbytes": sizes.integer("total-bytes-recv"),
        "payloadbytes": sizes.integer(f"payload-bytes-{way}"),
        "extra": _known({key: _at(times, name.format(way=way), start) for key, (_, name) in TGEN_STEPS.items()}),
        **_ends(item.object("transport_info"), "", "name", "peername", info),
    }


def _known(times: Mapping[str, float | None]) -> dict[str, float]:
    return {key: at for key, at in times.items() if at is not None}


def _ends(transport: JsonObject, prefix: str, name: str, peername: str, names: JsonObject) -> dict[str, Any]:
    return {
        "endpointlocal": imported.known_endpoint(transport.text(f"{prefix}local")),
        "endpointproxy": imported.known_endpoint(transport.text(f"{prefix}proxy")),
        "endpointremote": imported.known_endpoint(transport.text(f"{prefix}remote")),
        "hostnamelocal": imported.known_hostname(names.text(name)),
        "hostnameremote": imported.known_hostname(names.text(peername)),
    }


def _size(item: JsonObject, key: str) -> int:
    size = needed(item, key, item.integer)
    if not 0 <= size <= INT32:
        raise item.wrong(key, "a size is expected")
    return int(size)


def _error(code: str | None, is_error: bool | None) -> str | None:
    """The beginning of ERRORCODE, as metrics-lib writes it; None for a run that went well."""
    if code in (None, "NONE") and not is_error:
        return None
    return "TOR" if code == "PROXY" else f"TGEN/{code or 'MISC'}"


def _at(times: JsonObject, key: str, start: float) -> float | None:
    """The time of a step: seconds since the start, or microseconds; negative ones are missing."""
    if key.startswith("usecs-"):
        microseconds = times.integer(key)
        seconds = None if microseconds is None else microseconds / 1e6
    else:
        seconds = times.number(key)
    if seconds is None or seconds < 0.0:
        return None
    if start + seconds >= LATEST:
        raise times.wrong(key, "the number is out of range")
    return round(start + seconds, 6)


def _progress(elapsed: JsonObject, start: float) -> dict[int, float]:
    """``{"0.1": seconds}`` as ``{10: time}``."""
    times = {}
    for key in elapsed.members:
        if not re.fullmatch(r"[01]\.[0-9]{1,4}", key) or (percent := round(float(key) * 100)) > 100:
            raise elapsed.wrong(key, "the key is not a share between 0.0 and 1.0")
        times[percent] = _at(elapsed, key, start)
    return {percent: at for percent, at in times.items() if at is not None}


def _partial(elapsed: JsonObject, start: float) -> dict[int, float]:
    """``{"10240": seconds}`` as ``{10240: time}``."""
    for key in elapsed.members:
        if not re.fullmatch(r"[0-9]{1,10}", key):
            raise elapsed.wrong(key, "the key is not a number of bytes")
    times = {int(key): _at(elapsed, key, start) for key in elapsed.members}
    return {size: at for size, at in times.items() if at is not None}
