"""Whose the other end of a connection is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import attrs
import pytest

from perfd.processes import peers
from perfd.processes.peers import is_of_tor
from perfd.processes.programs import find_program


@attrs.frozen
class End:
    """An end of a connection."""

    host: str
    port: int


@pytest.mark.parametrize(("listen", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")])
def test_real_connections(listen: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are not of a tor, unless this process is taken for one; what is no connection may be anybody's."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with (
        socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::") as server,
        socket.create_connection((host, server.getsockname()[1])) as peer,
        server.accept()[0] as own,
    ):
        found = End(*own.getpeername()[:2]), End(*own.getsockname()[:2])
        assert not is_of_tor(*found)
        monkeypatch.setattr(peers, "_is_called_tor", lambda directory: True)
        assert is_of_tor(*found)
        monkeypatch.undo()
        assert is_of_tor(End(host, 1), found[1])
        peer.close()


def fake_proc(directory: Path, user: int) -> Path:
    """A /proc with a connection of ``user`` from port 1000 to 2000, and a tor of this user that has another."""
    net = directory / "net"
    net.mkdir(parents=True)
    line = f"   0: 0100007F:03E8 0100007F:07D0 01 00000000:00000000 00:00000000 00000000 {user:5} 0 4242 1\n"
    (net / "tcp").write_text("  sl  local_address rem_address\n" + line)
    tor = directory / "77"
    (tor / "fd").mkdir(parents=True)
    (tor / "comm").write_text("tor\n")
    (tor / "cmdline").write_bytes(b"/usr/bin/tor\0")
    (tor / "maps").write_text("7f12 r-xp 00000000 00:00 1 /usr/lib/libc.so.6\n")
    (tor / "fd" / "3").symlink_to("socket:[4243]")
    other = directory / "78"
    (other / "fd").mkdir(parents=True)
    (other / "comm").write_text("curl\n")
    (other / "cmdline").write_bytes(b"curl\0http://127.0.0.1/\0")
    (other / "maps").touch()
    (other / "fd" / "3").symlink_to("socket:[4242]")
    return directory


PEER, OWN = End("127.0.0.1", 1000), End("127.0.0.1", 2000)


def test_nobody_to_be_seen(tmp_path: Path) -> None:
    """Where no process is seen that could have the connection (hidepid of proc(5)), it may be a tor's."""
    proc = fake_proc(tmp_path, os.getuid())
    assert not is_of_tor(PEER, OWN, proc)
    (proc / "78" / "fd" / "3").unlink()
    assert is_of_tor(PEER, OWN, proc)
    shutil.rmtree(proc / "77")
    shutil.rmtree(proc / "78")
    assert is_of_tor(PEER, OWN, proc)


def test_same_user(tmp_path: Path) -> None:
    """A tor of the same user has it or has it not."""
    proc = fake_proc(tmp_path, os.getuid())
    assert not is_of_tor(PEER, OWN, proc)
    (proc / "77" / "fd" / "4").symlink_to("socket:[4242]")
    assert is_of_tor(PEER, OWN, proc)
    (proc / "77" / "comm").write_text("torsocks\n")
    assert not is_of_tor(PEER, OWN, proc)


@pytest.mark.parametrize(
    "arguments",
    [b"/opt/onion\0-f\0/srv/relay/torrc\0", b"x\0--defaults-torrc\0a\0", b"x\0--ORPort\09001\0"],
)
def test_tor_by_another_name(tmp_path: Path, arguments: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tor whose program is called otherwise is known by its arguments, also where it cannot be looked into."""
    proc = fake_proc(tmp_path, os.getuid())
    (proc / "77" / "comm").write_text("onion\n")
    (proc / "77" / "fd" / "4").symlink_to("socket:[4242]")
    assert not is_of_tor(PEER, OWN, proc)
    (proc / "77" / "cmdline").write_bytes(arguments)
    assert is_of_tor(PEER, OWN, proc)
    (proc / "77" / "fd" / "4").unlink()
    assert not is_of_tor(PEER, OWN, proc)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert is_of_tor(PEER, OWN, proc)


def test_tor_by_its_library(tmp_path: Path) -> None:
    """One without arguments is known by the library that it has loaded."""
    proc = fake_proc(tmp_path, os.getuid())
    (proc / "77" / "comm").write_text("onion\n")
    (proc / "77" / "fd" / "4").symlink_to("socket:[4242]")
    maps = proc / "77" / "maps"
    maps.write_text(maps.read_text() + "7f13 r-xp 00000000 00:00 2 /usr/lib/x86_64-linux-gnu/libevent-2.1.so.7\n")
    assert is_of_tor(PEER, OWN, proc)


def test_real_tor_by_another_name(tmp_path: Path) -> None:
    """A copy of the real program, which connects from a process that has nothing of tor in its name."""
    program = tmp_path / "onion"
    shutil.copy(find_program("tor"), program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        torrc = tmp_path / "settings"
        authority = f"DirAuthority a orport={port} v3ident={'A' * 40} 127.0.0.1:{port} {'B' * 40}"
        torrc.write_text(f"DataDirectory {tmp_path}/data\nSocksPort auto\nTestingTorNetwork 1\n{authority}\n")
        with subprocess.Popen([program, "-f", torrc], stdout=subprocess.DEVNULL) as process:
            try:
                server.settimeout(30)
                with server.accept()[0] as own:
                    assert is_of_tor(End(*own.getpeername()), End(*own.getsockname()))
            finally:
                process.kill()


def test_other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one cannot look into another user's tor, all connections of that user may be that tor's."""
    proc = fake_proc(tmp_path, os.getuid())

    def refuse(path: Path) -> None:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert is_of_tor(PEER, OWN, proc)
    (proc / "77" / "comm").write_text("curl\n")
    (proc / "77" / "cmdline").write_bytes(b"curl\0")
    assert not is_of_tor(PEER, OWN, proc)


def test_no_proc(tmp_path: Path) -> None:
    """What cannot be told is not local."""
    assert is_of_tor(PEER, OWN, tmp_path)
