"""The events of WebDriver BiDi that belong to one page load, folded into what is known of the page; without I/O.

Firefox 153 tells everything in events: a navigation that fails is committed as ``about:neterror`` or
``about:certerror``, one whose process crashes as ``about:tabcrashed``. Timings of requests (W3C WebDriver BiDi,
``network.FetchTimingInfo``) are milliseconds since the epoch in Firefox, 0 where a step did not happen.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from perfd.browser.records import Headers, PageRequest
from perfd.record import Error

MOST_REQUESTS = 5000
"""Requests of one page that are recorded."""

LONGEST_TEXT = 16 * 1024
"""Characters kept of a URL, or of a header."""

EVENTS = (
    "browsingContext.navigationStarted",
    "browsingContext.navigationCommitted",
    "browsingContext.domContentLoaded",
    "browsingContext.load",
    "browsingContext.downloadWillBegin",
    "network.beforeRequestSent",
    "network.responseStarted",
    "network.responseCompleted",
    "network.fetchError",
    "network.authRequired",
)
"""What must be subscribed to."""

_TLS_WORDS = ("MOZILLA_PKIX", "SEC_ERROR", "SSL_ERROR", "NS_ERROR_MODULE_SECURITY", "nssBadCert", "nssFailure")
_NOT_HTTP = "only http and https addresses can be loaded"


@attrs.frozen
class PageFailure:
    """Why a page did not load; ``code`` is one of ``perfd.record.Error``."""

    code: str
    reason: str


def refused_address(url: str) -> PageFailure | None:
    """Why ``url`` may not be loaded; None if it may. A browser would also open ``file:``."""
    try:
        parts = urlsplit(url)
        valid = is_http(url) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    return None if valid else PageFailure(Error.PAGE, _NOT_HTTP)


def is_http(url: str) -> bool:
    """Whether it is a page's address, and not one of the browser's own or of a part of a page (``data:``)."""
    return url.partition(":")[0].lower() in ("http", "https")


def failure_of(text: str) -> PageFailure:
    """What the browser's word for a failed navigation means."""
    if "REDIRECT_LOOP" in text or text == "redirectLoop":
        return PageFailure(Error.REDIRECTS, text)
    if any(word in text for word in _TLS_WORDS):
        return PageFailure(Error.TLS, text)
    if "PROXY_CONNECTION_REFUSED" in text or text == "proxyConnectFailure":
        return PageFailure(Error.CONNECT, text)
    return PageFailure(Error.PAGE, text)


class PageFold:
    """What is known of the page in the top-level browsing ``context``. Feed it all events, in their order."""

    def __init__(self, context: str) -> None:
        self.failure: PageFailure | None = None
        self.url: str | None = None  # of the document that is shown
        self.dom_content_loaded: float | None = None
        self.load: float | None = None
        self._context = context
        self._navigation: str | None = None  # the one that led to the document
        self._requests: dict[tuple[str, int], _Request] = {}
        self._in_flight: set[tuple[str, int]] = set()

    @property
    def resting(self) -> bool:
        """Whether the document's load event was seen, and no request is under way."""
        return self.load is not None and not self._in_flight

    @property
    def main(self) -> PageRequest | None:
        """The request whose response is the document, after redirects; as long as there is none, the first one."""
        wanted = [r for r in self._requests.values() if r.navigation and r.navigation == self._navigation]
        wanted = wanted or [r for r in self._requests.values() if r.navigation]
        return wanted[-1].as_record(None) if wanted else None

    def requests(self) -> tuple[PageRequest, ...]:
        """All requests, in the order in which they began."""
        found = [
            request.as_record(self._requests.get((number, redirects + 1)))
            for (number, redirects), request in self._requests.items()
            if not request.is_shadow
        ]
        return tuple(sorted(found, key=lambda request: request.started))

    def take(self, method: str, event: Mapping[str, Any]) -> None:
        """Take an event. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none."""
        module, _, name = method.partition(".")
        if module == "network":
            self._network(name, event)
        elif event["context"] == self._context:
            self._navigate(name, event)

    def navigate_failed(self, text: str) -> None:
        """The command to load the page failed, with ``text``: the only sign if the server has nothing to show."""
        if self.failure is None and self.url is None:
            self.failure = failure_of(text)

    def _navigate(self, name: str, event: Mapping[str, Any]) -> None:
        url = str(event["url"])
        at = float(event["timestamp"]) / 1000
        if name == "navigationCommitted":
            self._committed(url, event["navigation"])
        elif name == "domContentLoaded" and is_http(url):
            self.dom_content_loaded = at
        elif name == "load" and is_http(url):
            self.load = at
        elif name == "downloadWillBegin" and self.url is None:  # else it is the page that offers a download
            self.failure = PageFailure(Error.DOWNLOAD, f"the address led to a download: {url[:LONGEST_TEXT]}")

    def _committed(self, url: str, navigation: str | None) -> None:
        if is_http(url):
            self.url, self._navigation = url[:LONGEST_TEXT], navigation
            self.load = self.dom_content_loaded = None
        elif url.startswith("about:tabcrashed"):
            self.failure = PageFailure(Error.CRASH, "the browser's process for the page crashed")
        elif url.startswith("about:") and url != "about:blank":
            self.failure = failure_of(self._error_of(navigation) or _word_in(url))

    def _error_of(self, navigation: str | None) -> str | None:
        errors = [r.error for r in self._requests.values() if r.error and r.navigation == navigation]
        return errors[-1] if errors else None

    def _network(self, name: str, event: Mapping[str, Any]) -> None:
        asked = event["request"]
        key = (str(asked["request"]), int(event["redirectCount"]))
        if not is_http(str(asked["url"])):
            return
        if key not in self._requests:
            if len(self._requests) >= MOST_REQUESTS:
                return
            navigation = event["navigation"] if event["context"] == self._context else None
            self._requests[key] = _Request(navigation=navigation, asked=asked, first_seen=event["timestamp"] / 1000)
        request = self._requests[key]
        request.asked = asked
        if name == "beforeRequestSent":
            self._in_flight.add(key)
            return
        request.answer = event.get("response", request.answer)
        if name in ("responseCompleted", "fetchError"):
            self._in_flight.discard(key)
            request.ended = event["timestamp"] / 1000
            request.error = str(event["errorText"])[:LONGEST_TEXT] if name == "fetchError" else None


def _word_in(url: str) -> str:
    """Firefox's word for the error that an error page is about."""
    return parse_qs(url.partition("?")[2]).get("e", [url])[0][:LONGEST_TEXT]


@attrs.define
class _Request:
    navigation: str | None
    asked: Mapping[str, Any]
    first_seen: float
    answer: Mapping[str, Any] = attrs.Factory(dict)
    ended: float | None = None
    error: str | None = None

    @property
    def is_shadow(self) -> bool:
        """Whether it is the browser's note that it used an image again, which it had: nothing was sent."""
        return bool(self.answer.get("fromCache")) and self._at("requestStart") is None

    def _at(self, name: str) -> float | None:
        value = self.asked["timings"].get(name)
        return round(value / 1000, 6) if isinstance(value, int | float) and value > 0 else None

    def as_record(self, redirected: _Request | None) -> PageRequest:
        connect_start, connect_end = self._at("connectStart"), self._at("connectEnd")
        answer = self.answer
        connected = connect_start is not None and connect_end is not None  # else it got another one's connection
        return PageRequest(
            url=_text(self.asked["url"]),
            method=_text(self.asked["method"]),
            started=self._at("requestTime") or self.first_seen,
            connect_start=connect_start if connected else None,
            tls_start=self._at("tlsStart") if connected else None,
            connect_end=connect_end if connected else None,
            request_start=self._at("requestStart"),
            response_start=self._at("responseStart"),
            response_end=(self._at("responseEnd") or self.ended) if self.ended and answer else None,
            status=answer.get("status") or None,
            status_text=_text(answer.get("statusText") or ""),
            protocol=answer.get("protocol") or None,
            mime_type=answer.get("mimeType") or None,
            request_headers=_headers(self.asked["headers"]),
            response_headers=_headers(answer.get("headers") or []),
            headers_size=answer.get("headersSize"),
            body_size=answer.get("bodySize"),
            from_cache=bool(answer.get("fromCache")),
            redirect_url=None if redirected is None else _text(redirected.asked["url"]),
            error=self.error,
            is_navigation=self.navigation is not None,
            kind=self.asked.get("destination") or self.asked.get("initiatorType") or None,
        )


def _headers(given: Any) -> Headers:
    return tuple((_text(header["name"]), _text(_value(header["value"]))) for header in given)


def _value(value: Mapping[str, Any]) -> str:
    """Bytes that are not UTF-8 come as base64."""
    if value["type"] == "base64":
        try:
            return base64.b64decode(value["value"]).decode("latin-1")
        except binascii.Error:
            return ""
    return str(value["value"])


def _text(value: Any) -> str:
    return str(value)[:LONGEST_TEXT]
