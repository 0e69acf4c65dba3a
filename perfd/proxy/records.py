"""What the proxy knows about a connection."""

from __future__ import annotations

from typing import Any

import attrs

from perfd.socks.notes import Notes
from perfd.tor.events.join import UNANNOUNCED, Joined, error_fields, is_vague, tor_fields

TOR_FIELDS = (
    *("used_by", "used_at", "circ_id", "launch", "path", "buildtimes", "timeout", "quantile", "cbt_set", "guard"),
    *("conflux", "conflux_id", "conflux_circ_ids", "conflux_rtt", "cc_ss", "cc_cwnd", "cc_rtt", "cc_min_rtt"),
)
"""The fields of a measurement that tell what tor told about it."""


@attrs.frozen(kw_only=True)
class ProxyConnection:
    """One connection of a program through the proxy, however it ended.

    All times are seconds since the epoch; None: it did not happen. The steps towards tor have Torperf's names.
    ``optimistic`` connections are answered before tor's reply, so ``request`` may be before ``negotiate``. Without
    a SOCKS proxy behind this one, there is no ``negotiate``, ``request``, ``response`` and ``code``.
    """

    number: int  # in the order of arrival at its port, from 1
    client: str | None = None  # the program's end, ip:port
    version: int | None = None  # the SOCKS version that the program speaks
    command: str | None = None  # CONNECT, RESOLVE or RESOLVE_PTR
    host: str | None = None  # where it wants to go, as it said
    port: int | None = None
    answer: str | None = None  # of a RESOLVE or RESOLVE_PTR
    optimistic: bool = False
    username: str | None = None  # what tor was given, for isolation
    start: float  # the program connected
    asked: float | None = None  # its request was complete
    socket: float | None = None  # the socket to the SOCKS port was created
    connect: float | None = None  # it was connected
    negotiate: float | None = None  # SOCKS 5 authentication was negotiated
    request: float | None = None  # the SOCKS request was sent
    response: float | None = None  # the SOCKS reply was received
    replied: float | None = None  # the program was given the reply
    datarequest: float | None = None  # the first byte from the program
    datasent: float | None = None  # the last one
    dataresponse: float | None = None  # the first byte for it
    datacomplete: float | None = None  # the last one
    closed: float | None = None  # the first of both ends began to close
    end: float | None = None  # both were closed
    writebytes: int = 0  # from the program, after its request
    readbytes: int = 0  # for the program, after the reply
    stamps: str | None = None  # by whom what came was stamped: kernel, or user (when we read it)
    closedby: str | None = None  # who closed first: client, remote (tor or what is behind it), or proxy
    how: str | None = None  # closed, reset, refused (the request) or aborted
    code: int | None = None  # tor's reply code, as it came
    localport: int | None = None  # our port towards tor
    errorcode: str | None = None  # TOR/... or PERFD/..., as in a measurement
    reason: str | None = None  # the same in words
    joined: Joined | None = attrs.field(default=None, repr=False)  # what tor told; None without control events

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON; of what tor told, the fields that a measurement has, and both ids."""
        values = attrs.asdict(self, recurse=False)
        joined = values.pop("joined") or Joined()
        values["stream"] = joined.stream.id if joined.stream is not None else None
        values["circuit"] = joined.circuit.id if joined.circuit is not None else None
        return values | dict.fromkeys(TOR_FIELDS) | tor_fields(joined)


def connection_record(notes: Notes, times: dict[str, Any], joined: Joined | None, **known: Any) -> ProxyConnection:
    """The record of a connection that is over, with what is ``known`` besides its notes and ``times``.

    Tor's word counts for more than what could be seen from outside.
    """
    closed_by, how = notes.closed or (None, None)
    errorcode, reason = notes.error or (None, None)
    seen_by_tor = error_fields(joined) if joined is not None else None
    if seen_by_tor is not None and closed_by == "remote" and (errorcode is None or is_vague(errorcode)):
        errorcode, reason = seen_by_tor
    if joined is not None and joined.is_unannounced and errorcode is None and notes.code == 0:
        errorcode, reason = UNANNOUNCED
    return ProxyConnection(
        **times,
        **known,
        closedby=closed_by,
        how=how,
        code=notes.code,
        localport=notes.local_port,
        username=notes.username,
        answer=notes.answer,
        errorcode=errorcode,
        reason=reason,
        joined=joined,
    )


def address_text(address: Any) -> str | None:
    """An address as records have it, ip:port."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return None if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
