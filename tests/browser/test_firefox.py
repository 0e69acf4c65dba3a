"""What is left of a browser is found and ended."""

from __future__ import annotations

import subprocess
from pathlib import Path
from unittest import mock

from perfd.browser import firefox
from tests.support.instance import is_alive, wait_for


def test_sweep_without_proc(tmp_path: Path) -> None:
    """Where there is no /proc, the process group of the browser is ended, and its profile removed."""
    profile = tmp_path / "profile"
    profile.mkdir()
    command = ["sh", "-c", "sleep 60 & echo $!; exec sleep 60"]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True) as browser:
        assert browser.stdout is not None
        helper = int(browser.stdout.readline())
        with mock.patch.object(firefox, "has_proc", return_value=False):
            assert firefox.sweep(browser.pid, profile) == []
        assert browser.wait(10) < 0
        wait_for(lambda: not is_alive(helper), "the end of the helper")
    assert not profile.exists()
