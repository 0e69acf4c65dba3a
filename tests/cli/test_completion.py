"""Completion of the command line, by real shells where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perfd.cli.completion import SHELLS

CONFIG = """
[perfd]
network = testnet
[client:arti]
kind = arti
[experiment:fast-one]
[experiment:slow-one]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An instance, and a command ``perfd``."""
    (tmp_path / "perfd.conf").write_text(CONFIG)
    command = tmp_path / "bin" / "perfd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m perfd "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(directory: Path, *words: str) -> str:
    path = f"{directory / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        words,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": path, "TERM": "dumb", "HOME": str(directory)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SCRIPT = """
eval "$(perfd completion bash)"
COMP_LINE=%r COMP_POINT=%d COMP_TYPE=9 COMP_WORDS=(%s) COMP_CWORD=%d
_python_argcomplete perfd
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("perfd sta", {"start", "status"}),
        ("perfd results --out", {"--outcome"}),
        ("perfd results --experiment ", {"fast-one", "slow-one"}),
        ("perfd logs --tor d", {"default"}),
        ("perfd proxy --tor ", {"default", "arti"}),
        ("perfd completion ", set(SHELLS)),
        ("perfd results --config nowhere --experiment ", set()),
    ],
)
def test_bash(directory: Path, line: str, expected: set[str]) -> None:
    """Commands, options, and the names in perfd.conf; where there is none, none."""
    words = line.split(" ")
    script = SCRIPT % (line, len(line), " ".join(f"'{word}'" for word in words), len(words) - 1)
    found = {word.strip() for word in run(directory, "bash", "--norc", "-c", script).split()}
    assert found - {"-h", "--help"} == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_code(directory: Path, shell: str) -> None:
    """Each shell understands its code."""
    code = run(directory, "perfd", "completion", shell)
    assert "perfd" in code
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (directory / "code").write_text(code)
    assert run(directory, shell, "-n", "code") == ""
