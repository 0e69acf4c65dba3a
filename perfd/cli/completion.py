"""Completion of the command line in bash, zsh and fish, by argcomplete, which asks ``perfd`` itself.

The names of experiments, and of tors and other clients, are those of perfd.conf.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from perfd.config import Config, ConfigError, load_config
from perfd.instance import CONFIG_FILE

SHELLS = ("bash", "zsh", "fish")

ASKED = "_ARGCOMPLETE"
"""The environment variable that is set where the shell wants completions."""

NAMES: dict[str, Callable[[Config], list[str]]] = {
    "experiment": lambda config: [each.name for each in config.experiments],
    "tor": lambda config: [each.name for each in config.tors] + [each.name for each in config.clients],
}
"""Options, and what there is for them in perfd.conf."""


def print_code(shell: str) -> int:
    """Print what the shell is to run at its start."""
    import argcomplete  # noqa: PLC0415 - nobody else waits for it

    sys.stdout.write(
        argcomplete.shellcode(  # type: ignore[attr-defined]
            ["perfd"], shell=shell
        )
        + "\n"
    )
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end this process, if it is the shell that has started it."""
    import argcomplete  # noqa: PLC0415

    for action in _actions(parser):
        if action.dest in NAMES:
            action.completer = _completer(NAMES[action.dest])  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)


def _completer(names: Callable[[Config], list[str]]) -> Callable[..., list[str]]:
    def found(parsed_args: argparse.Namespace, **_: object) -> list[str]:
        try:
            return names(load_config(getattr(parsed_args, "config", None) or Path(CONFIG_FILE)))
        except ConfigError:
            return []

    return found
