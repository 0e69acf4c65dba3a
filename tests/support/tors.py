"""A tor as health sees it."""

from __future__ import annotations

import attrs


@attrs.frozen
class SomeTor:
    """A tor as far as health looks at it."""

    name: str
    version: str | None
    not_ready: str | None
