"""What results that Perfd did not write itself lack, and how it is made up from what they say.

- ``id``: a hash of source, file size, start and local endpoint. The start counts with two decimals, since that
  is what all formats have in common: a result is the same one whether it comes as .tpf or as an
  OnionPerf analysis, so that the second import recognises it.
- ``experiment``: ``torperf-51200``, ``onionperf-5242880``: the tool and the size.
- ``outcome``: from DIDTIMEOUT and ERRORCODE, see ``conclude``.
- ``server``: onion if the remote endpoint says so, else public, as Tor Metrics counts; None if it is unknown.
- keys of ``extra``: what our own results have no place for, so that it is written again as it was.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from perfd.record import Outcome

DATACOMPLETE = "IMPORTED_DATACOMPLETE"
"""The key of what others wrote as DATACOMPLETE of a run that ended with an error."""

DIDTIMEOUT = "IMPORTED_DIDTIMEOUT"
"""The key of a DIDTIMEOUT that is not what ``published.is_error`` says of the run."""

FILTERED_OUT = "FILTEREDOUT"
"""The key of runs that a filter of OnionPerf's has left out of graphs; 1."""

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


def not_complete(fields: dict[str, Any]) -> None:
    """Take DATACOMPLETE out of the fields of a run that ended with an error, as what we write of it has it."""
    if DATACOMPLETE in fields.get("extra", ()):
        fields["datacomplete"] = None


def conclude(fields: dict[str, Any], didtimeout: bool | None) -> None:
    """Set ``outcome`` and ``server`` in the fields of an imported measurement.

    DIDTIMEOUT=1 is a timeout, but OnionPerf wrote it for every error: where there is an ERRORCODE, it decides.
    Without DIDTIMEOUT (the oldest Torperf), a run that did not complete is a timeout, as Tor Metrics counts.
    Complete, but fewer bytes read than asked for, is a failure.

    For a run that ended badly Torperf's DATACOMPLETE is the time of the signal that ended it and OnionPerf's that
    of the last byte so far. Nothing was complete then, so it is moved to a key of ``extra``, and to ``end``.
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
    fields["outcome"] = outcome
    is_error = outcome is Outcome.TIMEOUT or errorcode is not None
    extra = dict(fields.get("extra", ()))
    if complete is not None and is_error:
        fields["datacomplete"] = None
        extra[DATACOMPLETE] = complete
        if fields.get("end") is None and complete > fields["start"]:
            fields["end"] = complete
    if didtimeout is not None and didtimeout is not is_error:
        extra[DIDTIMEOUT] = int(didtimeout)
    if extra:
        fields["extra"] = extra
    if "endpointremote" not in fields:
        fields["server"] = "public"
    elif (remote := fields["endpointremote"]) is not None:
        fields["server"] = "onion" if ".onion:" in remote else "public"
