"""What a tor says in its log, and which of it tells why it ended or stalls."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

_LOG_TAIL = 16 * 1024
_SEVERITY = re.compile(r"\[(?:debug|info|notice|warn|err)\] ")

_STANDING_WARNINGS = (
    "TestingTorNetwork is set",
    "You have used DirAuthority",
    "You are running Tor as root",
    "Your ContactInfo config option is not set",
    "V3AuthVotingInterval is very low",
    "Your application (using socks",
    "Reading config failed--see warnings above",
)
"""Complaints that explain nothing: a tor has them with our settings always."""

_NOTICES_OF_OUR_DOING = (
    "New control connection opened",
    "Opening ",
    "Opened ",
)
"""Notices that explain nothing: what a tor says when it opens its ports, and when Perfd comes to them."""


def tail(path: Path) -> list[str]:
    """The last lines of a log file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def message_of(line: str) -> str:
    """A line of tor's log without its time and severity."""
    return _SEVERITY.split(line, maxsplit=1)[-1].strip()


def last_words(lines: Sequence[str]) -> str:
    """Why tor ended or stalls, from the end of its log: its last two complaints, else its last line that tells."""
    complaints = [message_of(line) for line in lines if "[warn] " in line or "[err] " in line]
    telling = [message for message in complaints if not message.startswith(_STANDING_WARNINGS)]
    if telling:
        return "; ".join(dict.fromkeys(telling[-2:]))
    messages = [message_of(line) for line in lines]
    own = [message for message in messages if not message.startswith(_NOTICES_OF_OUR_DOING)]
    return (own or messages or ["it said nothing"])[-1]
