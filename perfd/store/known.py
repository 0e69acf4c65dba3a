"""What was so the last time, in the database: of what changes by itself, or while Perfd did not run."""

from __future__ import annotations

import attrs

from perfd.record import new_id


@attrs.frozen(kw_only=True)
class KnownState:
    """A version, or whatever else is told when it changes. The times are in seconds since the epoch.

    ``kind`` and ``subject`` are those of the note that a change makes; ``state`` is a version, a digest, or a JSON
    object of digests.
    """

    source: str  # the name of the instance
    at: float  # since when it has been so
    kind: str
    subject: str | None
    state: str
    id: str = attrs.field(factory=new_id)
