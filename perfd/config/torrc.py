"""Lines of a torrc (tor's manual, "The configuration file format")."""

from __future__ import annotations

import re


def option_name(line: str) -> str:
    """The name of the option in a line, in lower case; empty for a comment."""
    match = re.match(r"\s*[+/]?(%?[A-Za-z0-9_]+)", line)
    return match[1].lower() if match else ""
