"""A control connection to a tor that takes the commands for circuits and streams, and no others."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

KNOWN = ("EXTENDCIRCUIT", "CLOSECIRCUIT", "SETCONF", "GETCONF", "GETINFO", "ATTACHSTREAM", "CLOSESTREAM")


class FakeControl:
    """Answers OK, or what ``answers`` has for a command, and keeps what it was told."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.listeners: dict[str, list[Callable[[str], None]]] = {"CIRC": [], "STREAM": [], "STATUS_CLIENT": []}
        self.answers: dict[str, Deferred[str]] = {}

    def add_event_listener(self, keyword: str, listener: Callable[[str], None]) -> Deferred[None]:
        self.listeners[keyword].append(listener)
        return succeed(None)

    def queue_command(self, command: str) -> Deferred[str]:
        keyword = command.partition(" ")[0]
        assert keyword in KNOWN, command
        self.commands.append(command)
        return self.answers.get(command) or succeed("OK")

    def get_conf_raw(self, name: str) -> Deferred[str]:
        return self.queue_command(f"GETCONF {name}")

    def get_info_raw(self, *keys: str) -> Deferred[str]:
        return self.queue_command(f"GETINFO {' '.join(keys)}")

    def event(self, keyword: str, text: str) -> None:
        for listener in tuple(self.listeners[keyword]):
            listener(text)

    def taken(self) -> list[str]:
        """The commands since this was last asked."""
        commands, self.commands = self.commands, []
        return commands
