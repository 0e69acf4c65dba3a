"""The events of WebDriver BiDi that belong to one page load, folded into what is known of the page; without I/O.

Firefox 153 tells everything in events: a navigation that fails is committed as ``about:neterror`` or
``about:certerror``, one whose process crashes as ``about:tabcrashed``. Timings of requests (W3C WebDriver BiDi,
``network.FetchTimingInfo``) are milliseconds since the epoch in Firefox, 0 where a step did not happen.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from perfd.browser.numbers import moment, size, status
from perfd.browser.records import Headers, PageRequest
from perfd.record import Error

MOST_REQUESTS = 5000
"""Requests of one page that are recorded."""

MOST_PENDING = 10_000
"""Requests that may be under way at the same time; the page rests only when those have ended."""

LONGEST_TEXT = 16 * 1024
"""Characters kept of a URL, or of a header."""

MOST_HEADERS = 64 * 1024
"""Characters kept of the headers of one request and its response; each header counts 100 more than it has."""

MOST_KEPT = 16 * 1024 * 1024
"""Characters kept of all requests; what goes beyond is left out, headers and whole requests."""

EVENTS = (
    "browsingContext.navigationStarted",
    "browsingContext.navigationCommitted",
    "browsingContext.domContentLoaded",
    "browsingContext.load",
    "browsingContext.downloadWillBegin",
    "browsingContext.contextDestroyed",
    "network.beforeRequestSent",
    "network.responseStarted",
    "network.responseCompleted",
    "network.fetchError",
    "network.authRequired",
)
"""What must be subscribed to."""

_TLS_WORDS = ("MOZILLA_PKIX", "SEC_ERROR", "SSL_ERROR", "NS_ERROR_MODULE_SECURITY", "nssBadCert", "nssFailure")
_NOT_HTTP = "only http and https addresses can be loaded"
_LONGEST_WORD = 200
_EACH_HEADER = 100  # what Python needs for it besides its characters
_SHORTEST_HEAD = len("HTTP/1.1 200")


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
    if "PARTIAL_TRANSFER" in text:
        return PageFailure(Error.SHORT, f"the page ended before it was complete: {text}")
    if "REDIRECT_LOOP" in text or text == "redirectLoop":
        return PageFailure(Error.REDIRECTS, text)
    if any(word in text for word in _TLS_WORDS):
        return PageFailure(Error.TLS, text)
    if "PROXY_CONNECTION_REFUSED" in text or text == "proxyConnectFailure":
        return PageFailure(Error.CONNECT, text)
    return PageFailure(Error.PAGE, text)


def is_headless(response: PageRequest) -> bool:
    """Whether a response had no status line: Firefox takes anything for a page with the status 200 (HTTP/0.9)."""
    is_old = (response.protocol or "").startswith("http/")
    return is_old and not response.response_headers and (response.headers_size or 0) < _SHORTEST_HEAD


class PageFold:
    """What is known of the page in the top-level browsing ``context``. Feed it all events, in their order."""

    def __init__(self, context: str) -> None:
        self.failure: PageFailure | None = None
        self.url: str | None = None  # of the document that is shown
        self.dom_content_loaded: float | None = None
        self.load: float | None = None
        self.requests_omitted = 0
        self._context = context
        self._navigation: str | None = None  # the one that led to the document
        self._begun: str | None = None  # the latest one
        self._requests: dict[tuple[str, int], _Request] = {}
        self._in_flight: set[tuple[str, int]] = set()
        self._kept = 0  # characters
        self._last_omitted = 0.0

    @property
    def resting(self) -> bool:
        """Whether the document's load event was seen, and no request is under way."""
        return self.load is not None and not self._in_flight

    @property
    def last_end(self) -> float:
        """When the last request ended, failed ones too; 0 if none did."""
        ends = [r.finished for r in self._requests.values() if r.finished is not None and not r.is_shadow]
        return max([self._last_omitted, *ends])

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
            if name == "contextDestroyed":
                self.failure = self.failure or PageFailure(Error.PAGE, "the page closed its window")
            else:
                self._navigate(name, event)

    def navigate_failed(self, text: str) -> None:
        """The command to load the page failed, with ``text``: the only sign if the server has nothing to show."""
        if self.failure is None and self.url is None:
            self.failure = failure_of(text)

    def _navigate(self, name: str, event: Mapping[str, Any]) -> None:
        url = str(event["url"])
        at = _moment(event["timestamp"])
        if name == "navigationStarted":
            self._begun = event["navigation"]
        elif name == "navigationCommitted":
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
        key = (str(asked["request"]), _count(event["redirectCount"]))
        if not is_http(str(asked["url"])):
            return
        at = _moment(event["timestamp"])
        has_ended = name in ("responseCompleted", "fetchError")
        if has_ended:
            self._in_flight.discard(key)
        # Only its first event counts as a start: a late one of a request that has ended would never end again.
        elif name == "beforeRequestSent" and len(self._in_flight) < MOST_PENDING:
            self._in_flight.add(key)
        request = self._requests.get(key) or self._new_request(key, event, at)
        if request is None:
            self.requests_omitted += name == "beforeRequestSent"
            self._last_omitted = max(self._last_omitted, at if has_ended else 0.0)
            return
        self._kept -= request.kept
        request.take(asked, event.get("response"), MOST_KEPT - self._kept)
        self._kept += request.kept
        if has_ended:
            request.ended = at
            request.error = str(event["errorText"])[:_LONGEST_WORD] if name == "fetchError" else None
            self._cut_short(request)

    def _new_request(self, key: tuple[str, int], event: Mapping[str, Any], at: float) -> _Request | None:
        """A place for a request that was not seen before; None if too much is kept already."""
        if len(self._requests) >= MOST_REQUESTS or self._kept >= MOST_KEPT:
            return None
        asked = event["request"]
        navigation = event["navigation"] if event["context"] == self._context else None
        request = _Request(
            url=_text(asked["url"]),
            method=_word(asked["method"]) or "",
            kind=_word(asked.get("destination") or asked.get("initiatorType")),
            navigation=navigation,
            first_seen=at,
        )
        self._kept += request.kept
        self._requests[key] = request
        return request

    def _cut_short(self, request: _Request) -> None:
        """Firefox shows what came of a document whose end is missing, and never fires its load event."""
        is_current = request.navigation is not None and request.navigation == self._begun
        if (
            is_current
            and self.failure is None
            and self.load is None
            and "PARTIAL_TRANSFER" in (request.error or "")
        ):
            self.failure = failure_of(request.error or "")


def _word_in(url: str) -> str:
    """Firefox's word for the error that an error page is about."""
    return parse_qs(url.partition("?")[2]).get("e", [url])[0][:LONGEST_TEXT]


@attrs.define
class _Request:
    """What is kept of a request, and of its response. Events are too large for that."""

    url: str
    method: str
    kind: str | None
    navigation: str | None
    first_seen: float
    steps: Mapping[str, float] = attrs.Factory(dict)
    request_headers: Headers = ()
    response: Mapping[str, Any] = attrs.Factory(dict)  # without its headers
    response_headers: Headers = ()
    ended: float | None = None
    error: str | None = None
    request_kept: int = 0
    response_kept: int = 0

    @property
    def kept(self) -> int:
        """Characters."""
        return len(self.url) + self.request_kept + self.response_kept

    @property
    def is_shadow(self) -> bool:
        """Whether it is the browser's note that it used an image again, which it had: nothing was sent."""
        return bool(self.response.get("fromCache")) and "requestStart" not in self.steps

    @property
    def finished(self) -> float | None:
        """When it ended, also if it failed; None before."""
        return None if self.ended is None else self.response_end or self.ended

    @property
    def response_end(self) -> float | None:
        return (self.steps.get("responseEnd") or self.ended) if self.ended and self.response else None

    def take(self, asked: Mapping[str, Any], response: Mapping[str, Any] | None, room: int) -> None:
        """Keep what an event tells; ``room`` is for this request's characters."""
        steps = ((name, moment(at, 1000)) for name, at in asked["timings"].items())
        self.steps = {name: at for name, at in steps if at is not None}
        room = min(MOST_HEADERS, room - len(self.url))
        # Each event repeats the headers of those before it, and may add some.
        if len(asked["headers"]) != len(self.request_headers):
            self.request_headers, self.request_kept = _headers(asked["headers"], room)
        if response is not None:
            self.response = {
                "status": status(response.get("status")),
                "statusText": _word(response.get("statusText")) or "",
                "protocol": _word(response.get("protocol")),
                "mimeType": _word(response.get("mimeType")),
                "headersSize": size(response.get("headersSize")),
                "bodySize": size(response.get("bodySize")),
                "fromCache": bool(response.get("fromCache")),
            }
            headers = response.get("headers") or []
            if len(headers) != len(self.response_headers):
                self.response_headers, self.response_kept = _headers(headers, room - self.request_kept)

    def as_record(self, redirected: _Request | None) -> PageRequest:
        at, response = self.steps.get, self.response
        connected = "connectStart" in self.steps and "connectEnd" in self.steps  # else it got another's connection
        return PageRequest(
            url=self.url,
            method=self.method,
            started=at("requestTime") or self.first_seen,
            connect_start=at("connectStart") if connected else None,
            tls_start=at("tlsStart") if connected else None,
            connect_end=at("connectEnd") if connected else None,
            request_start=at("requestStart"),
            response_start=at("responseStart"),
            response_end=self.response_end,
            status=response.get("status"),
            status_text=response.get("statusText", ""),
            protocol=response.get("protocol"),
            mime_type=response.get("mimeType"),
            request_headers=self.request_headers,
            response_headers=self.response_headers,
            headers_size=response.get("headersSize"),
            body_size=response.get("bodySize"),
            from_cache=response.get("fromCache", False),
            redirect_url=None if redirected is None else redirected.url,
            error=self.error,
            is_navigation=self.navigation is not None,
            kind=self.kind,
        )


def _moment(milliseconds: object) -> float:
    """Seconds since the epoch. Raises ``ValueError``."""
    found = moment(milliseconds, 1000)
    if found is None:
        raise ValueError(f"{str(milliseconds)[:_LONGEST_WORD]} is no time")
    return found


def _count(value: object) -> int:
    """Raises ``ValueError``."""
    found = size(value)
    if found is None:
        raise ValueError(f"{str(value)[:_LONGEST_WORD]} is no number of redirects")
    return found


def _headers(given: Any, room: int) -> tuple[Headers, int]:
    """The headers that there is ``room`` for, and how much of it they need."""
    kept: list[tuple[str, str]] = []
    needed = 0
    for header in given:
        name, value = _text(header["name"]), _text(_value(header["value"]))
        more = len(name) + len(value) + _EACH_HEADER
        if needed + more > room:
            break
        needed += more
        kept.append((name, value))
    return tuple(kept), needed


def _value(value: Mapping[str, Any]) -> str:
    """Bytes that are not UTF-8 come as base64."""
    if value["type"] == "base64":
        try:
            return base64.b64decode(value["value"]).decode("latin-1")
        except ValueError:
            return ""
    return str(value["value"])


def _text(value: Any) -> str:
    return str(value)[:LONGEST_TEXT]


def _word(value: Any) -> str | None:
    return str(value)[:_LONGEST_WORD] if value else None
