"""One tor process that Perfd launched: its torrc, its output, its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from perfd.processes.programs import GRACE, command_line, describe_exit, end_processes, exit_code, find_processes
from perfd.reactor import Reactor
from perfd.tor.files import make_private, quoted, write_whole
from perfd.tor.messages import last_words, message_of

MOST_LINES = 50
"""How many lines of tor's output are remembered."""

MOST_IN_LINE = 500
"""How much of one line is remembered, in bytes."""

_LONGEST_SOCKET_PATH = 100
"""In bytes; the kernel takes 107."""

_OWNER_OPTION = "--__OwningControllerProcess"

# IsolateSOCKSAuth is what gives every measurement a circuit of its own; ExtendedErrors has tor say why it did not
# reach an onion service.
_SOCKS_PORT = "SocksPort 127.0.0.1:auto IsolateSOCKSAuth ExtendedErrors"


class DirectoryInUseError(Exception):
    """Another Perfd that lives runs a tor in this data directory."""


class TorDirectory:
    """The data directory of one launched tor, and the files in it that Perfd reads and writes."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.torrc = self.path / "torrc"
        self._control_port_file = self.path / "control-port"
        self._control_socket = self.path / "control.socket"

    def prepare(self, options: Sequence[str], network_options: Sequence[str]) -> None:
        """Make the directory, and write the torrc. Raises ``OSError``.

        A tor of the private network forgets relays that it met in former runs: their ports may have changed.
        """
        make_private(self.path)
        for name in (self._control_port_file, self._control_socket):
            name.unlink(missing_ok=True)
        if network_options:
            for pattern in ("cached-*", "state"):
                for leftover in self.path.glob(pattern):
                    leftover.unlink()
        write_whole(self.torrc, self._torrc(options, network_options))

    def _torrc(self, options: Sequence[str], network_options: Sequence[str]) -> str:
        given = {option_name(line) for line in options}
        defaults = [_SOCKS_PORT, "DormantCanceledByStartup 1"]
        return "\n".join(
            [
                "# Written by Perfd at each launch; options of yours belong to torrc in perfd.conf.",
                *(line for line in defaults if option_name(line) not in given),
                *options,
                "",
                *network_options,
                # Of an option that is given twice, tor takes the last: these are Perfd's.
                f"DataDirectory {quoted(self.path)}",
                f"ControlPort {quoted(self._control_port())}",
                f"ControlPortWriteToFile {quoted(self._control_port_file)}",
                "CookieAuthentication 1",
                "Log notice stdout",
                "RunAsDaemon 0",
                "",
            ]
        )

    def _control_port(self) -> str:
        if len(os.fsencode(self._control_socket)) <= _LONGEST_SOCKET_PATH:
            return f"unix:{quoted(self._control_socket)}"
        return "127.0.0.1:auto"

    def control_address(self) -> str | None:
        """Where tor listens for us (``host:port`` or ``unix:PATH``), None as long as it does not say."""
        try:
            lines = self._control_port_file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return None
        if f"UNIX_PORT={self._control_socket}" in lines:
            return f"unix:{self._control_socket}"
        return next((line.removeprefix("PORT=") for line in lines if line.startswith("PORT=127.0.0.1:")), None)

    async def end_leftovers(self, reactor: Reactor) -> None:
        """End the tor that a crashed Perfd left in this directory, if there is one.

        It would end by itself within 15 seconds (``__OwningControllerProcess``). Raises ``DirectoryInUseError``
        if its owner lives, ``OSError`` if it cannot be ended.
        """
        for pid in find_processes([self.torrc]):
            owner = _owner_of(pid)
            if owner not in (None, os.getpid()) and command_line(owner or 0):
                raise DirectoryInUseError(f"process {owner} runs a tor in {self.path}")
        await end_processes(reactor, [self.torrc])


def _owner_of(pid: int) -> int | None:
    arguments = command_line(pid)
    if _OWNER_OPTION in arguments[:-1]:
        value = arguments[arguments.index(_OWNER_OPTION) + 1]
        return int(value) if value.isdigit() else None
    return None


def option_name(line: str) -> str:
    """The name of the option in a line of a torrc, in lower case; empty for a comment."""
    match = re.match(r"\s*[+/]?([A-Za-z0-9_]+)", line)
    return match[1].lower() if match else ""


class TorProcess(ProcessProtocol):
    """A running tor, launched with the torrc in ``directory``."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self.exit_code: int | None = None
        self._partial = b""
        self._waiting: list[Deferred[int]] = []

    @classmethod
    def launch(cls, reactor: Reactor, binary: str, directory: TorDirectory) -> TorProcess:
        """Start tor; it ends when this process does. Raises ``OSError``."""
        self = cls()
        argv = [binary, "--defaults-torrc", str(directory.path / "torrc-defaults"), "-f", str(directory.torrc)]
        argv += [_OWNER_OPTION, str(os.getpid())]
        reactor.spawnProcess(self, binary, args=argv, env=os.environ)
        return self

    def when_ended(self) -> Deferred[int]:
        """Fires with the exit code (negative: killed by that signal) when the process is gone."""
        if self.exit_code is not None:
            return succeed(self.exit_code)
        waiting: Deferred[int] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def describe_end(self) -> str:
        """How it ended, and what it said last: ``exit code 1: Unknown option 'Foo'.  Failing.``"""
        code = self.exit_code or 0
        if code == -signal.SIGKILL:
            return describe_exit(code)  # nobody gets to say anything about that
        last = last_words(self.lines) if code > 0 else message_of(self.lines[-1] if self.lines else "")
        return f"{describe_exit(code)}: {last}" if last else describe_exit(code)

    async def stop(self, reactor: Reactor, grace: float = GRACE) -> None:
        """End the process: SIGTERM, after ``grace`` seconds SIGKILL. Returns when it is gone."""
        if self.exit_code is not None:
            return
        self._signal("TERM")
        harder = reactor.callLater(grace, self._kill)
        await self.when_ended()
        if harder.active():
            harder.cancel()

    def _kill(self) -> None:
        self._signal("KILL")
        self.transport.loseConnection()  # a child of its own may hold its output open

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        *whole, partial = (self._partial + data).split(b"\n")
        self._partial = partial[:MOST_IN_LINE]
        self._remember(whole)

    errReceived = outReceived

    def _remember(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line.strip():
                self.lines.append(line[:MOST_IN_LINE].decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        self._remember([self._partial])
        self.exit_code = exit_code(reason)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.exit_code)
