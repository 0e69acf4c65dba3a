"""The instance that a command works on."""

from __future__ import annotations

from pathlib import Path

from perfd.cli.privileges import work_as_owner
from perfd.config import Config, load_config


def load_as_owner(path: Path, *, writes: bool = False) -> Config:
    """The configuration in ``path``; root becomes whose instance that is, see ``work_as_owner``.

    Raises ConfigError, InstanceError, UserError and OSError.
    """
    config = load_config(path)
    work_as_owner(config, writes=writes)
    return config
