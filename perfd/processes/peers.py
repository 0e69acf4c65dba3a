"""Whose is the other end of a connection on this machine, as Linux tells it (proc_pid_net(5), proc_pid_fd(5))."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Protocol

PROC = Path("/proc")


class End(Protocol):
    """An end of a TCP connection."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


def is_of_tor(peer: End, own: End, proc: Path = PROC) -> bool:
    """Whether ``peer``, which is on this machine, is a tor's end of its connection to ``own``.

    An exit that connects to this machine does that from here, like any program. A tor is known by the name of its
    program, by its arguments or by the library that it is linked with. Where processes cannot be looked into, all
    connections of a user who runs a tor count as that tor's, and only names and arguments tell which those are.
    Blocks for some milliseconds. True also if it cannot be told, as where other users' processes are hidden.
    """
    found = _socket(peer, own, proc)
    if found is None:
        return True
    user, inode = found
    holders = [_holds(proc / name, user, inode) for name in os.listdir(proc) if name.isdigit()]
    return any(each is Holder.TOR for each in holders) or all(each is Holder.NO for each in holders)


def _socket(peer: End, own: End, proc: Path) -> tuple[int, str] | None:
    """The user and the inode of the peer's socket."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        ends = [f"{_address(end.host, v6=name == 'tcp6')}:{end.port:04X}" for end in (peer, own)]
        for line in lines:
            words = line.split()
            if words[1:3] == ends:
                return int(words[7]), words[9]
    return None


def _address(host: str, *, v6: bool) -> str:
    """An address as the kernel prints it: words of 32 bits in the machine's byte order."""
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    if v6 and address.version == 4:
        packed = b"\0" * 10 + b"\xff\xff" + address.packed
    else:
        packed = mapped.packed if mapped is not None and not v6 else address.packed
    words = [int.from_bytes(packed[n : n + 4], sys.byteorder) for n in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words)


_TOR = re.compile(r"tor(-.*)?")
"""What the program of a tor is called."""

_TORRC = re.compile(r".*torrc(-defaults)?|--defaults-torrc|--DataDirectory|--ORPort", re.IGNORECASE)
"""What is among the arguments of a tor, whatever its program is called."""

_LIBRARY = "libevent"
"""The library with which every tor is linked."""


class Holder(Enum):
    """Whether a process has a socket, as far as can be seen."""

    NO = "no"
    TOR = "it is a tor that has it, or may have it"
    OTHER = "it is another program that has it, or may have it"


def _holds(directory: Path, user: int, inode: str) -> Holder:
    try:
        if directory.stat().st_uid != user:
            return Holder.NO
        has_it = any(_target(descriptor) == f"socket:[{inode}]" for descriptor in (directory / "fd").iterdir())
    except PermissionError:
        return Holder.TOR if _is_called_tor(directory) else Holder.OTHER
    except OSError:  # it has ended
        return Holder.NO
    if not has_it:
        return Holder.NO
    return Holder.TOR if _is_called_tor(directory) or _has_library(directory) else Holder.OTHER


def _is_called_tor(directory: Path) -> bool:
    """Whether it is one by the name of its program or its arguments, which everybody can see."""
    try:
        name = (directory / "comm").read_text(encoding="utf-8", errors="replace").strip()
        words = (directory / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:  # it has ended
        return False
    return _TOR.fullmatch(name) is not None or any(_TORRC.fullmatch(os.fsdecode(word)) for word in words[1:])


def _has_library(directory: Path) -> bool:
    """Whether it has loaded what every tor does; some other programs too, which are then no better off."""
    try:
        return _LIBRARY in (directory / "maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""
