"""What the command lines of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from perfd.instance import CONFIG_FILE

T = TypeVar("T")


def argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """``read`` for argparse, which shows a ValueError's message only if it is an ArgumentTypeError."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``: which instance."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(CONFIG_FILE),
        metavar="FILE",
        help="perfd.conf, or the directory it is in",
    )
