"""Perfd as PID 1, as in a container, with a real Firefox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfd.record import Outcome
from tests.support.browser_pages import MISSING
from tests.support.instance import TestInstance, wait_for
from tests.support.pid_1 import UNSHARE, can_unshare, children_of, zombies_of

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.skipif(not can_unshare(), reason="needs unshare(1), and the right to use it"),
]

CONFIG = """
[perfd]
source = test
network = socks
[server]
listen = 127.0.0.1:{port}
[browser]
process = fresh
[experiment:page]
type = pageload
interval = 15 s
timeout = 14 s
"""


@pytest.mark.long
def test_page_loads(tmp_path: Path) -> None:
    """What each Firefox leaves to PID 1 is reaped; nothing is left at the end."""
    instance = TestInstance(tmp_path, CONFIG)
    command = [*UNSHARE, sys.executable, "-P", "-m", "perfd", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as outer:
        try:
            instance.wait_for_measurements(2, outcome=Outcome.OK)
            (init,) = children_of(outer.pid)
            wait_for(lambda: zombies_of(init) == [], "the reaping", 20.0)
            os.kill(init, signal.SIGTERM)
            outer.wait(60)
        finally:
            outer.kill()
