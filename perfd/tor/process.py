"""One tor process that Perfd launched: its torrc, its output, its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from perfd.config.torrc import option_name
from perfd.processes.child import Child, describe_exit
from perfd.processes.programs import command_line, end_processes, find_processes
from perfd.reactor import Reactor
from perfd.tor.files import make_private, quoted, write_whole
from perfd.tor.messages import last_words, message_of

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

    def prepare(self, options: Sequence[str], network_options: Sequence[str], *, keep: bool = False) -> None:
        """Make the directory, and write the torrc. Raises ``OSError``.

        A tor of the private network forgets relays that it met in former runs, since their ports may have changed,
        unless it is to ``keep`` them.
        """
        make_private(self.path)
        for name in (self._control_port_file, self._control_socket):
            name.unlink(missing_ok=True)
        if network_options and not keep:
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
            lines = os.fsdecode(self._control_port_file.read_bytes()).split("\n")
        except OSError:
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


class TorProcess(Child):
    """A running tor, launched with the torrc in ``directory``."""

    @classmethod
    def launch(cls, reactor: Reactor, binary: str, directory: TorDirectory) -> TorProcess:
        """Start tor; it ends when this process does. Raises ``OSError``."""
        argv = [binary, "--defaults-torrc", str(directory.path / "torrc-defaults"), "-f", str(directory.torrc)]
        process = cls(reactor)
        process.start([*argv, _OWNER_OPTION, str(os.getpid())])
        return process

    def describe_end(self) -> str:
        """How it ended, and what it said last: ``exit code 1: Unknown option 'Foo'.  Failing.``"""
        code = self.exit_code or 0
        if code == -signal.SIGKILL:
            return describe_exit(code)  # nobody gets to say anything about that
        last = last_words(self.lines) if code > 0 else message_of(self.lines[-1] if self.lines else "")
        return f"{describe_exit(code)}: {last}" if last else describe_exit(code)
