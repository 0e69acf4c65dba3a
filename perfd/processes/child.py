"""Child processes: one protocol for all that Perfd starts, from their launch to their end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IPullProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.reactor import Reactor

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

MOST_LINES = 50
"""How many of the last lines are remembered."""

MOST_IN_LINE = 500
"""How much of one line is remembered, in characters."""

BOTH = (1, 2)
"""Standard output and standard error."""

ERRORS = (2,)
"""Standard error alone."""


@implementer(IPullProducer)
class Child(ProcessProtocol):
    """A child process; ``spawn`` starts one.

    ``pid`` is its process id. ``exit_code`` is None while it runs, and then its exit code, negative if a signal
    ended it. ``lines`` are the last lines that it wrote, cut after ``MOST_IN_LINE`` characters.
    """

    transport: IProcessTransport

    def __init__(
        self,
        reactor: Reactor,
        *,
        on_data: Callable[[int, bytes], object] | None = None,
        on_line: Callable[[str], object] | None = None,
        lines_of: Collection[int] = BOTH,
        stdin: Iterable[bytes] = (),
        hold_stdin: bool = False,
    ) -> None:
        self.pid = 0
        self.exit_code: int | None = None
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self._reactor = reactor
        self._on_data = on_data
        self._on_line = on_line
        self._partial = dict.fromkeys(lines_of, b"")
        self._stdin = iter(stdin)
        self._hold_stdin = hold_stdin
        self._is_closed = False  # nothing more can come of its output
        self._exits: list[Deferred[int]] = []
        self._ends: list[Deferred[int]] = []

    @classmethod
    def spawn(
        cls,
        reactor: Reactor,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        on_data: Callable[[int, bytes], object] | None = None,
        on_line: Callable[[str], object] | None = None,
        lines_of: Collection[int] = BOTH,
        stdin: Iterable[bytes] = (),
        hold_stdin: bool = False,
    ) -> Child:
        """Start the program ``argv[0]``. Raises ``OSError``.

        ``on_data`` gets what it writes as it comes, with the number of the descriptor; ``on_line`` each line of
        the descriptors ``lines_of``. The pieces of ``stdin`` are written to it, each once it took the one
        before; then its standard input is closed, unless ``hold_stdin`` is set, by which it can see the end of
        this process.
        """
        child = cls(
            reactor, on_data=on_data, on_line=on_line, lines_of=lines_of, stdin=stdin, hold_stdin=hold_stdin
        )
        child.start(argv, environment, directory)
        return child

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> None:
        """Start the program ``argv[0]`` as this child. Raises ``OSError``."""
        given = os.environ if environment is None else environment
        path = None if directory is None else str(directory)
        _check_startable(argv[0], given, directory)
        self._reactor.spawnProcess(self, argv[0], args=list(argv), env=given, path=path)

    def when_exited(self) -> Deferred[int]:
        """Fires with the exit code when the process is gone, though a child of its own may still hold its
        output.
        """
        return _wait(self._exits) if self.exit_code is None else succeed(self.exit_code)

    def when_ended(self) -> Deferred[int]:
        """Fires with the exit code when the process is gone and all that it wrote was read."""
        if self.exit_code is None or not self._is_closed:
            return _wait(self._ends)
        return succeed(self.exit_code)

    def describe_end(self) -> str:
        """How it ended: ``killed by SIGKILL``, or its exit code and, if it failed, its last words."""
        code = self.exit_code or 0
        words = self.lines[-1].strip() if self.lines and code > 0 else ""
        return f"{describe_exit(code)}: {words}" if words else describe_exit(code)

    def write(self, data: bytes) -> None:
        """Write to its standard input, which ``hold_stdin`` keeps open; nothing if it has ended."""
        if self.exit_code is None:
            self.transport.write(data)

    def signal(self, name: str) -> None:
        """Send the signal ``name`` (without SIG), if there is still a process."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)

    def kill(self) -> None:
        """End it at once. A child of its own that holds its output open holds up nobody any more."""
        self.signal("KILL")
        self.transport.loseConnection()

    async def finish(self, timeout: float) -> int:
        """Its exit code when it has ended by itself and all that it wrote was read.

        After ``timeout`` seconds it is killed: ``TimeoutError`` when it is gone. Cancelling this kills it too.
        """
        overdue = self._reactor.callLater(timeout, self.kill)
        try:
            code = await self.when_ended()
        finally:
            is_overdue = not overdue.active()
            if not is_overdue:
                overdue.cancel()
            self.kill()
        if is_overdue:
            raise TimeoutError(f"it took longer than {timeout:.0f} s")
        return code

    async def stop(self, grace: float = GRACE) -> int:
        """End it: SIGTERM, after ``grace`` seconds SIGKILL. Returns its exit code when it is gone.

        Who cancels this waits no longer, so it is killed at once.
        """
        self.signal("TERM")
        harder = self._reactor.callLater(grace, self.kill)
        try:
            return await self.when_ended()
        except CancelledError:
            self.kill()
            raise
        finally:
            if harder.active():
                harder.cancel()

    # What Twisted calls.

    def connectionMade(self) -> None:
        self.pid = int(self.transport.pid or 0)
        first = next(self._stdin, None)
        if first is None:
            self._end_stdin()
        else:
            self.transport.write(first)
            self.transport.registerProducer(self, False)  # type: ignore[attr-defined]  # not in the interface

    def resumeProducing(self) -> None:
        piece = next(self._stdin, None)
        if piece is None:
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self._end_stdin()
        else:
            self.transport.write(piece)

    def stopProducing(self) -> None:
        """The child takes no more; its end says why."""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if self._on_data is not None:
            self._on_data(childFD, data)
        if childFD in self._partial:
            *whole, partial = (self._partial[childFD] + data).split(b"\n")
            self._partial[childFD] = partial[:MOST_IN_LINE]
            for line in whole:
                self._remember(line)

    def processExited(self, reason: Failure) -> None:
        self._exited(reason)

    def processEnded(self, reason: Failure) -> None:
        self._exited(reason)
        for partial in self._partial.values():
            self._remember(partial)
        self._is_closed = True
        _fire(self._ends, self.exit_code)

    def _exited(self, reason: Failure) -> None:
        if self.exit_code is None:
            self.exit_code = exit_code(reason)
        _fire(self._exits, self.exit_code)

    def _end_stdin(self) -> None:
        if not self._hold_stdin:
            self.transport.closeStdin()

    def _remember(self, line: bytes) -> None:
        if line.strip():
            text = line.decode("utf-8", "backslashreplace")[:MOST_IN_LINE]
            self.lines.append(text)
            if self._on_line is not None:
                self._on_line(text)


def _check_startable(program: str, environment: Mapping[str, str], directory: Path | None) -> None:
    """Raises ``OSError`` if it cannot be started there.

    Twisted forks if there is a directory to go to; what fails then is a traceback in the child's output.
    """
    if directory is not None:
        os.stat(directory / os.curdir)
    if shutil.which(program, path=environment.get("PATH")) is None:
        number = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise OSError(number, os.strerror(number), program)


def _wait(waiting: list[Deferred[int]]) -> Deferred[int]:
    made: Deferred[int] = Deferred(waiting.remove)
    waiting.append(made)
    return made


def _fire(waiting: list[Deferred[int]], code: int | None) -> None:
    fired, waiting[:] = waiting[:], []
    for each in fired:
        each.callback(0 if code is None else code)


def exit_code(reason: Failure) -> int:
    """The exit code in Twisted's ``ProcessDone`` or ``ProcessTerminated``; negative if a signal ended it."""
    code, signal_number = getattr(reason.value, "exitCode", None), getattr(reason.value, "signal", None)
    if signal_number is not None:
        return -int(signal_number)
    return int(code or 0)


def describe_exit(code: int) -> str:
    """An exit code in words: ``exit code 1``, ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
