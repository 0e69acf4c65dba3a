"""How far a scan of relays had come, by its records."""

from __future__ import annotations

from perfd.record import Outcome
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader


def last_pass(
    reader: StoreReader, source: str, experiment: str, tor: str, server: str
) -> tuple[int, int, frozenset[str]] | None:
    """Number, seed and measured relays (40 hexadecimal digits) of the last pass of a scan; None before the first.

    A relay whose run was cancelled is still to be measured. Raises StoreError and sqlite3.Error.
    """
    wanted = Filter(source=source, experiment=experiment, type="scan", tor=tor, server=server)
    found: tuple[int, int] | None = None
    done: set[str] = set()
    for m in (each for page in reader.pages(wanted) for each in page):  # the newest come first
        number, seed, relay = (m.extra.get(key) for key in ("SCANPASS", "SCANSEED", "SCANRELAY"))
        if not isinstance(number, int) or not isinstance(seed, int) or not isinstance(relay, str):
            continue  # nothing was measured then
        if found is None:
            found = number, seed
        if number != found[0]:
            break
        if m.outcome is not Outcome.CANCELLED:
            done.add(relay.removeprefix("$"))
    return None if found is None else (*found, frozenset(done))
