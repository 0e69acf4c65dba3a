"""Asking a tor whether it is one, and whether it would take a torrc, without running it.

Blocks for a tenth of a second, so it is for before the reactor runs.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perfd.processes.programs import ProgramMissingError, find_program
from perfd.tor.messages import last_words
from perfd.tor.process import TorDirectory

PATIENCE = 20.0
"""Seconds for an answer."""


def binary_trouble(binary: str) -> str | None:
    """Why ``binary`` is no tor; None if it says that it is one."""
    try:
        said = _run(find_program(binary), "--version")
    except (ProgramMissingError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    if not said.stdout.startswith("Tor version "):
        first = (said.stdout or said.stderr).partition("\n")[0][:60]
        return f"{binary} is no tor: {binary} --version says {first!r}"
    return None


def torrc_trouble(binary: str, options: Sequence[str]) -> str | None:
    """Why tor would refuse ``options`` beside those that Perfd gives it; None if it takes them.

    ``binary`` must be a tor. Nothing that lasts is written.
    """
    with tempfile.TemporaryDirectory(prefix="perfd-verify-") as directory:
        tor = TorDirectory(Path(directory) / "data")
        tor.prepare(options, ())
        arguments = ("--verify-config", "--defaults-torrc", str(tor.path / "torrc-defaults"), "-f", str(tor.torrc))
        try:
            said = _run(find_program(binary), *arguments)
        except (ProgramMissingError, OSError, subprocess.SubprocessError) as error:
            return str(error)
    return None if said.returncode == 0 else last_words(said.stdout.splitlines())


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
