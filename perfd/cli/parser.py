"""Reading the command line: mistakes in it are told in one line, as all others are."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from perfd.cli.output import complain

WRONG_USAGE = 2

OUR_WORDS = (
    (r"^argument (\S+): ", r"\1: "),
    (r"^the following arguments are required: (.*)$", r"\1 is missing"),
    (r"expected (one argument|\d+ arguments)$", "its value is missing"),
    (r"expected at least one argument$", "its value is missing"),
    (r"invalid choice: (\S+) \(choose from (.*)\)$", r"\1 is not one of \2"),
    (r"not allowed with argument (\S+)$", r"cannot be given together with \1"),
)
"""What argparse says, and how Perfd says it."""


class Parser(argparse.ArgumentParser):
    """That of ``perfd``, and of each of its commands."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where more is said, and end. Raises SystemExit."""
        command = self.prog.removeprefix("perfd").strip()
        text = message
        for theirs, ours in OUR_WORDS:
            text = re.sub(theirs, ours, text)
        more = f"perfd help {command.split()[0]}" if command else "perfd help"
        complain(f"{f'{command}: ' if command else ''}{text} (`{more}` has all)")
        raise SystemExit(WRONG_USAGE)

    # The type of a namespace is the caller's business here, as in argparse itself.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As that of argparse, but nothing may be unknown: the command itself says what was meant."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return found, unknown

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"there is no place for {word!r}"
        option = word.partition("=")[0]
        close = difflib.get_close_matches(option, self._option_string_actions, n=1)
        return f"there is no option {option}" + (f"; did you mean {close[0]}?" if close else "")
