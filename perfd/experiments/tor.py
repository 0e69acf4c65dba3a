"""A tor as experiments see it."""

from __future__ import annotations

import attrs
from twisted.internet.defer import DeferredLock

from perfd.interfaces import Tor
from perfd.tor.events import ControlEvents
from perfd.tor.guards import Guards


@attrs.frozen
class MeasuredTor:
    """A tor with what belongs to it: its turn, its control events, its guards, the label of its transport."""

    tor: Tor
    turn: DeferredLock = attrs.Factory(DeferredLock)  # whoever holds it is alone on this tor
    events: ControlEvents | None = None
    guards: Guards | None = None  # None: tor's own choice
    transport: str | None = None

    @property
    def not_ready(self) -> str | None:
        """Why no measurement can run now; None when one can."""
        return self.tor.not_ready or (self.guards.not_ready if self.guards is not None else None)
