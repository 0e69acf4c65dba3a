"""Which processes are taken for a tor of ours, and may be ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from perfd.processes.programs import find_processes
from tests.support.instance import wait_for

WAITS = "import sys, time; time.sleep(60)"


@pytest.mark.parametrize(
    ("words", "is_tor"),
    [
        (["{tor}", "-f", "{torrc}"], True),
        (["{tor}", "--defaults-torrc", "{torrc}-defaults", "-f", "{torrc}"], True),
        (["{other}", "--defaults-torrc", "{torrc}-defaults", "-f", "{torrc}"], True),
        (["{other}", "-f", "{torrc}"], False),
        (["{other}", "{torrc}-defaults", "-f", "{torrc}"], False),
        (["{other}", "tor", "-f", "{torrc}"], False),
        (["{tor}", "-f", "{torrc}-defaults"], False),
        (["{tor}", "{torrc}"], False),
    ],
)
def test_form_of_a_tor(tmp_path: Path, words: Sequence[str], is_tor: bool) -> None:
    """A tor is known by its program and its torrc; another program with that file among its arguments is none."""
    torrc = tmp_path / "torrc"
    for name in ("tor", "other"):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{WAITS}\n")
        (tmp_path / name).chmod(0o755)
    values = {"tor": tmp_path / "tor", "other": tmp_path / "other", "torrc": torrc}
    with subprocess.Popen([word.format(**values) for word in words]) as process:
        try:
            line = Path(f"/proc/{process.pid}/cmdline")
            wait_for(lambda: b"-c" not in line.read_bytes() and b"torrc" in line.read_bytes(), "the program")
            assert (find_processes([torrc]) == [process.pid]) == is_tor
        finally:
            process.kill()
