"""Bridge lines of ``[tor:NAME]`` (tor(1), Bridge): what their transports need in them, which tor does not look at.

Sources: obfs4-spec, "Client and server parameters" as obfs4proxy reads them; snowflake-client's and webtunnel's
READMEs. A transport that is not known here is tor's and its program's affair.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

import attrs

from perfd.config.values import NAME, lines_of

OF_TESTNET = "testnet"
"""Instead of bridge lines: the bridges of the private network."""

TESTNET_TRANSPORTS = ("vanilla", "obfs4")
"""What these take."""

_OBFS4_KEY = 52
"""Bytes of ``cert``: the identity of the bridge, 20, and its public key, 32."""


@attrs.frozen
class Argument:
    """What a transport needs in a bridge line: one of ``names``, which ``is_right`` says of its value."""

    names: tuple[str, ...]
    is_right: Callable[[str], bool]
    example: str


def _is_certificate(text: str) -> bool:
    try:
        return len(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)) == _OBFS4_KEY
    except (binascii.Error, ValueError):
        return False


def _is_url(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/]+(/\S*)?", text) is not None


_ARGUMENTS: Mapping[str, tuple[Argument, ...]] = {
    "obfs4": (
        Argument(("cert",), _is_certificate, "cert=..., 70 characters"),
        Argument(("iat-mode",), lambda text: text in ("0", "1", "2"), "iat-mode=0"),
    ),
    "snowflake": (Argument(("url", "sqsqueue"), _is_url, "url=https://..., its broker"),),
    "webtunnel": (Argument(("url",), _is_url, "url=https://..."),),
    "meek_lite": (Argument(("url",), _is_url, "url=https://..."),),
}


def read_bridges(text: str) -> tuple[str, ...]:
    """Bridge lines, with or without the word Bridge, or ``testnet`` alone. Raises ValueError."""
    bridges = lines_of("Bridge", text)
    if OF_TESTNET in bridges:
        if len(bridges) > 1:
            raise ValueError(f"{OF_TESTNET} stands alone, without bridges of others")
        return bridges
    for bridge in bridges:
        _check(bridge)
    return bridges


def bridges_in(torrc: str) -> tuple[str, ...]:
    """Those that lines of a torrc name and use."""
    lines = [line.split(None, 1) for line in torrc.splitlines()]
    given = [(words[0].lower(), words[1].strip()) for words in lines if len(words) == 2]
    uses = [value for name, value in given if name == "usebridges"][-1:] == ["1"]
    return tuple(value for name, value in given if name == "bridge") if uses else ()


def _check(bridge: str) -> None:
    transport, *words = bridge.split()
    if not NAME.fullmatch(transport.replace("_", "-")):
        return  # an address
    given = dict(word.partition("=")[::2] for word in words if "=" in word)
    for argument in _ARGUMENTS.get(transport, ()):
        values = [given[name] for name in argument.names if name in given]
        if not values:
            raise ValueError(f"a bridge with {transport} needs {argument.example}: {bridge!r}")
        if not all(map(argument.is_right, values)):
            raise ValueError(f"{argument.names[0]} of {transport} must be as in {argument.example}: {bridge!r}")
