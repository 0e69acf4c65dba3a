"""What charts over time are marked with: notes, and when a tor had another version."""

from __future__ import annotations

from collections.abc import Collection

from perfd.charts.model import Mark
from perfd.store.filters import NoteFilter
from perfd.store.reader import StoreReader

MOST = 12
"""Of a chart; the newest ones."""


def marks_of(
    reader: StoreReader,
    since: float,
    until: float,
    tors: Collection[str] | None = None,
    experiment: str | None = None,
) -> list[Mark]:
    """Those of a time, the oldest first; without those about other tors than ``tors``, and other experiments.

    None: of all.
    """
    concerned = None if tors is None else tuple(tors)
    notes = reader.notes(NoteFilter(since=since, until=until, tor=concerned, experiment=experiment, limit=MOST))
    told = {(note.subject, note.at) for note in notes}
    found = [Mark(note.at, note.text) for note in notes]
    found += [
        Mark(at, f"{tor} is {version}")
        for at, tor, version in reader.new_versions(since, until)
        if (tors is None or tor in tors) and (f"tor:{tor}", at) not in told
    ]
    return sorted(found, key=lambda mark: mark.at)[-MOST:]
