"""A Firefox process: its profile, its environment, its launch, and its end with all of its children."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from perfd.browser.prefs import PREFS, Prefs, user_js
from perfd.processes.alive import has_proc, is_alive
from perfd.processes.child import ERRORS, Child
from perfd.reactor import Reactor
from perfd.record import EMPTY

SWEEP_LIMIT = 10.0
"""Seconds within which all processes of a killed Firefox must be gone."""

_LISTENING = re.compile(r"WebDriver BiDi listening on ws://\S+?:([0-9]{1,5})\s*$")
_OWNED = re.compile(r"perfd-(firefox|selenium)-(?P<pid>[0-9]{1,9})-(?P<started>[0-9]{1,20})-")
_POLL = 0.02

_T = TypeVar("_T")


class BrowserError(Exception):
    """The browser could not be started, or it did not do what every browser does."""


@attrs.frozen(kw_only=True)
class FirefoxOptions:
    """Which Firefox, and how it is run."""

    name: str = "firefox"  # in messages
    binary: str = (
        "firefox-esr"  # a program in PATH, or a path; Tor Browser's too, but no script that goes on beside it
    )
    profile: Path | None = None  # a profile that every process gets a copy of; None: an empty one
    warm: bool = True  # one process for many loads; else each load has a fresh one
    loads_per_process: int = 30  # a warm process grows, and is replaced after so many
    directory: Path | None = None  # where the profiles of running processes are; None: the system's for such
    prefs: Prefs = EMPTY  # over Perfd's own


class Profiles:
    """The profile directories of this process's browsers. All but ``reserve`` take time, and may run in threads."""

    def __init__(self, options: FirefoxOptions) -> None:
        self._options = options
        self._parent = options.directory or Path(tempfile.gettempdir())
        self._one_at_a_time = threading.Lock()

    def reserve(self) -> Path:
        """An empty directory for a profile. Raises ``OSError``."""
        self._parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=owned_prefix("firefox"), dir=self._parent))

    def fill(self, profile: Path) -> None:
        """Make the directory a profile. Raises ``OSError``."""
        with self._one_at_a_time:
            if self._options.profile is not None:
                shutil.copytree(self._options.profile, profile, dirs_exist_ok=True, ignore=_locks)
            (profile / "user.js").write_text(user_js({**PREFS, **self._options.prefs}), encoding="utf-8")

    def remove(self, profile: Path) -> None:
        """Remove a profile that no Firefox was started with."""
        with self._one_at_a_time:
            shutil.rmtree(profile, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove what a Perfd which was killed left behind."""
        remove_leftovers(self._parent)


def owned_prefix(program: str) -> str:
    """How the name of a directory begins that this process makes for a ``program``.

    The process id alone would not do: in a container, it is the same at every start.
    """
    pid = os.getpid()
    return f"perfd-{program}-{pid}-{_started(pid)}-"


def remove_leftovers(parent: Path) -> None:
    """Remove the directories of all browsers in ``parent`` whose owner is gone. Takes time; never raises."""
    for path in parent.glob("perfd-*-*-*-*"):
        owner = _OWNED.match(path.name)
        if owner is None or _started(int(owner["pid"])) == owner["started"]:
            continue
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)


def _started(pid: int) -> str | None:
    """When a process started, as the system counts; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0" if not has_proc() and is_alive(pid) else None


def _locks(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("lock", ".parentlock", "WebDriverBiDiServer.json")]


class FirefoxProcess:
    """A running Firefox that waits for one WebDriver BiDi session; it dies with this process.

    ``setpriv --pdeathsig`` (util-linux, Linux only) ends it when this process is killed: Firefox itself would not
    notice, but its children notice the end of Firefox. ``setsid`` gives it and most of its children a session, by
    which they can be found and ended.
    """

    _log = Logger()

    def __init__(self, reactor: Reactor, binary: str, profile: Path) -> None:
        """Start Firefox with ``profile``, which is removed at its end. Raises ``OSError``."""
        self.profile = profile
        self.listening: Deferred[int] = Deferred()
        """Fires with the port of its WebDriver BiDi; fails with ``BrowserError`` if it ends instead."""
        self._reactor = reactor
        argv = [*_tied_to_this_process(), binary, "--headless", "--no-remote", "--new-instance"]
        argv += ["--remote-debugging-port", "0", "--profile", str(profile)]
        self._child = Child.spawn(
            reactor,
            argv,
            environment=environment(profile),
            directory=profile,
            on_line=self._heard,
            lines_of=ERRORS,
        )
        self._child.when_exited().addCallback(self._exited)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.exit_code

    def describe_end(self) -> str:
        """How it ended: ``killed by SIGKILL``, or its exit code and its last words."""
        return self._child.describe_end()

    async def end(self) -> None:
        """Kill it with all of its children, and remove its profile. Returns when all are gone; never raises."""
        self._child.signal("KILL")
        # Not until its output has ended, which a child of its own that is about to end may hold open.
        await self._child.when_exited()
        self._child.kill()
        left = await in_thread(self._reactor, lambda: sweep(self.pid, self.profile))
        if left:
            self._log.error("processes of Firefox do not end: {left}", left=left)

    def _heard(self, line: str) -> None:
        if (found := _LISTENING.search(line)) and not self.listening.called:
            self.listening.callback(int(found[1]))

    def _exited(self, code: int) -> None:
        if not self.listening.called:
            self.listening.errback(BrowserError(f"it ended at its start: {self.describe_end()}"))


def _tied_to_this_process() -> list[str]:
    """The programs in front of Firefox, as far as the system has them; each execs the next, so the pid stays."""
    found = {name: shutil.which(name) for name in ("setsid", "setpriv")}
    setsid = [found["setsid"]] if found["setsid"] else []
    return setsid + ([found["setpriv"], "--pdeathsig", "KILL"] if found["setpriv"] else [])


def environment(profile: Path) -> Mapping[str, str]:
    """Firefox's environment: its files go to the profile, and no display, bus or setting of the user reaches it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return kept | {
        "HOME": str(profile),
        "TMPDIR": str(profile),
        "MOZ_HEADLESS": "1",
        "MOZ_CRASHREPORTER_DISABLE": "1",
        "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1",  # else services.settings.server is ignored
        "TOR_SKIP_LAUNCH": "1",  # Tor Browser starts no tor of its own
    }


def sweep(pid: int, profile: Path) -> list[int]:
    """Kill all processes of a browser, and remove its directory when they are gone. Blocks; gives what is left."""
    if pid > 0 and not has_proc():  # then its group is all that is known of them
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    give_up = time.monotonic() + SWEEP_LIMIT
    while (left := processes_of(pid, profile)) and time.monotonic() < give_up:
        for each in left:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        time.sleep(_POLL)
    shutil.rmtree(profile, ignore_errors=True)
    return left


def processes_of(pid: int, profile: Path) -> list[int]:
    """All living processes of the browser ``pid``: those of its session, and those whose home is ``profile``.

    A helper may leave the session, and a sandboxed process may hide its environment; none does both.
    """
    home = b"HOME=" + os.fsencode(profile)
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()] if has_proc() else []
    return [each for each in pids if _belongs(each, pid, home)]


def _belongs(pid: int, session: int, home: bytes) -> bool:
    try:
        state, _, _, its_session = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return False
    if state in (b"Z", b"X"):
        return False
    if int(its_session) == session > 0:
        return True
    try:
        return home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def in_thread(reactor: Reactor, work: Callable[[], _T]) -> Deferred[_T]:
    """The result of ``work``, which touches many files, without holding the reactor up."""
    return deferToThreadPool(reactor, reactor.getThreadPool(), work)
