"""Lines of a torrc that tor takes, and with which nothing can be measured."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from perfd.config.values import Address
from perfd.tor.unusable import taken_ports, unusable_lines

LISTEN = Address("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("SocksPort 0", "Perfd measures through it"),
        ("disablenetwork 1", "nothing can be measured without"),
        ("PidFile /nonexistent/x", "/nonexistent is no directory"),
        ("Log notice file /nonexistent/log", "/nonexistent is no directory"),
        ('HiddenServiceDir "/nonexistent/hs"', "/nonexistent is no directory"),
    ],
)
def test_unusable(line: str, trouble: str) -> None:
    """Each is named with the reason."""
    (found,) = unusable_lines(["ConfluxEnabled 0", line])
    assert found.startswith(f"{line}: ")
    assert trouble in found


def test_usable(tmp_path: Path) -> None:
    """What tor can do is left alone."""
    lines: Sequence[str] = [
        "SocksPort 9050",
        "SocksPort auto IsolateDestAddr",
        "DisableNetwork 0",
        f"PidFile {tmp_path}/pid",
        f"Log notice file {tmp_path}/log",
        "Log notice stdout",
        f"HiddenServiceDir {tmp_path}/hs",
        "",
        "# SocksPort 0",
    ]
    assert list(unusable_lines(lines)) == []
    assert (
        list(taken_ports(["SocksPort auto", "SocksPort 0", "SocksPort unix:/tmp/x", "ORPort auto"], LISTEN)) == []
    )


def test_ports() -> None:
    """A port that somebody has, that is not of this machine, or that Perfd's server will have, is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (found,) = taken_ports([f"SocksPort {port}"], LISTEN)
        assert found == f"SocksPort {port}: cannot listen on 127.0.0.1:{port}: Address already in use"
        (found,) = taken_ports([f"HTTPTunnelPort 127.0.0.1:{port} IsolateSOCKSAuth"], LISTEN)
        assert "Address already in use" in found
    (found,) = taken_ports(["DNSPort 192.0.2.1:53"], LISTEN)
    assert "Cannot assign requested address" in found
    for listen in (LISTEN, Address("0.0.0.0", 8080)):
        (found,) = taken_ports(["SocksPort 127.0.0.1:8080"], listen)
        assert "Perfd's own server listens" in found
