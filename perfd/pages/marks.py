"""What charts over time are marked with: the operator's notes, and when a tor had another version."""

from __future__ import annotations

from collections.abc import Collection

from perfd.charts.model import Mark
from perfd.store.filters import NoteFilter
from perfd.store.reader import StoreReader

MOST = 12
"""Of a chart; the newest ones."""


def marks_of(reader: StoreReader, since: float, until: float, tors: Collection[str] | None = None) -> list[Mark]:
    """Those of a time, the oldest first; of new versions only those of ``tors``, None: of all."""
    found = [Mark(note.at, note.text) for note in reader.notes(NoteFilter(since=since, until=until, limit=MOST))]
    found += [
        Mark(at, f"{tor} is {version}")
        for at, tor, version in reader.new_versions(since, until)
        if tors is None or tor in tors
    ]
    return sorted(found, key=lambda mark: mark.at)[-MOST:]
