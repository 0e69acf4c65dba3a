"""What a browser tells about one page load; pure and frozen, the same for every driver.

All times are seconds since the epoch (UTC) as the browser's own clock gave them; browsers and Perfd run on the same
machine. None: it did not happen, or this driver cannot tell. Sizes are bytes.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from perfd.record import Outcome

Headers = tuple[tuple[str, str], ...]
"""Names and values, in the order in which they came."""


@attrs.frozen(kw_only=True)
class PageRequest:
    """One HTTP request of a page load, with the steps of Resource Timing."""

    url: str
    method: str = "GET"
    started: float
    connect_start: float | None = None  # a fresh connection: the browser began to connect (to its proxy)
    tls_start: float | None = None
    connect_end: float | None = None  # TLS included
    request_start: float | None = None
    response_start: float | None = None  # the first byte of the response
    response_end: float | None = None
    status: int | None = None
    status_text: str = ""
    protocol: str | None = None  # as in ALPN: http/1.1, h2
    mime_type: str | None = None
    request_headers: Headers = ()
    response_headers: Headers = ()
    headers_size: int | None = None  # of the response, as it came
    body_size: int | None = None  # of the response, as it came (encoded)
    from_cache: bool = False
    redirect_url: str | None = None
    error: str | None = None  # the browser's own word, for example NS_ERROR_NET_RESET
    is_navigation: bool = False  # it asked for the page itself
    kind: str | None = None  # what it was wanted for: document, style, script, image, font, ...


@attrs.frozen
class Frame:
    """One picture of the filmstrip: a PNG or JPEG of the viewport."""

    at: float
    image: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class PageTask:
    """What to load, and how.

    ``proxy_port`` is a SOCKS 5 proxy on 127.0.0.1 that takes no user name; names are resolved by it. ``timeout``
    is in seconds from the start of the load.
    """

    url: str
    proxy_port: int
    timeout: float
    quiet: float = 2.0  # seconds without a request after ``load``, until the page counts as fully loaded
    screenshot: bool = True
    filmstrip: bool = False
    insecure: bool = False  # accept certificates that nobody signed


@attrs.frozen(kw_only=True)
class PageLoad:
    """One page load, however it ended. ``errorcode`` is one of ``perfd.record.Error``."""

    task: PageTask
    driver: str  # bidi or selenium
    browser: str | None = None  # the browser's name for itself: firefox
    browser_version: str | None = None
    outcome: Outcome
    errorcode: str | None = None
    reason: str | None = None
    start: float  # the driver was told to load the page
    navigation_start: float | None = None  # Navigation Timing's origin
    first_byte: float | None = None  # of the page's own response, after redirects
    last_byte: float | None = None  # of the page's own response
    first_contentful_paint: float | None = None
    largest_contentful_paint: float | None = None
    dom_content_loaded: float | None = None
    load: float | None = None  # the load event
    fully_loaded: float | None = None  # the last response after which ``quiet`` seconds passed without a request
    end: float
    url: str | None = None  # where redirects led to
    status: int | None = None  # of the page's own response
    title: str | None = None
    requests: tuple[PageRequest, ...] = ()
    requests_omitted: int = 0  # beyond what is kept of one page
    screenshot: bytes | None = attrs.field(default=None, repr=False)  # PNG
    frames: tuple[Frame, ...] = ()


class Browser(Protocol):
    """A browser that loads one page at a time."""

    @property
    def not_ready(self) -> str | None:
        """Why no page can be loaded now, and what to install if that is why; None when one can."""

    async def load(self, task: PageTask) -> PageLoad:
        """Load a page in a fresh context: no cache, cookies or connections of another load.

        Never raises for what the page, the network or the browser does: those are outcomes, and the page's deadline
        holds whatever hangs. Cancelling it ends the load at once with the outcome ``cancelled``.
        """

    async def close(self) -> None:
        """End the browser, with all of its processes. Never raises."""
