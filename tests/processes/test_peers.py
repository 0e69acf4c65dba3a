"""Whose the other end of a connection is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import attrs
import pytest

from perfd.processes import peers
from perfd.processes.peers import is_of_tor


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
        monkeypatch.setattr(peers, "_tors", lambda proc: [proc / str(os.getpid())])
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
    (tor / "fd" / "3").symlink_to("socket:[4243]")
    return directory


PEER, OWN = End("127.0.0.1", 1000), End("127.0.0.1", 2000)


def test_same_user(tmp_path: Path) -> None:
    """A tor of the same user has it or has it not."""
    proc = fake_proc(tmp_path, os.getuid())
    assert not is_of_tor(PEER, OWN, proc)
    (proc / "77" / "fd" / "4").symlink_to("socket:[4242]")
    assert is_of_tor(PEER, OWN, proc)
    (proc / "77" / "comm").write_text("torsocks\n")
    assert not is_of_tor(PEER, OWN, proc)


def test_other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one cannot look into another user's tor, all connections of that user may be that tor's."""
    proc = fake_proc(tmp_path, os.getuid())

    def refuse(path: Path) -> None:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert is_of_tor(PEER, OWN, proc)
    assert not is_of_tor(PEER, OWN, fake_proc(tmp_path / "other", os.getuid() + 1))


def test_no_proc(tmp_path: Path) -> None:
    """What cannot be told is not local."""
    assert is_of_tor(PEER, OWN, tmp_path)
