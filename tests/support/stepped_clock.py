"""A wall clock that can be stepped, for daemons that a test starts: the machine's clock is left alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_SITE = """
import os, threading, time
real = time.time
step = 0.0
def stepped():
    return real() + step
def watch():
    global step
    while True:
        try:
            with open({path!r}) as file:
                step = float(file.read() or 0)
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
time.time = stepped
threading.Thread(target=watch, daemon=True).start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: threading.Thread(target=watch, daemon=True).start())
"""


class SteppedClock:
    """``time.time`` of Python programs with this ``environment`` is ``seconds`` ahead of the machine."""

    def __init__(self, directory: Path) -> None:
        self._step = directory / "step"
        self.seconds = 0.0
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITE.replace("{path!r}", repr(str(self._step))))
        paths = (str(site), os.environ.get("PYTHONPATH"))
        self.environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def set(self, seconds: float) -> None:
        """Step the clock, so that it is so far ahead."""
        self.seconds = seconds
        scratch = self._step.with_name("step.new")
        scratch.write_text(str(seconds))
        scratch.replace(self._step)
