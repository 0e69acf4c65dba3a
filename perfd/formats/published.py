"""What the readers of Torperf's and OnionPerf's formats take a run for: the rules of what they are given.

metrics-lib, metrics-web, OnionPerf's plots and tornettools count everything in these formats as a plain download
through Tor, and know two ways to end badly: timeout and failure.
"""

from __future__ import annotations

from perfd.config.kinds import kind_of
from perfd.formats import imported
from perfd.formats.values import INT32
from perfd.record import Measurement, Outcome

SKIPPED = "skipped slots"
CANCELLED = "cancelled runs"
NOT_PLAIN = "runs that are no plain downloads through Tor"
TOO_LARGE = "runs of 2 GiB and more"
"""What is left out, and why."""


def is_plain(measurement: Measurement) -> bool:
    """Whether it was a single download through a tor: from our own server, not in parallel, not with
    optimistic data, and not over a client that has no circuits to tell of or is no Tor at all.
    """
    if not kind_of(measurement.type).is_archived or measurement.tor == "none":
        return False
    return not _ELSEWISE & measurement.extra.keys() and measurement.extra.get("OPTIMISTIC") != 1


_ELSEWISE = frozenset({"URL", "CLIENT", "PARALLEL"})
"""Keys of runs to other servers, over other clients, and of several streams at once."""


def left_out(measurement: Measurement, *, asked: bool = False) -> str | None:
    """Why the measurement is none for these readers; None if it is one. ``asked``: its type was asked for."""
    if measurement.outcome is Outcome.SKIPPED:
        return SKIPPED
    if asked:
        return None
    if measurement.outcome is Outcome.CANCELLED:
        return CANCELLED
    return None if is_plain(measurement) else NOT_PLAIN


def is_too_large(measurement: Measurement) -> bool:
    """Whether these formats have no number for its sizes."""
    return max(measurement.filesize, measurement.readbytes or 0, measurement.writebytes or 0) > INT32


def is_error(measurement: Measurement) -> bool:
    """Whether it ended with an error: ``is_error`` of an analysis document, and DIDTIMEOUT=1 of a .tpf line.

    metrics-lib makes DIDTIMEOUT=1 of every run of a document that ended with an error, as OnionPerf wrote it
    itself, and metrics-web counts that as a timeout. So that both documents tell the same, both say so of every run
    with an ERRORCODE; OUTCOME says which are timeouts. What others called a failure without an error code, since
    less was read than asked for, stays one, and so does what others have said otherwise.
    """
    if measurement.outcome is Outcome.OK:
        return False
    is_error = measurement.outcome is Outcome.TIMEOUT or measurement.errorcode is not None
    return bool(measurement.extra.get(imported.DIDTIMEOUT, is_error))


def datacomplete(measurement: Measurement) -> float | None:
    """DATACOMPLETE for these readers: of what was imported, as it was, also of a run that ended with an error."""
    if measurement.datacomplete is not None:
        return measurement.datacomplete
    at = measurement.extra.get(imported.DATACOMPLETE)
    return at if isinstance(at, float) else None
