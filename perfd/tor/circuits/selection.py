"""Which relays are meant: fingerprints, countries, flags and classes of bandwidth; pure functions.

Written as tor writes lists of nodes (``ExitNodes`` in tor's manual), as far as that goes: terms separated by
commas, of which a relay needs to match one. A term is one condition, or several joined by ``+`` of which all must
hold: ``{de}+Guard, bandwidth:4/4``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from perfd.tor.events.relays import RouterStatus

FLAGS = frozenset(
    ("Authority", "BadExit", "Exit", "Fast", "Guard", "HSDir", "MiddleOnly", "Running", "Stable", "V2Dir", "Valid")
)
"""The flags that a consensus gives to relays (dir-spec, known-flags)."""

MOST_CLASSES = 100

_FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})", re.ASCII)
_COUNTRY = re.compile(r"\{([A-Za-z]{2}|\?\?)\}", re.ASCII)
_BANDWIDTH = re.compile(r"bandwidth:([0-9]{1,3})/([0-9]{1,3})", re.ASCII)


@attrs.frozen
class Relay:
    """A relay with what a choice may ask about it."""

    status: RouterStatus
    country: str | None = None  # two small letters; None: the GeoIP of tor does not know
    rank: int = 0  # by its weight in the consensus, the lightest has 0
    of: int = 1  # so many relays were ranked

    def is_in_class(self, number: int, classes: int) -> bool:
        """Whether it is in class ``number`` of so many that have the same size; 1 is that of the lightest."""
        return self.rank * classes // self.of == number - 1


def ranked(relays: Iterable[RouterStatus], countries: Mapping[str, str]) -> list[Relay]:
    """The relays by weight, the lightest first; ``countries`` by fingerprint."""
    ordered = sorted(relays, key=lambda each: (each.bandwidth, each.fingerprint))
    return [Relay(each, countries.get(each.fingerprint), rank, len(ordered)) for rank, each in enumerate(ordered)]


@attrs.frozen
class Selection:
    """The relays that match one of ``terms``, each a tuple of conditions in their normal form."""

    terms: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Raises ``ValueError`` that says which condition is none."""
        terms = [term.strip() for term in re.split(r"[,\n]", text)]
        found = tuple(tuple(_normal(word.strip()) for word in term.split("+")) for term in terms if term)
        if not found:
            raise ValueError("names no relays")
        return cls(found)

    def __str__(self) -> str:
        return ", ".join(map("+".join, self.terms))

    @property
    def asks_countries(self) -> bool:
        return any(word.startswith("{") for term in self.terms for word in term)

    def matches(self, relay: Relay) -> bool:
        return any(all(_holds(word, relay) for word in term) for term in self.terms)

    def of(self, relays: Sequence[Relay]) -> list[Relay]:
        return list(filter(self.matches, relays))


def _normal(word: str) -> str:
    for pattern, form in _FORMS:
        match = pattern.fullmatch(word)
        if match is not None:
            return form(match)
    flags = {flag.lower(): flag for flag in FLAGS}
    if word.lower() not in flags:
        known = ", ".join(sorted(FLAGS))
        raise ValueError(f"{word!r} is no fingerprint, {{country}} or bandwidth:K/N, and none of the flags {known}")
    return flags[word.lower()]


def _bandwidth(match: re.Match[str]) -> str:
    number, classes = map(int, match.groups())
    if not 1 <= number <= classes <= MOST_CLASSES:
        raise ValueError(f"{match[0]!r} must be one of 1/N to N/N, N at most {MOST_CLASSES}")
    return f"bandwidth:{number}/{classes}"


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_FINGERPRINT, lambda match: match[1].upper()),
    (_COUNTRY, lambda match: f"{{{match[1].lower()}}}"),
    (_BANDWIDTH, _bandwidth),
)


def _holds(word: str, relay: Relay) -> bool:
    if word in FLAGS:
        return word in relay.status.flags
    if word.startswith("{"):
        return word == f"{{{relay.country or '??'}}}"
    bandwidth = _BANDWIDTH.fullmatch(word)
    if bandwidth is not None:
        return relay.is_in_class(int(bandwidth[1]), int(bandwidth[2]))
    return word == relay.status.fingerprint
