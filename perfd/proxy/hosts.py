"""The same host, however it is written: a browser asks its proxy in other words than the URL has."""

from __future__ import annotations

import socket
from unicodedata import normalize

from perfd.tor.events.join import normal_address


def is_same_host(asked: str, host: str) -> bool:
    """Whether ``asked``, as it came to the proxy, is the ``host`` of a URL."""
    return not _spellings(asked).isdisjoint(_spellings(host))


def _spellings(host: str) -> set[str]:
    """How a host may be asked for: an address in its normal form, else its name in ASCII.

    WHATWG's URL standard reads an IPv4 address as ``inet_aton`` does (``127.1``, ``0x7f000001``). Of the names that
    IDNA 2003 and 2008 write differently, browsers use the second (``stra\u00dfe``).
    """
    host = host.strip("[]").lower()
    address = normal_address(host, 0)
    if address is not None:
        return {address[0]}
    try:
        return {socket.inet_ntoa(socket.inet_aton(host))}
    except (OSError, ValueError):
        return {host} if host.isascii() else {_idna_2003(host), _idna_2008(host)} - {""}


def _idna_2003(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _idna_2008(host: str) -> str:
    labels = normalize("NFC", host).split(".")
    return ".".join(each if each.isascii() else "xn--" + each.encode("punycode").decode() for each in labels)
