"""What all pages have in common: their head, where else one can go, and what a browser may do with them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import resources

import attrs
from markupsafe import Markup

from perfd.charts.html import STYLE as CHART_STYLE
from perfd.charts.html import Sheet, digest, join
from perfd.pages import elements
from perfd.pages.records import THEMES, DaemonState, Made, View
from perfd.pages.words import clipped

STYLE = CHART_STYLE + (resources.files("perfd.pages") / "pages.css").read_text(encoding="utf-8")
"""The stylesheet of all pages, at ``STYLE_PATH``."""

STYLE_PATH = "/style.css"

LONGEST_TITLE = 70
"""Characters of what stands in a tab of the browser."""

PLACES = (
    ("/", "Overview"),
    ("/results", "Results"),
    ("/relays", "Relays"),
    ("/onion", "Onion"),
    ("/circuits", "Circuits"),
    ("/streams", "Streams"),
    ("/events", "Events"),
    ("/archive/", "Archive"),
    ("/status", "Status"),
    ("/about", "About"),
)
"""Where one can go from everywhere."""

_THEME_WORDS: Mapping[str, str] = {"": "auto", "light": "light", "dark": "dark"}


@attrs.frozen
class Page:
    """A page without what all have. ``sheet`` has the shapes of its charts."""

    title: str
    lead: elements.Text
    parts: Sequence[Markup]
    sheet: Sheet = attrs.Factory(Sheet)
    refresh: int | None = None  # seconds after which it is worth another look
    next_run: float | None = None  # seconds since the epoch
    status: int = 200


def made(page: Page, view: View, state: DaemonState) -> Made:
    """The whole page as an answer."""
    refresh = None if view.is_paused else page.refresh
    text = _document(page, view, state)
    body = text.encode()
    return Made(
        status=page.status,
        body=body,
        packed=gzip.compress(body, 6, mtime=0),
        policy=policy(page.sheet.text),
        refresh=refresh,
        tag=sha256(body).hexdigest()[:32],
    )


def policy(style: str = "") -> str:
    """The Content-Security-Policy of a page with this style element."""
    digests = f" '{digest(style)}'" if style else ""
    return (
        f"default-src 'none'; style-src 'self'{digests}; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def error_document(status: int, phrase: str, message: str) -> bytes:
    """An error for a browser; the daemon itself makes it, of nothing but words."""
    return str(
        Markup(
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<title>{phrase}</title><link rel="stylesheet" href="{style}"></head>\n<body class="error"><main>'
            '<h1>{phrase}</h1><p class="lead">{message}</p><p>Status {status}. <a href="/">To the overview</a></p>'
            "</main></body></html>\n"
        ).format(status=status, phrase=phrase, message=message, style=STYLE_PATH)
    ).encode()


def _document(page: Page, view: View, state: DaemonState) -> str:
    theme = Markup(' data-theme="{}"').format(view.theme) if view.theme in THEMES else ""
    style = Markup("<style>{}</style>").format(Markup(page.sheet.text)) if page.sheet.text else ""
    return str(
        Markup(
            '<!DOCTYPE html>\n<html lang="en"{theme}><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark"><title>{words}</title>\n'
            '<link rel="stylesheet" href="{path}">{style}</head>\n<body>'
            '<a class="skip" href="#content">To the content</a>\n'
            '<header><p class="site"><a href="{home}">{site}</a></p>'
            '<nav aria-label="Pages">{places}</nav></header>\n'
            '<main id="content"><h1>{title}</h1>\n<p class="lead">{lead}</p>\n{parts}</main>\n'
            "<footer>{footer}</footer></body></html>\n"
        ).format(
            theme=theme,
            words=clipped(f"{page.title} - {state.title}", LONGEST_TITLE),
            title=page.title,
            site=state.title,
            path=STYLE_PATH,
            style=style,
            home=view.link("/"),
            places=_places(view),
            lead=page.lead,
            parts=join(page.parts),
            footer=_footer(page, view, state),
        )
    )


def _places(view: View) -> Markup:
    items = []
    for path, name in PLACES:
        is_here = view.path == path or (path != "/" and view.path.startswith(path.rstrip("/") + "/"))
        here = Markup(' aria-current="page"') if is_here else ""
        items.append(Markup('<a href="{}"{}>{}</a>').format(view.link(path), here, name))
    return join(items)


def _footer(page: Page, view: View, state: DaemonState) -> Markup:
    words = [Markup("Data as of {} UTC").format(elements.time(state.now))]
    if page.next_run is not None and page.next_run > state.now:
        words.append(Markup("next run in {}").format(elements.duration(page.next_run - state.now)))
    if page.refresh is not None:
        if view.is_paused:
            words.append(Markup("paused, {}").format(elements.link(view.here(), "go on")))
        else:
            pause = elements.link(view.here(pause="1"), "pause")
            words.append(Markup("looks again every {}, {}").format(elements.duration(page.refresh), pause))
    themes = join(
        Markup("{}{}").format(" " if n else "", _theme_link(view, theme)) for n, theme in enumerate(_THEME_WORDS)
    )
    program = Markup('<span class="program">Perfd {}, source {}</span>').format(state.version, state.source)
    said = Markup("; ").join(words)
    return Markup("<p>{}.</p><p>{} <span>Colours: {}</span></p>").format(said, program, themes)


def _theme_link(view: View, theme: str) -> Markup:
    word = _THEME_WORDS[theme]
    if theme == view.theme:
        return Markup("<strong>{}</strong>").format(word)
    address = attrs.evolve(view, theme=theme).here(**({"pause": "1"} if view.is_paused else {}))
    return elements.link(address, word)
