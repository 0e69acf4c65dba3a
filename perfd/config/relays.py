"""Which relays an experiment is measured over: ``guard``, ``middle``, ``exit`` and ``path``.

Written as tor writes lists of nodes (``ExitNodes`` in tor's manual), as far as that goes: terms separated by
commas, of which a relay needs to match one. A term is one condition, or several joined by ``+`` of which all must
hold, each of them turned around by a ``!`` in front: ``{de}+Fast+!~gamma, @bandwidth:4/4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from perfd.config.options import Option
from perfd.config.section import Section
from perfd.config.values import nonempty, one_of, whole_number

FLAGS = (
    "Authority",
    "BadExit",
    "Exit",
    "Fast",
    "Guard",
    "HSDir",
    "MiddleOnly",
    "Running",
    "Stable",
    "V2Dir",
    "Valid",
)
"""The flags that a consensus gives to relays (dir-spec, known-flags)."""

GUARD, MIDDLE, EXIT = "guard", "middle", "exit"
PLACES = (GUARD, MIDDLE, EXIT)

MOST_CLASSES = 100
FEWEST_HOPS, MOST_HOPS = 2, 8  # tor attaches no streams to a circuit of one relay, and relays extend none beyond 8

FILE = "@file:"
MOST_TERMS = 10_000

_FORMS = (
    ("fingerprint", re.compile(r"\$?([0-9A-Fa-f]{40})", re.ASCII)),
    ("nickname", re.compile(r"~([A-Za-z0-9]{1,19})", re.ASCII)),
    ("country", re.compile(r"\{([A-Za-z]{2}|\?\?)\}", re.ASCII)),
    ("bandwidth", re.compile(r"@bandwidth:([0-9]{1,3}/[0-9]{1,3})", re.ASCII)),
)
_WRITTEN = {"fingerprint": "{}", "nickname": "~{}", "country": "{{{}}}", "bandwidth": "@bandwidth:{}", "flag": "{}"}


@attrs.frozen
class Condition:
    """What a relay must be: ``kind`` is fingerprint, nickname, country, bandwidth or flag."""

    kind: str
    value: str  # in its normal form: fingerprints in upper case without $, countries in lower case
    is_not: bool = False

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises ``ValueError`` that says what is no condition."""
        is_not, word = text.startswith("!"), text.removeprefix("!").strip()
        for kind, pattern in _FORMS:
            match = pattern.fullmatch(word)
            if match is not None:
                return cls(kind, _normal(kind, match[1]), is_not)
        flags = {flag.lower(): flag for flag in FLAGS}
        if word.lower() not in flags:
            raise ValueError(
                f"{word!r} is no fingerprint, ~nickname, {{country}}, @bandwidth:K/N or {FILE}NAME, and none of "
                f"the flags {', '.join(FLAGS)}"
            )
        return cls("flag", flags[word.lower()], is_not)

    def __str__(self) -> str:
        return "!" * self.is_not + _WRITTEN[self.kind].format(self.value)

    @property
    def names_one(self) -> bool:
        """Whether it is one relay, and not a class of them."""
        return self.kind in ("fingerprint", "nickname") and not self.is_not


def _normal(kind: str, value: str) -> str:
    if kind == "bandwidth":
        number, classes = map(int, value.split("/"))
        if not 1 <= number <= classes <= MOST_CLASSES:
            raise ValueError(f"'@bandwidth:{value}' must be one of 1/N to N/N, N at most {MOST_CLASSES}")
        return f"{number}/{classes}"
    return {"fingerprint": value.upper(), "country": value.lower()}.get(kind, value)


@attrs.frozen
class Selection:
    """The relays that match one of ``terms``, each a tuple of conditions."""

    terms: tuple[tuple[Condition, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Raises ``ValueError`` that says which condition is none."""
        terms = [term.strip() for term in re.split(r"[,\n]", text) if term.strip()]
        if not terms:
            raise ValueError("names no relays")
        if len(terms) > MOST_TERMS:
            raise ValueError(f"names {len(terms)} relays or classes; there is room for {MOST_TERMS}")
        return cls(tuple(tuple(Condition.parse(word.strip()) for word in term.split("+")) for term in terms))

    def __str__(self) -> str:
        return ", ".join("+".join(map(str, term)) for term in self.terms)

    @property
    def conditions(self) -> Iterator[Condition]:
        return (condition for term in self.terms for condition in term)

    @property
    def only(self) -> str | None:
        """The one relay that it names, as it is written; None if it may be several."""
        named = {str(term[0]) for term in self.terms if len(term) == 1 and term[0].names_one}
        return named.pop() if len(named) == 1 == len(set(self.terms)) else None


@attrs.frozen(kw_only=True)
class RelaysConfig:
    """The relays for each place of a circuit, in their order; None: those that tor itself would take.

    ``is_path``: all of them are given, however many there are.
    """

    hops: tuple[Selection | None, ...]
    is_path: bool = False

    @classmethod
    def of(cls, chosen: Mapping[str, Selection | None]) -> RelaysConfig:
        """A circuit of three, with what is ``chosen`` for its places."""
        return cls(hops=tuple(chosen.get(place) for place in PLACES))

    @property
    def asks_countries(self) -> bool:
        return any(each.kind == "country" for hop in self.hops if hop is not None for each in hop.conditions)

    def __str__(self) -> str:
        if self.is_path:
            return " > ".join(map(str, self.hops))
        named = zip(PLACES, self.hops, strict=True)
        return "; ".join(f"{place} {selection}" for place, selection in named if selection is not None)


_RELAYS = "fingerprints, ~nicknames, {countries}, flags, @bandwidth:K/N classes, @file:NAME"

RELAYS = (
    Option("guard", nonempty, None, f"the first relays of circuits: {_RELAYS}; not given: tor's own guards"),
    Option("middle", nonempty, None, "those in the middle, in the same way; not given: any, by weight"),
    Option("exit", nonempty, None, "the last ones, in the same way; not given: any, by weight"),
    Option("path", nonempty, None, "all of a circuit's relays, each in the same way, with > between them"),
)
"""The options of all kinds that can be measured over relays that are chosen."""


AUTO = "auto"

SCANNED = (
    Option("relays", nonempty, "Running", f"the class that is measured, one relay a run: {_RELAYS}"),
    Option(
        "place",
        one_of((AUTO, *PLACES)),
        AUTO,
        "where in circuits: guard, middle, exit; auto: as exit, guard or middle, the first that it can be",
    ),
    Option("seed", whole_number, None, "of the order; not given: drawn, and recorded"),
    *RELAYS[:3],
)
"""The options of scans. What is chosen for the other places are the known relays beside that which is measured."""


@attrs.frozen(kw_only=True)
class ScanConfig:
    """What a scan measures: ``relays`` in the ``place`` of circuits, or each where it can be."""

    relays: Selection
    place: str = AUTO
    seed: int | None = None  # of the order


def read_scan(section: Section, options: dict[str, Any], directory: Path) -> ScanConfig | None:
    """What is scanned, of the ``options`` of an experiment, which lose what belongs to it; None: it is no scan."""
    if SCANNED[1].attribute not in options:
        return None
    relays, place, seed = (options.pop(each.attribute) for each in SCANNED[:3])
    if place in section and place in PLACES:
        section.problem(place, f"with place = {place} the option relays says which relays are measured there")
    found = _read(section, "relays", relays, directory)
    return None if found is None else ScanConfig(relays=found, place=place, seed=seed)


def read_relays(section: Section, options: dict[str, Any], directory: Path) -> RelaysConfig | None:
    """What is chosen, of the ``options`` of an experiment, which lose what belongs to it; None: nothing.

    Files are relative to ``directory``. Problems are with ``section``.
    """
    texts = {each.name: options.pop(each.attribute, None) for each in RELAYS}
    path = texts.pop("path")
    if path is None:
        chosen = {name: _read(section, name, text, directory) for name, text in texts.items() if text is not None}
        found = RelaysConfig.of(chosen) if chosen else None
    else:
        for name, text in texts.items():
            if text is not None:
                section.problem(name, "cannot be given together with path")
        hops = tuple(_read(section, "path", hop, directory) for hop in path.split(">"))
        found = RelaysConfig(hops=hops, is_path=True)
        if not FEWEST_HOPS <= len(hops) <= MOST_HOPS:
            section.problem("path", f"has {len(hops)} relays; tor's circuits have {FEWEST_HOPS} to {MOST_HOPS}")
    if found is not None:
        _check_once(section, found)
    return found


def _read(section: Section, option: str, text: str, directory: Path) -> Selection | None:
    try:
        return Selection.parse("\n".join(_with_files(text, directory)))
    except (OSError, ValueError) as error:
        section.problem(option, f"{getattr(error, 'strerror', None) or error}")
        return None


def _with_files(text: str, directory: Path) -> Iterator[str]:
    """Its terms, with those that a file has in its place."""
    for term in re.split(r"[,\n]", text):
        if not term.strip().startswith(FILE):
            yield term
            continue
        name = term.strip().removeprefix(FILE)
        try:
            lines = (directory / name).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ValueError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        yield from (line.partition("#")[0] for line in lines)


def _check_once(section: Section, config: RelaysConfig) -> None:
    """A relay can be in a circuit once only."""
    names = ["path"] * len(config.hops) if config.is_path else PLACES
    seen: dict[str, str] = {}
    for name, hop in zip(names, config.hops, strict=True):
        only = None if hop is None else hop.only
        if only is None:
            continue
        if only in seen:
            where = f"the {seen[only]} already" if name != "path" else "in it twice"
            section.problem(name, f"{only} is {where}: a relay can be in a circuit once only")
        seen[only] = name
