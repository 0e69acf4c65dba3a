"""The consensus that a tor on this machine has, read from the file in which it keeps it (dir-spec, 3).

The control port tells neither the parameters of a consensus nor what it says of a relay's version and protocols.
All functions here read files, so they are for a thread of their own.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import attrs

FILES = ("cached-microdesc-consensus", "cached-consensus")
"""The names of it in tor's data directory, one for each flavor; the one that tor does not use is old or missing."""

MOST_BYTES = 32 * 1024 * 1024
"""Of a consensus; that of the public network has about 3 MB."""

MOST_HEAD = 64 * 1024
"""Bytes in which its preamble, with the parameters, is looked for."""

MOST_ENTRY = 4 * 1024
"""Bytes in which what it says of one relay is looked for."""

WATCHED = ("cc_", "cfx_", "cbt", "kist")
"""How the parameters begin, in any case, that are kept: congestion control, Conflux, build timeouts, KIST."""

MOST_PARAMETERS = 200

_PARAMETER = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,49})=(-?[0-9]{1,10})", re.ASCII)
_VALID_AFTER = re.compile(rb"^valid-after (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
_PARAMETERS = re.compile(rb"^params ([ -~]*)$", re.MULTILINE)
_VERSION = re.compile(rb"^v Tor ([0-9A-Za-z.+-]{1,40})(?: [ -~]*)?$", re.MULTILINE)
_RELAY_PROTOCOL = re.compile(rb"^pr (?:[ -~]* )?Relay=([0-9,-]{1,100})(?: [ -~]*)?$", re.MULTILINE)

CGO = 6
"""The version of the subprotocol Relay that stands for Counter Galois Onion (tor-spec, subprotocol versioning)."""


@attrs.frozen
class Consensus:
    """When a consensus became valid, in seconds since the epoch, and those of its parameters that are WATCHED."""

    valid_after: float
    parameters: Mapping[str, int]

    @property
    def text(self) -> str:
        """The parameters as the consensus has them: ``NAME=NUMBER`` in order, with spaces between them."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.parameters.items()))

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that are the same as long as the parameters are."""
        return sha256(self.text.encode()).hexdigest()[:12]

    @property
    def keys(self) -> dict[str, float | str]:
        """The keys of a record."""
        return {"CONSENSUS": self.valid_after, "CONSENSUSPARAMS": self.digest}


@attrs.frozen
class RelayVersion:
    """What a relay runs: tor's version, and whether it can Counter Galois Onion; None for what is not told."""

    version: str | None = None
    cgo: bool | None = None


def parameters_in(text: str) -> dict[str, int]:
    """The WATCHED parameters of a line ``NAME=NUMBER NAME=NUMBER ...``; what else is in it is passed over."""
    found: dict[str, int] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is not None and match[1].lower().startswith(WATCHED) and len(found) < MOST_PARAMETERS:
            found[match[1]] = int(match[2])
    return found


def read_consensus(directory: Path) -> Consensus | None:
    """The consensus that the tor with this data directory has; None if it has none that can be read."""
    heads = [_head(content[:MOST_HEAD]) for content in _contents(directory, MOST_HEAD)]
    known = [head for head in heads if head is not None]
    return max(known, key=lambda head: head.valid_after, default=None)


def read_versions(directory: Path, fingerprints: Iterable[str]) -> dict[str, RelayVersion]:
    """What the consensus says of relays, by their ``fingerprints`` (40 hexadecimal digits); only those it has."""
    newest, content = 0.0, b""
    for each in _contents(directory, MOST_BYTES):
        head = _head(each[:MOST_HEAD])
        if head is not None and head.valid_after > newest:
            newest, content = head.valid_after, each
    found = {fingerprint: version_in(content, fingerprint) for fingerprint in fingerprints}
    return {fingerprint: version for fingerprint, version in found.items() if version is not None}


def version_in(content: bytes, fingerprint: str) -> RelayVersion | None:
    """What a consensus says of one relay; None if it is not in it."""
    identity = b2a_base64(bytes.fromhex(fingerprint), newline=False).rstrip(b"=")
    place = content.find(b" " + identity + b" ")
    if place < 0:
        return None
    entry = content[place : place + MOST_ENTRY].partition(b"\nr ")[0]
    version, protocol = _VERSION.search(entry), _RELAY_PROTOCOL.search(entry)
    return RelayVersion(
        None if version is None else version[1].decode("ascii"),
        None if protocol is None else _includes(protocol[1].decode("ascii"), CGO),
    )


def _includes(ranges: str, number: int) -> bool | None:
    """Whether a number is in ranges such as ``1-2,4``; None if they are none."""
    for each in ranges.split(","):
        low, _, high = each.partition("-")
        if not low.isdigit() or (high and not high.isdigit()) or len(low) > 10 or len(high) > 10:
            return None
        if int(low) <= number <= int(high or low):
            return True
    return False


def _contents(directory: Path, most: int) -> Iterable[bytes]:
    for name in FILES:
        with suppress(OSError), (directory / name).open("rb") as file:
            yield file.read(most)


def _head(content: bytes) -> Consensus | None:
    preamble = content.partition(b"\nr ")[0]
    time = _VALID_AFTER.search(preamble)
    if time is None or not content.startswith(b"network-status-version 3"):
        return None
    try:
        valid_after = datetime.fromisoformat(time[1].decode("ascii")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    parameters = _PARAMETERS.search(preamble)
    return Consensus(valid_after, parameters_in(parameters[1].decode("ascii")) if parameters else {})
