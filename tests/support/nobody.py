"""Perfd as a user who may not read what is root's: with a Python and libraries where everybody may."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def python_and_environment() -> tuple[str, dict[str, str]]:
    """A Python with which nobody can run this Perfd, and the environment for that. Skips the test if there is none.

    The Python of the tests may be in a directory of root's; then that of the system does with the same libraries.
    """
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{sysconfig.get_path('purelib')}"}
    python = next((each for each in (sys.executable, "/usr/bin/python3") if _runs(each, environment)), None)
    if python is None:
        pytest.skip("no Python and no checkout that nobody may read")
    return python, environment


def _runs(python: str, environment: dict[str, str]) -> bool:
    """Whether the user nobody can run Perfd with it."""
    command = [python, "-c", "import perfd.service"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, user="nobody", cwd="/", env=environment, check=False).returncode == 0
    return False
