"""The variants of an experiment: what must not be put together, since each is measured in another way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

import attrs

from perfd.record import Measurement


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _flag(value: Any) -> Literal[0, 1] | None:
    return (1 if value else 0) if value in (0, 1) else None


@attrs.frozen
class Variant:
    """One way in which an experiment is measured; None is what its records do not have.

    A field is an attribute of the record, or with ``key`` in its metadata that key of the record's ``extra``. All
    that tells variants apart (database, metrics, health, tables, schemas) goes by these fields.
    """

    tor: str | None
    server: str | None
    browser: str | None = attrs.field(
        default=None, converter=_text, metadata={"key": "BROWSER", "doc": "of page loads"}
    )
    optimistic: Literal[0, 1] | None = attrs.field(
        default=None,
        converter=_flag,
        metadata={"key": "OPTIMISTIC", "doc": "as the record's OPTIMISTIC, if it has that"},
    )

    url: str | None = attrs.field(
        default=None, converter=_text, metadata={"key": "URL", "doc": "of what is fetched from elsewhere"}
    )

    @classmethod
    def of(cls, m: Measurement) -> Self:
        """That of a measurement."""
        keys = {field.name: field.metadata.get("key") for field in attrs.fields(cls)}
        values: dict[str, Any] = {
            name: getattr(m, name) if key is None else m.extra.get(key) for name, key in keys.items()
        }
        return cls(**values)

    @property
    def _words(self) -> tuple[str, ...]:
        """Each field as a word: a number after its name, a text alone."""
        values = attrs.asdict(self).items()
        return tuple(
            f"{name.upper()}={value}" if isinstance(value, int) else value or "-" for name, value in values
        )


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
