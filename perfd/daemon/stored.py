"""What the daemon remembers by the database: how things stood when it last ran."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from perfd.record import Note, StoredComparison
from perfd.store.known import KnownState
from perfd.store.reader import AsyncReader, History
from perfd.store.writer import StoreSink
from perfd.variant import Variant


@attrs.frozen
class StoredDesigns:
    """The designs of comparisons in the database."""

    reader: AsyncReader
    store: StoreSink

    async def read(self, name: str) -> tuple[StoredComparison | None, list[tuple[int, int, int]]]:
        """The design of this name, and its blocks. Raises StoreError, sqlite3.Error."""
        return await self.reader.run(lambda store: (store.comparison(name), store.blocks(name)))

    def keep(self, comparison: StoredComparison) -> None:
        """Keep one that begins."""
        self.store.record_comparison(comparison)


@attrs.frozen
class StoredMarks:
    """What was so the last time, in the database."""

    reader: AsyncReader
    store: StoreSink
    source: str

    async def known(self) -> list[KnownState]:
        """All that was known. Raises StoreError, sqlite3.Error."""
        return await self.reader.run(lambda store: store.known_states(self.source))

    def keep(self, known: KnownState, note: Note | None) -> None:
        """Keep what is so now, and the note of it."""
        self.store.record_state(known)
        if note is not None:
            self.store.record_note(note)


def read_history(reader: AsyncReader, experiment: str, variant: Variant, before: float) -> Deferred[History | None]:
    """How ``variant`` of ``experiment`` went on until ``before``."""
    return reader.run(lambda store: store.history(experiment, variant, before))


def read_last_slot(
    reader: AsyncReader, source: str, experiment: str, variant: Variant, before: float
) -> Deferred[float | None]:
    """The last slot of ``variant`` of ``experiment`` before ``before`` that has a record of this instance."""
    return reader.run(lambda store: store.last_slot(source, experiment, variant, before))
