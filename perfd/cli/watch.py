"""``perfd watch``, and ``perfd run`` on a terminal: what is measured as it comes, and how the daemon's parts are.

It reads perfd.log and ``/health``, as anybody could, and has nothing to do with the daemon's own work.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from perfd.cli.logs import Tail
from perfd.cli.results import seconds
from perfd.cli.tables import Column, Display, Table, lay_out, printable, wrapped
from perfd.experiments.highlights import highlights
from perfd.logfile.line import LogLineError, parse
from perfd.processes.signals import end_with_parent
from perfd.record import REQUEST, Measurement, Outcome

Health = dict[str, Any]

PAUSE = 0.25
"""Seconds between two looks at the log."""

HEALTH_PAUSE = 1.0
"""Seconds between two looks at ``/health``."""

BAR = 24
"""Characters of the bar of a tor's bootstrap."""

STOPPED = (-signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a daemon that was asked to end."""

MOST_KEPT = 500
"""Measurements that a terminal may show at once."""

_TOLD = re.compile(r"\d{4}-\d\d-\d\d \S+ \[([^\]]*)\] ")
_TROUBLE = ("#warn", "#error", "#critical")

COLUMNS = (
    *(Column("time (UTC)"), Column("experiment"), Column("tor", rank=3), Column("server", rank=4)),
    *(Column("outcome"), Column("circuit", number=True, rank=2), Column("first byte", number=True, rank=1)),
    *(Column("complete", number=True), Column("what happened", prose=True)),
)


class View:
    """What is shown: the latest measurements, and below them how things stand."""

    def __init__(self, console: Console, footer: Sequence[str], wall: Callable[[], float] = time.time) -> None:
        self._display = Display(console, console.width)
        self._footer = footer
        self._wall = wall
        self._latest: deque[Measurement] = deque(maxlen=MOST_KEPT)
        self._outcomes: Counter[Outcome] = Counter()
        self._says = False  # the last line was trouble, and so are those that belong to it
        self.health: Health | None = None

    def add(self, line: str) -> str | None:
        """Take a line of the log. It comes back, to be shown above the table, if it tells of trouble."""
        try:
            m = parse(line)
        except LogLineError:
            told = _TOLD.match(line)
            if told is not None:
                self._says = told.group(1).endswith(_TROUBLE)
            return printable(line) if self._says else None
        self._says = False
        self._outcomes[m.outcome] += m.slots
        # What was skipped while a tor was not ready is in the numbers; the state of the tor says why.
        if m.outcome is not Outcome.SKIPPED and m.type != REQUEST:
            self._latest.append(m)
        return None

    def lines(self, width: int, height: int) -> list[Text]:
        """As many as fit."""
        told = [*self._state(), *self._footer]
        below = [Text(part, style="dim") for line in told for part in wrapped(line, width)]
        room = height - len(below) - 2
        rows = [self._row(m) for m in list(self._latest)[-max(0, room) :]]
        while rows:
            lines = lay_out(Table("", COLUMNS, rows), width)[1:]
            if len(lines) <= room:
                return [*lines, Text(), *below]
            rows = rows[max(1, min(len(lines) - room, len(rows) // 2)) :]
        return below

    def _row(self, m: Measurement) -> tuple[str, ...]:
        steps = (m.response, m.dataresponse, m.datacomplete)
        return (
            self._display.time(m.start).rpartition(" ")[2],
            m.experiment,
            m.tor or "",
            m.server or "",
            m.outcome.value,
            *(seconds(None if at is None else at - m.start) for at in steps),
            " ".join(filter(None, (*highlights(m), m.errorcode, m.reason))),
        )

    def _state(self) -> list[str]:
        health = self.health
        if health is None:
            return ["starting"]
        if "error" in health:
            return ["its health is not for everybody (results in perfd.conf)"]
        lines = [_tor_line(tor) for tor in health["tors"] if tor["state"] != "ready"]
        if not lines:
            names = ", ".join(f"{tor['name']} {tor['version'] or ''}".strip() for tor in health["tors"])
            lines = [f"ready: {names}" if names else "ready"]
        lines += [f"{name}: {health[name]}" for name in ("database", "log") if health.get(name) != "ok"]
        lines.append("; ".join(filter(None, (self._counts(), self._next(health)))))
        return lines

    def _counts(self) -> str:
        return ", ".join(f"{self._outcomes[each]} {each.value}" for each in Outcome if self._outcomes[each])

    def _next(self, health: Health) -> str:
        slots = [(each["next_slot"], each["name"]) for each in health["experiments"] if each["next_slot"]]
        if not slots:
            return "nothing is scheduled"
        slot, name = min(slots)
        wait = max(0.0, datetime.fromisoformat(slot).timestamp() - self._wall())
        return f"next: {name} in {wait:.0f} s"


def _tor_line(tor: Health) -> str:
    name, state = f"tor {tor['name']}", tor["state"]
    text = state if state.startswith(name) else f"{name}: {state}"
    if percent := re.search(r"\b(\d{1,3}) ?%", state):
        filled = min(100, int(percent.group(1))) * BAR // 100
        return f"[{'#' * filled}{'.' * (BAR - filled)}] {text}"
    return text


def watch(
    log: Path,
    read_health: Callable[[], Health | None],
    is_running: Callable[[], bool],
    console: Console,
    footer: Sequence[str],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show what the daemon does until it has ended."""
    tail, view = Tail(log, at_end=True), View(console, footer)
    looked = -HEALTH_PAUSE
    with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
        while True:
            goes_on = is_running()
            for line in tail.lines():
                said = view.add(line)
                if said is not None:
                    live.console.print(Text(said), soft_wrap=True)
            if goes_on and time.monotonic() >= looked + HEALTH_PAUSE:
                view.health, looked = read_health(), time.monotonic()
            live.update(Group(*view.lines(console.width, console.height)), refresh=True)
            if not goes_on:
                return
            sleep(PAUSE)


def run_child(arguments: Sequence[str], directory: Path, show: Callable[[Callable[[], bool]], None]) -> int:
    """Run the daemon as a child and ``show`` it until it ends; its exit code.

    What would stop this process stops the daemon, which then writes its last records; if this process is killed,
    so is the daemon, unless it has become another user.
    """
    with subprocess.Popen(
        arguments,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - there are no threads here
    ) as child:

        def stop(*_: object) -> None:
            child.terminate()

        before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGHUP)]
        # Ctrl-C goes to both; it is the daemon that ends.
        before.append((signal.SIGINT, signal.signal(signal.SIGINT, lambda *_: None)))
        try:
            show(lambda: child.poll() is None)
            code = child.wait()
            return 0 if code in STOPPED else code if code >= 0 else 128 - code
        except BaseException:
            child.terminate()
            raise
        finally:
            for number, handler in before:
                signal.signal(number, handler)
