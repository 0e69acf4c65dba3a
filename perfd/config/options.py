"""What an option of a kind of experiment is, and how those are read that no other section has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import attrs

from perfd.config.values import one_of, positive
from perfd.units import parse_size

LONGEST_NAME = 253
"""Bytes of a host's name (RFC 1035, 2.3.4, less what frames it)."""

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

Reader = Callable[[str], Any]
"""Gives the value of a text. Raises ValueError with a message for the operator."""


@attrs.frozen
class Option:
    """An option of ``[experiment:NAME]`` that only some kinds have."""

    name: str  # in perfd.conf
    read: Reader
    default: str | None  # as perfd.conf would say it; None: there is no value unless one is given
    doc: str  # what it means, with its unit
    attribute: str = attrs.field()  # in ``ExperimentConfig.options``: what a run is made with

    @attribute.default
    def _name_in_python(self) -> str:
        return self.name.replace("-", "_")


def number(text: str) -> float:
    """A number over 0, of whatever."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number such as 10 or 0.5") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} must be over 0")
    return value


def web_address(text: str) -> str:
    """The URL of a page. User names in it are refused: they would be in each record."""
    parts = urlsplit(text)  # its ValueError, and that of its port, say what is wrong
    if "@" in parts.netloc:
        raise ValueError("user names and passwords are not taken here: they would be in each record")
    is_plain = text.isprintable() and " " not in text
    is_http = parts.scheme in ("http", "https") and parts.port != 0
    if not (is_plain and is_http and _is_host(parts.hostname or "")):
        raise ValueError(f"{text!r} is not an address like https://example.org/")
    return text


def _is_host(host: str) -> bool:
    """Whether it is an IPv6 address, or a name or IPv4 address that a browser would take (RFC 1035, IDNA)."""
    if ":" in host:
        return True  # urlsplit has looked at it
    try:
        name = host.encode("idna").decode("ascii").removesuffix(".").lower()
        return len(name) <= LONGEST_NAME and all(_is_label(label) for label in name.split("."))
    except UnicodeError:
        return False


def _is_label(label: str) -> bool:
    if label.startswith("xn--"):
        meant = label.removeprefix("xn--").encode("ascii").decode("punycode")
        return meant.isprintable() and not meant.isascii()
    return _LABEL.fullmatch(label) is not None


def size(default: str, doc: str = "the payload, in bytes or with a unit") -> Option:
    """The option ``size``, which most kinds have: the FILESIZE of their records."""
    return Option("size", positive(parse_size), default, doc)


OPTIMISTIC = Option(
    "optimistic",
    one_of(("no", "yes", "both")),
    None,
    "whether the request leaves before the SOCKS reply has come, or both in pairs; not given: no, unrecorded",
)
