"""Lines of a torrc that tor takes (``tor --verify-config``), and with which it could never be measured over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from perfd.config.values import Address, address

_PORTS = frozenset(
    {"socksport", "dnsport", "transport", "natdport", "httptunnelport", "controlport", "orport", "dirport"}
)
"""Options with where tor is to listen; in lower case, since tor does not tell them apart (tor(1))."""


def unusable_lines(lines: Sequence[str]) -> Iterator[str]:
    """What is wrong with those that would keep tor from its network, or name files that it cannot make."""
    for line in lines:
        name, value = _split(line)
        first = value.partition(" ")[0]
        if name == "socksport" and first == "0":
            yield f"{line.strip()}: Perfd measures through it"
        if name == "disablenetwork" and first == "1":
            yield f"{line.strip()}: nothing can be measured without"
        path = _written(name, value)
        if path is not None and path.is_absolute() and not _can_be_made(path):
            yield f"{line.strip()}: {path.parent} is no directory that this user can write in"


def taken_ports(lines: Sequence[str], listen: Address) -> Iterator[str]:
    """What is wrong with ports that cannot be had now; Perfd's own server will ``listen`` there."""
    for line in lines:
        name, value = _split(line)
        where = _place(value.partition(" ")[0]) if name in _PORTS else None
        if where is None:
            continue
        if where.port == listen.port and (where.host == listen.host or listen.is_any):
            yield f"{line.strip()}: this is where Perfd's own server listens"
        elif trouble := _bind(where, socket.SOCK_DGRAM if name == "dnsport" else socket.SOCK_STREAM):
            yield f"{line.strip()}: cannot listen on {where}: {trouble}"


def _split(line: str) -> tuple[str, str]:
    words = line.strip().lstrip("+").split(None, 1)
    return (words[0].lower(), words[1].strip()) if len(words) == 2 else ("", "")


def _written(name: str, value: str) -> Path | None:
    """The file or directory that tor makes because of the option."""
    if name == "log":
        _, is_file, path = value.partition(" file ")
        return Path(path.strip(' "')) if is_file else None
    return Path(value.strip('"')) if name in ("pidfile", "hiddenservicedir") else None


def _can_be_made(path: Path) -> bool:
    return path.exists() or (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK))


def _place(text: str) -> Address | None:
    """The address of a port; None for one that tor chooses, none at all, or a socket file."""
    if text.isdigit():
        return Address("127.0.0.1", int(text)) if text != "0" else None
    try:
        return address(text)
    except ValueError:
        return None


def _bind(where: Address, kind: socket.SocketKind) -> str | None:
    """Why it cannot be bound now; None if it can, or it is a name."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((where.host, where.port))
        except OSError as error:
            return error.strerror
    return None
