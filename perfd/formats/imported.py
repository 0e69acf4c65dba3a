"""What results that Perfd did not write itself lack, and how it is made up from what they say.

- ``id``: a hash of source, file size, start and local endpoint. The start counts with two decimals, since that
  is what all formats have in common: a result is the same one whether it comes as .tpf or as an
  OnionPerf analysis, so that the second import recognises it.
- ``experiment``: ``torperf-51200``, ``onionperf-5242880``: the tool and the size.
- ``outcome``: from DIDTIMEOUT and ERRORCODE, see ``conclude``.
- ``server``: onion if the remote endpoint says so, else public, as Tor Metrics counts; None if it is unknown.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from perfd.record import Outcome

UNKNOWN_TOR = "unknown"
"""The name of the tor of imported circuits and streams."""

UNKNOWN_END = "NULL:0.0.0.0:"
UNKNOWN_ENDPOINT = f"{UNKNOWN_END}0"
UNKNOWN_HOSTNAMES = ("(null)", "(NULL)")
UNKNOWN_ADDRESS = "unknown"

_TIMEOUT_CODES = ("TGEN/TIMEOUT", "TGEN/STALLOUT", "PERFD/TIMEOUT", "PERFD/STALL")


def imported_id(*parts: object) -> str:
    """The same id for the same parts, as long as a ``record.new_id``."""
    return sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]


def measurement_id(source: str, filesize: int, start: str, endpointlocal: str | None) -> str:
    """The id of an imported measurement; ``start`` is text with two decimals.

    It begins with the time, so that the database's index of ids grows at its end: much faster than all over it.
    """
    digest = sha256(f"{source} {filesize} {start} {endpointlocal or ''}".encode()).hexdigest()
    return f"{int(start.replace('.', '')):011x}{digest[:21]}"


def known_endpoint(text: str | None) -> str | None:
    """None for the endpoint that TGen writes when it does not know one, and for such a one with a port."""
    return None if text is None or text.startswith(UNKNOWN_END) else text


def known_hostname(text: str | None) -> str | None:
    """None for the host name that TGen writes when it does not know one."""
    return None if text in UNKNOWN_HOSTNAMES else text


def known_address(text: str | None) -> str | None:
    """None for OnionPerf's unknown address."""
    return None if text == UNKNOWN_ADDRESS else text


def is_timeout(errorcode: str) -> bool:
    """Whether an ERRORCODE, with or without tor's reasons behind it, means that the deadline passed."""
    return "/".join(errorcode.split("/", 2)[:2]) in _TIMEOUT_CODES


def conclude(fields: dict[str, Any], didtimeout: bool | None) -> None:
    """Set ``outcome`` and ``server`` in the fields of an imported measurement.

    DIDTIMEOUT=1 is a timeout, but OnionPerf wrote it for every error: where there is an ERRORCODE, it decides.
    Without DIDTIMEOUT (the oldest Torperf), a run that did not complete is a timeout, as Tor Metrics counts.
    Complete, but fewer bytes read than asked for, is a failure.

    For a run that ended badly Torperf's DATACOMPLETE is the time of the signal that ended it and OnionPerf's that
    of the last byte so far. Nothing was complete then, so it is moved to ``end``.
    """
    errorcode = fields.get("errorcode")
    complete = fields.get("datacomplete")
    if errorcode is not None:
        outcome = Outcome.TIMEOUT if is_timeout(errorcode) else Outcome.FAILED
    elif didtimeout:
        outcome = Outcome.TIMEOUT
    elif complete is None:
        outcome = Outcome.TIMEOUT if didtimeout is None else Outcome.FAILED
    else:
        outcome = Outcome.FAILED if (fields.get("readbytes") or 0) < fields["filesize"] else Outcome.OK
    if complete is not None and (errorcode is not None or didtimeout):
        fields["datacomplete"] = None
        if fields.get("end") is None and complete > fields["start"]:
            fields["end"] = complete
    fields["outcome"] = outcome
    if "endpointremote" not in fields:
        fields["server"] = "public"
    elif (remote := fields["endpointremote"]) is not None:
        fields["server"] = "onion" if ".onion:" in remote else "public"
