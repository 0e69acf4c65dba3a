"""Orphans are reaped, and nothing of Twisted's own children is lost by that."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from perfd.processes.child import Child
from perfd.processes.orphans import reap
from perfd.reactor import Reactor
from tests.support.instance import TestInstance, wait_for
from tests.support.pid_1 import UNSHARE, can_unshare, children_of, zombies_of

PR_SET_CHILD_SUBREAPER = 36

LEAVE = "import os; os.fork() or os.fork() or os._exit(0)"
"""A program that leaves two orphans, which end at once."""


class ReapTests(TestCase):
    """This process gets the orphans of its children, as PID 1 does."""

    reactor: Reactor = reactor  # type: ignore[assignment]

    def setUp(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.assertEqual(libc.prctl(PR_SET_CHILD_SUBREAPER, 1), 0)
        self.addCleanup(libc.prctl, PR_SET_CHILD_SUBREAPER, 0)

    async def test_orphans(self) -> None:
        """They are reaped; the exit code of a child of ours is still told."""
        before = zombies_of(os.getpid())
        child = Child.spawn(self.reactor, [sys.executable, "-c", f"{LEAVE}; os._exit(7)"])
        code = await child.when_exited()
        self.assertIn(code, (0, 7))
        count = 0
        for _ in range(100):
            count += reap()
            if count == 2:
                break
            await deferLater(self.reactor, 0.05)
        self.assertEqual((count, zombies_of(os.getpid())), (2, before))

    async def test_own_children(self) -> None:
        """Reaping does not take from Twisted what it waits for."""
        children = [Child.spawn(self.reactor, ["sh", "-c", f"exit {n}"]) for n in range(10)]
        ended = [child.when_ended() for child in children]
        time.sleep(0.3)  # so that all of them have ended before Twisted looks
        self.assertEqual(reap(), 0)
        self.assertEqual([await each for each in ended], list(range(10)))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is not started."""
    made = TestInstance(tmp_path)
    yield made
    made.perfd("stop")


@pytest.mark.skipif(not can_unshare(), reason="needs unshare(1), and the right to use it")
def test_pid_1(instance: TestInstance) -> None:
    """`perfd run` as PID 1 measures, reaps what is left to it, and ends on SIGTERM with its record."""
    # What leaves orphans is a program that Perfd starts; the launcher stands for the browser.
    script = instance.directory / "run.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "for _ in range(20):\n"
        f"    subprocess.run([sys.executable, '-c', {LEAVE!r}], check=True)\n"
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'perfd', 'run'])\n"
    )
    with subprocess.Popen(
        [*UNSHARE, sys.executable, str(script)], cwd=instance.directory, stdout=subprocess.DEVNULL
    ) as outer:
        try:
            instance.wait_for_measurements(2)
            assert instance.pid == 1
            (init,) = children_of(outer.pid)
            wait_for(lambda: zombies_of(init) == [], "the reaping")
            assert json.loads(instance.get("/health")[1])["healthy"] is True
            os.kill(init, 15)
            assert outer.wait(60) in (0, 15, 143)
        finally:
            outer.kill()
    assert not zombies_of(os.getpid())
