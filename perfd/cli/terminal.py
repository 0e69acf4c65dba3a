"""Progress on the terminal: a bar where somebody watches, plain lines where nobody does."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress:
    """A step-by-step job on standard error, as a context manager.

    ``pause`` is the time in seconds between two lines where nobody watches: for jobs of very many steps.
    """

    def __init__(self, title: str, pause: float = 0.0) -> None:
        self._title = title
        self._pause = pause
        self._written = time.monotonic() if pause else 0.0
        self._last = ""
        self._console = Console(file=sys.stderr)
        self._bar: Bar | None = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"))
            self._bar = Bar(*columns, TimeElapsedColumn(), console=self._console, transient=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, step="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: str, done: float | None = None, total: float | None = None) -> None:
        """``step`` says what is being done; ``done`` of ``total`` steps are, where that is known."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done or 0.0, total=total, step=step)
        elif step != self._last and time.monotonic() >= self._written + self._pause:
            self._written = time.monotonic()
            sys.stderr.write(f"{self._title}: {step}\n")
            sys.stderr.flush()
        self._last = step
