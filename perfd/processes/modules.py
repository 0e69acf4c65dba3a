"""Modules of Perfd that are run as programs of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import perfd


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of Perfd with this Python.

    The working directory is not searched for modules (``-P``): others may write there.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``environment``, in which a child finds the same Perfd, also in a checkout that is not installed."""
    path = (str(Path(perfd.__file__).parents[1]), environment.get("PYTHONPATH"))
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, path))}
