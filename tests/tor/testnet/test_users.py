"""Who uses a private network, and who looks after one that is kept."""

from __future__ import annotations

import fcntl
from pathlib import Path

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from perfd.tor.testnet import users


@attrs.frozen
class Finished:
    """What a program that was run came to."""

    code: int = 0
    output: str = ""


def test_one_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper is started where none is; one that is there reads anew for how long."""
    started = []

    async def run_program(reactor: object, argv: list[str], **more: object) -> Finished:
        started.append(argv)
        return Finished()

    monkeypatch.setattr(users, "run_program", run_program)

    def keep(seconds: float) -> None:
        Deferred.fromCoroutine(users.keep(MemoryReactorClock(), tmp_path, seconds))  # type: ignore[arg-type]
        assert users.kept_for(tmp_path) == seconds

    keep(60.0)
    assert len(started) == 1
    with (tmp_path / users.KEEPER_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keep(120.0)
        assert len(started) == 1
    keep(60.0)
    assert len(started) == 2


def test_use(tmp_path: Path) -> None:
    """It is used until the last of its users is gone."""
    assert not users.is_used(tmp_path)
    first, second = users.begin_use(tmp_path), users.begin_use(tmp_path)
    first.close()
    assert users.is_used(tmp_path)
    second.close()
    assert not users.is_used(tmp_path)
