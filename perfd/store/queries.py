"""Queries that are too long to stand where they are asked."""

from __future__ import annotations

from typing import Any

import attrs

from perfd.store.filters import key_in_extra
from perfd.store.rows import quoted
from perfd.variant import Variant


def _place(field: attrs.Attribute[Any]) -> str:
    """Where the value of a variant's field is in a row."""
    key = field.metadata.get("key")
    return quoted(field.name) if key is None else key_in_extra(str(key))


_RUNS = " AND ".join(
    (
        "measurements WHERE experiment = ? AND start < ?",
        *(f"{_place(field)} IS ?" for field in attrs.fields(Variant)),
    )
)

_OF_SLOTS = f"{_RUNS} AND source = ? AND slot IS NOT NULL"

# The run that started last may have waited for its turn, and slots after its own been skipped meanwhile.
LAST_SLOT = f"""
    SELECT MAX(COALESCE({key_in_extra("UNTIL")}, slot)) FROM {_OF_SLOTS}
        AND start >= (SELECT MIN(slot, start) FROM {_OF_SLOTS} ORDER BY start DESC LIMIT 1)
"""

# Three steps into indexes; only the failures since the last success are counted.
HISTORY = f"""
    WITH bounds (first, last_success) AS (
        SELECT
            (SELECT MIN(start) FROM {_RUNS}),
            (SELECT MAX(start) FROM {_RUNS} AND outcome = 'ok' AND type <> 'request')
    )
    SELECT first, last_success, (
        SELECT COUNT(*) FROM {_RUNS} AND start >= COALESCE(last_success, first)
            AND outcome NOT IN ('ok', 'cancelled') AND COALESCE(errorcode, '') NOT IN ('PERFD/NOCBT', 'PERFD/DOWN')
            AND type <> 'request'
    )
    FROM bounds
"""

# Of each measurement the stream that carried it last.
PATHS = """
    SELECT wanted.value, circuits.path, circuits.current_guards FROM json_each(?) AS wanted
    CROSS JOIN streams ON streams.measurement = wanted.value CROSS JOIN circuits ON circuits.id = streams.circuit
    ORDER BY streams.first_seen
"""
