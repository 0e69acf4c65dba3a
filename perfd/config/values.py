"""How the values of perfd.conf are read: each function takes the text of an option, and raises ValueError."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs

from perfd.config.named_files import read_named
from perfd.units import parse_duration, parse_size

GUARD_ORDERS = ("fast", "slow", "fastratio", "slowratio")
"""Torperf's ways to choose guards: by consensus weight, or by its ratio to what the relay advertises."""

MOST_NUMBER = 999_999_999
"""The largest number of things."""

FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})(?:[~=][A-Za-z0-9]{1,19})?", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


@attrs.frozen
class Address:
    """A host (name or IP address, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_any(self) -> bool:
        return self.host in ("0.0.0.0", "::")


@attrs.frozen
class GuardPolicy:
    """What ``guards`` says: ``default``, ``none``, one of the four orders, or ``fixed`` with ``fingerprints``."""

    mode: str = "default"
    fingerprints: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> GuardPolicy:
        """Raises ``ValueError`` with a message for the operator."""
        text = text.strip()
        if text in ("default", "none", *GUARD_ORDERS):
            return cls(text)
        names = [name.strip() for name in text.split(",") if name.strip()]
        matches = [FINGERPRINT.fullmatch(name) for name in names]
        fingerprints = tuple(dict.fromkeys(match.group(1).upper() for match in matches if match is not None))
        if not names or None in matches:
            raise ValueError(
                f"{text!r} is not default, none, {', '.join(GUARD_ORDERS)} or fingerprints of 40 digits"
            )
        return cls("fixed", fingerprints)

    def __str__(self) -> str:
        return ",".join(self.fingerprints) if self.mode == "fixed" else self.mode


@attrs.frozen
class Arm:
    """What is different: lines of a torrc, another binary, options of the experiment."""

    name: str
    torrc: tuple[str, ...] = ()
    binary: str | None = None
    options: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def tor(self) -> tuple[tuple[str, ...], str | None]:
        """What a tor must be launched with to be of this arm."""
        return self.torrc, self.binary

    @classmethod
    def parse(cls, text: str) -> Arm:
        """``NAME=ITEM; ITEM``: a line of a torrc, ``binary=PATH``, or ``OPTION=VALUE`` of the experiment.

        Raises ValueError.
        """
        name, equals, rest = (part.strip() for part in text.partition("="))
        if not equals or not NAME.fullmatch(name):
            raise ValueError(f"{text!r} is not NAME=OPTIONS; a name has letters, digits and hyphens")
        torrc, options = [], {}
        for item in filter(None, (part.strip() for part in rest.split(";"))):
            if match := re.fullmatch(r"([a-z][a-z-]*)\s*=\s*(.*)", item):
                options[match.group(1)] = match.group(2)
            else:
                torrc.append(item)
        return cls(name, tuple(torrc), options.pop("binary", None), options)


def per_cent(text: str) -> float:
    """``3%`` as 0.03."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a percentage such as 3%")
    return float(match.group(1)) / 100


def rate(text: str) -> int | None:
    """Bytes per second, with or without ``/s``; None is no bound (``none``)."""
    if text == "none":
        return None
    bytes_per_second = parse_size(text.removesuffix("/s"))
    if not bytes_per_second:
        raise ValueError("must be more than 0, or none")
    return bytes_per_second


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """One of ``words``."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return read


def words(most: int) -> Callable[[str], str]:
    """Text of at most so many characters, its lines put together."""

    def read(text: str) -> str:
        found = " ".join(text.split())
        if len(found) > most:
            raise ValueError(f"has {len(found)} characters; there is room for {most}")
        return found

    return read


def several_of(words: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """One or more of ``words``, with commas between."""

    def read(text: str) -> tuple[str, ...]:
        return tuple(one_of(words)(word) for word in names(text))

    return read


def names(text: str) -> tuple[str, ...]:
    """One or more words, with commas between; each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("at least one name is needed")
    return names


def a_name(text: str) -> str:
    """A name as sources, tors and experiments have it."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} must be letters, digits and hyphens, at most 64")
    return text


def yes_or_no(text: str) -> bool:
    """True for yes."""
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def lines(text: str) -> tuple[str, ...]:
    """The lines that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def lines_of(keyword: str, text: str) -> tuple[str, ...]:
    """The lines that are not empty, without the torrc's ``keyword`` that a pasted one begins with."""
    return tuple(
        line.split(None, 1)[1] if line.lower().startswith(f"{keyword.lower()} ") else line for line in lines(text)
    )


def provided_transports(plugins: Iterable[str]) -> set[str]:
    """The transports that plugin lines (``obfs4,obfs3 exec PROGRAM``, or ``socks5 HOST:PORT``) provide."""
    return {name for plugin in plugins for name in plugin.split()[0].split(",")}


def plugins_beside(directory: Path, text: str) -> tuple[str, ...]:
    """Lines for ClientTransportPlugin; the path of a program is relative to ``directory``."""
    found = []
    for line in lines_of("ClientTransportPlugin", text):
        words = line.split()
        if words[1:2] == ["exec"] and len(words) > 2:
            words[2] = path_beside(directory, words[2])
        found.append(" ".join(words))
    return tuple(found)


def path_beside(directory: Path, text: str) -> str:
    """The name of a program to be looked for, or a path, which is relative to ``directory``."""
    nonempty(text)
    return str(directory / text) if "/" in text else text


def transport_of(bridges: tuple[str, ...]) -> str | None:
    """The transport of bridge lines: the first word, unless that is an address; ``vanilla`` is Tor's own word."""
    if not bridges:
        return None
    first = bridges[0].split()[0]
    return first if NAME.fullmatch(first) else "vanilla"


def nonempty(text: str) -> str:
    """Any text."""
    if not text:
        raise ValueError("must not be empty")
    return text


def contact(text: str) -> str:
    """How to reach an operator: a mail or web address, as it stands in requests."""
    if not re.fullmatch(r"[\x21-\x27\x2a-\x7e]{1,200}", text):
        raise ValueError(f"{text!r} is not one word, such as a mail address or https://example.org/perfd")
    return text


def whole_number(text: str) -> int:
    """A number of things."""
    return between(0, MOST_NUMBER)(text)


def between(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, which is at most ``MOST_NUMBER``."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", text, re.ASCII):
            raise ValueError(f"{text!r} is not a whole number")
        if len(text) > len(str(MOST_NUMBER)) or not low <= int(text) <= high:
            raise ValueError(f"must be {low} to {high}")
        return int(text)

    return read


def whole_days(text: str) -> int:
    """A duration in days."""
    days = parse_duration(text) / 86400
    if days < 1 or days != int(days):
        raise ValueError(f"{text!r} is not a whole number of days, such as 14 d")
    return int(days)


def positive(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """What ``read`` gives, if it is greater than 0."""

    def read_positive(text: str) -> Any:
        value = read(text)
        if value <= 0:
            raise ValueError("must be greater than 0")
        return value

    return read_positive


def address(text: str) -> Address:
    """Host and port."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", text, re.ASCII)
    if match is None or not 0 < int(match.group(3)) < 65536:
        raise ValueError(f"{text!r} is not an address such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match.group(1) or match.group(2), int(match.group(3)))


@attrs.frozen
class SOCKSAddress:
    """Where a SOCKS proxy is, which version it speaks (4 or 5), and who we are to it."""

    address: Address
    version: int = 5
    login: tuple[str, str] | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return f"socks{self.version}://{self.address}"


def socks_address(text: str) -> SOCKSAddress:
    """``socks4``, ``socks4a``, ``socks5`` or ``socks5h``, ``://``, user and password with ``@``, host and port.

    Host and port alone are SOCKS 5. User and password may be percent-encoded. The proxy resolves names in all of
    these; so 4 and 4a, and 5 and 5h, are the same.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "socks5", text
    if scheme.lower() not in _SOCKS_VERSIONS:
        raise ValueError(f"{scheme!r} is not one of {', '.join(_SOCKS_VERSIONS)}")
    version = _SOCKS_VERSIONS[scheme.lower()]
    credentials, at, place = rest.rpartition("@")
    user, colon, password = (unquote(part) for part in credentials.partition(":"))
    if at and not user:
        raise ValueError("a user name is needed before the @")
    if version == 4 and colon:
        raise ValueError("SOCKS 4 has a user name, but no password")
    if any(len(part.encode()) > 255 or "\0" in part for part in (user, password)):
        raise ValueError("user name and password must have at most 255 bytes, and no NUL")
    return SOCKSAddress(address(place.removesuffix("/")), version, (user, password) if at else None)


_SOCKS_VERSIONS = {"socks4": 4, "socks4a": 4, "socks5": 5, "socks5h": 5}


def ports(text: str) -> tuple[int, ...]:
    """TCP ports, with commas between; 0 is any free one."""
    found = tuple(whole_number(word.strip()) for word in text.split(",") if word.strip())
    if any(port > 65535 for port in found) or len(found) > 4:
        raise ValueError(f"{text!r} is not a list of up to four ports such as 8081, 8082")
    return found


def control_port(text: str) -> str:
    """The control port of a tor: host and port, or the path of its socket, as it stands or behind ``unix:``."""
    if "/" not in text:
        address(text)
    return text


def control_port_beside(directory: Path, text: str) -> str:
    """The same; a path is relative to ``directory``."""
    control = control_port(text)
    return str(directory / control.removeprefix("unix:")) if "/" in control else control


def password_in(directory: Path, name: str) -> str:
    """The password in the first line of the file ``name``, which is relative to ``directory``."""
    try:
        password = read_named(directory / name, _LONGEST_PASSWORD).partition("\n")[0].rstrip("\r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not password:
        raise ValueError(f"{name!r} has no password in its first line")
    return password


_LONGEST_PASSWORD = 1024


def database_url(text: str) -> str:
    """The URL of a database."""
    if not re.fullmatch(r"sqlite:///.+", text):
        raise ValueError(f"{text!r} is not a database such as sqlite:///perfd.sqlite")
    return text
