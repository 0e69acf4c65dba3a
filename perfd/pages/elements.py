"""Parts of pages. All texts are escaped, since they are put into ``Markup``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import attrs
from markupsafe import Markup

from perfd.charts.axes import Axis
from perfd.charts.html import Sheet, join
from perfd.record import Outcome

Text = str | Markup

NUMBER = "number"
"""The class of cells that stand to the right."""

_MARKS = {
    Outcome.OK.value: "ok",
    Outcome.FAILED.value: "failed",
    Outcome.TIMEOUT.value: "timeout",
    Outcome.SKIPPED.value: "skipped",
    Outcome.CANCELLED.value: "skipped",
}


@attrs.frozen
class Heading:
    """A column of a table. ``minor`` ones are left out where there is little room."""

    text: str
    number: bool = False
    minor: bool = False

    @property
    def look(self) -> str:
        return " ".join([*([NUMBER] if self.number else []), *(["minor"] if self.minor else [])])


def table(caption: str, headings: Sequence[Heading], rows: Iterable[Sequence[Text]]) -> Markup:
    """A table that can be scrolled where it is too wide; the first cell of a row names it."""
    head = join(_cell("th", heading.look, heading.text, "col") for heading in headings)
    body = join(
        Markup("<tr>{}</tr>\n").format(
            join(
                _cell("td" if n else "th", heading.look, cell, "" if n else "row")
                for n, (heading, cell) in enumerate(zip(headings, row, strict=True))
            )
        )
        for row in rows
    )
    return Markup(
        '<section class="scroll" tabindex="0" aria-label="{}"><table class="data"><caption>{}</caption>'
        "<thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></section>\n"
    ).format(caption, caption, head, body)


def titled(caption: str, headings: Sequence[Heading], rows: Iterable[Sequence[Text]]) -> Markup:
    """The same with the caption above it, where no heading says what it is."""
    return Markup('<div class="titled">{}</div>\n').format(table(caption, headings, rows))


def _cell(tag: str, look: str, text: Text, scope: str) -> Markup:
    names = Markup(' class="{}"').format(look) if look else Markup("")
    scoped = Markup(' scope="{}"').format(scope) if scope else Markup("")
    return Markup("<{}{}{}>{}</{}>").format(Markup(tag), names, scoped, text, Markup(tag))


def section(heading: str, contents: Iterable[Text], *, name: str = "") -> Markup:
    """A part of a page with its heading."""
    place = Markup(' id="{}"').format(name) if name else Markup("")
    return Markup("<section{}><h2>{}</h2>\n{}</section>\n").format(place, heading, join(contents))


def paragraph(text: Text, look: str = "") -> Markup:
    """A paragraph; ``look`` are its classes."""
    names = Markup(' class="{}"').format(look) if look else Markup("")
    return Markup("<p{}>{}</p>\n").format(names, text)


def link(address: str, text: Text) -> Markup:
    """A link with what it says."""
    return Markup('<a href="{}">{}</a>').format(address, text)


def facts(pairs: Iterable[tuple[str, Text]]) -> Markup:
    """Names with their values."""
    items = join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs)
    return Markup('<dl class="facts">{}</dl>\n').format(items)


def listed(items: Iterable[Text]) -> Markup:
    """A list without an order."""
    return Markup("<ul>{}</ul>\n").format(join(Markup("<li>{}</li>").format(item) for item in items))


def outcome(word: str, besides: Text = "") -> Markup:
    """How a run ended, told by word, shape and colour."""
    more = Markup(" {}").format(besides) if besides else Markup("")
    return Markup('<span class="outcome {}">{}</span>{}').format(_MARKS.get(word, "skipped"), word, more)


def strip(parts: Sequence[tuple[str | None, str]], said: str) -> Markup:
    """How it went, one part of time beside the other: an outcome or None, and what is said of it."""
    shown = join(
        Markup('<i class="{}" title="{}"></i>').format(_MARKS.get(word or "", "none"), text)
        if text
        else Markup('<i class="none"></i>')
        for word, text in parts
    )
    return Markup('<div class="outcomes" role="img" aria-label="{}">{}</div>').format(said, shown)


def bullet(value: float | None, band: tuple[float, float, float] | None, axis: Axis, sheet: Sheet) -> Markup:
    """A value beside the quartiles and the median of what is usual."""
    parts = []
    if band is not None:
        low, middle, high = map(axis.place, band)
        parts.append(_placed("usual", f"left:{_percent(low)};right:{_percent(1 - high)}", sheet))
        parts.append(_placed("middle", f"left:{_percent(middle)}", sheet))
    if value is not None:
        parts.append(_placed("value a", f"left:{_percent(axis.place(value))}", sheet))
    return Markup('<div class="chart bullet" aria-hidden="true"><div class="track">{}</div></div>').format(
        join(parts)
    )


def _placed(look: str, declarations: str, sheet: Sheet) -> Markup:
    return Markup('<i class="{} {}"></i>').format(look, sheet.rule(declarations))


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%"


def time(epoch: float | None, *, date: bool = True) -> Text:
    """A time in UTC; empty if there is none."""
    if epoch is None:
        return ""
    at = datetime.fromtimestamp(epoch, UTC)
    form = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
    return Markup('<time datetime="{}">{}</time>').format(at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime(form))


def duration(seconds: float) -> str:
    """In the unit that a person would take: 40 s, 12 min, 5 h, 3 days."""
    for unit, length in (("day", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            number = round(seconds / length)
            return f"{number} {unit}{'s' if unit == 'day' and number != 1 else ''}"
    return f"{max(0, round(seconds))} s"


def ago(seconds: float) -> str:
    """How long ago that was."""
    return f"{duration(seconds)} ago" if seconds >= 1 else "now"
