"""The variants of an experiment: what must not be put together, since each is measured in another way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

import attrs

from perfd.record import Measurement


@attrs.frozen
class Variant:
    """One way in which an experiment is measured; None is what its records do not have."""

    tor: str | None
    server: str | None
    browser: str | None = attrs.field(default=None, metadata={"doc": "of page loads"})
    optimistic: Literal[0, 1] | None = attrs.field(
        default=None, metadata={"doc": "as the record's OPTIMISTIC, if it has that"}
    )

    @classmethod
    def of(cls, m: Measurement) -> Self:
        """That of a measurement."""
        browser, optimistic = m.extra.get("BROWSER"), m.extra.get("OPTIMISTIC")
        return cls(
            m.tor,
            m.server,
            None if browser is None else str(browser),
            (1 if optimistic else 0) if optimistic in (0, 1) else None,
        )

    @property
    def _words(self) -> tuple[str, ...]:
        optimistic = None if self.optimistic is None else f"OPTIMISTIC={self.optimistic}"
        return tuple(word or "-" for word in (self.tor, self.server, self.browser, optimistic))


COLUMNS = tuple(field.name for field in attrs.fields(Variant))
"""In which variants differ."""


def names(experiment: str, variants: Iterable[Variant]) -> dict[Variant, str]:
    """What to call the variants of ``experiment``: its name, and in brackets only that in which they differ."""
    words = {variant: variant._words for variant in variants}
    columns = [n for n, column in enumerate(zip(*words.values(), strict=True)) if len(set(column)) > 1]
    return {
        variant: f"{experiment} [{' '.join(all_words[n] for n in columns)}]" if columns else experiment
        for variant, all_words in words.items()
    }
