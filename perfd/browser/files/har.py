"""HTTP Archive 1.2: a page load as a document for waterfall viewers, with the Tor circuit of each request.

Source: "HAR 1.2 Spec" by Jan Odvarko. What the format has no place for is in members that begin with an underscore,
which it allows: a page's outcome and paints, an entry's ``_tor`` and ``_error``. All times are in ms, as the format
wants them, and are counted in whole microseconds, so that the phases of an entry sum exactly to its ``time``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from perfd import __version__
from perfd.browser.files.har_matching import Match, has_own, went_out_at
from perfd.browser.records import Headers, PageLoad, PageRequest
from perfd.record import EMPTY

_VERSIONS = {"http/1.0": "HTTP/1.0", "http/1.1": "HTTP/1.1", "h2": "HTTP/2", "h3": "HTTP/3"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def har_document(
    load: PageLoad,
    *,
    matches: Sequence[Match | None] = (),
    measurement: str | None = None,
    page_fields: Mapping[str, Any] = EMPTY,
) -> dict[str, Any]:
    """The HAR 1.2 document of a page load.

    ``matches`` is what ``match_connections`` gave for it, or empty. ``page_fields`` are more members of the page;
    their names begin with an underscore. A load that failed has a document as well, with what was known of it.
    """
    page = measurement or "page_1"
    pairs = zip(load.requests, matches or [None] * len(load.requests), strict=True)
    log: dict[str, Any] = {"version": "1.2", "creator": {"name": "perfd", "version": __version__}}
    if load.browser:
        log["browser"] = {"name": load.browser, "version": load.browser_version or ""}
    log["pages"] = [_page(load, page) | dict(page_fields)]
    log["entries"] = [
        {"pageref": page} | _entry(request, match, load.end)
        for request, match in sorted(pairs, key=lambda pair: pair[0].started)
    ]
    return {"log": log}


def har_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as gzip-compressed JSON; the same bytes for the same document."""
    return gzip.compress(json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii"), mtime=0)


def _page(load: PageLoad, page: str) -> dict[str, Any]:
    # HAR's times count from the page's start; where the browser never told it, ours is the next best.
    origin = load.start if load.navigation_start is None else load.navigation_start

    def since(stamp: float | None) -> float | None:
        return None if stamp is None else _ms(max(_us(stamp) - _us(origin), 0))

    def or_none(stamp: float | None) -> float:
        value = since(stamp)
        return -1 if value is None else value

    return {
        "id": page,
        "startedDateTime": _iso(_us(origin)),
        "title": load.title or load.url or load.task.url,
        "pageTimings": {
            "onContentLoad": or_none(load.dom_content_loaded),
            "onLoad": or_none(load.load),
            "_firstByte": since(load.first_byte),
            "_lastByte": since(load.last_byte),
            "_firstContentfulPaint": since(load.first_contentful_paint),
            "_largestContentfulPaint": since(load.largest_contentful_paint),
            "_fullyLoaded": since(load.fully_loaded),
        },
        "_url": load.url or load.task.url,
        "_driver": load.driver,
        "_outcome": load.outcome.value,
        "_errorcode": load.errorcode,
        "_reason": load.reason,
        "_status": load.status,
    }


def _entry(request: PageRequest, match: Match | None, load_end: float) -> dict[str, Any]:
    finished = request.response_end is not None or request.error is not None or request.from_cache
    timings, total = _timings(request, None if finished else load_end)
    entry: dict[str, Any] = {
        "startedDateTime": _iso(_us(request.started)),
        "time": _ms(total),
        "request": _request(request),
        "response": _response(request),
        "cache": {},
        "timings": timings,
        "_isNavigation": request.is_navigation,
        "_resourceType": request.kind,
    }
    # A request that the end of the load has cut off would else look like a short, complete one.
    if request.error is not None or not finished:
        entry["_error"] = request.error or "unfinished when the load ended"
    if request.from_cache:
        entry["_fromCache"] = True
    if match is not None:
        entry["connection"] = str(match.tor.connection)
        entry["_tor"] = match.tor.as_dict()
        entry["_match"] = match.how
    return entry


def _timings(request: PageRequest, load_end: float | None) -> tuple[dict[str, float], int]:
    """The phases in ms, and their sum in microseconds.

    Waiting for a free connection, before or after the request's own was made, is ``blocked``. Browsers do not tell
    when a request was sent whole: ``send`` is 0.
    """
    steps = (request.connect_start, request.connect_end, request.request_start, request.response_start)
    begin = _us(request.started)
    ends = [request.response_end] if request.response_end is not None else [*steps, request.started, load_end]
    finish = max(begin, *(_us(stamp) for stamp in ends if stamp is not None))

    def at(stamp: float, earliest: int) -> int:
        return min(max(_us(stamp), earliest), finish)

    connecting = connect_from = connect_to = 0
    fresh = has_own(request)
    if fresh and request.connect_start is not None:
        connect_from = at(request.connect_start, begin)
        connect_to = finish if request.connect_end is None else at(request.connect_end, connect_from)
        connecting = connect_to - connect_from
    sent = first = finish
    went_out = went_out_at(request)
    if went_out is not None:
        sent = at(went_out, max(begin, connect_to))
        first = finish if request.response_start is None else at(request.response_start, sent)
    secured = fresh and request.tls_start is not None and request.connect_end is not None
    return {
        "blocked": _ms(sent - begin - connecting),
        "dns": -1,  # names are resolved behind the proxy
        "connect": _ms(connecting) if fresh else -1,
        "ssl": _ms(max(connect_to - at(request.tls_start or 0, connect_from), 0))
        if secured
        else -1,  # within connect
        "send": 0,
        "wait": _ms(first - sent),
        "receive": _ms(finish - first),
    }, finish - begin


def _request(request: PageRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url.partition("#")[0],
        "httpVersion": _version(request),
        "cookies": [cookie for value in _values(request.request_headers, "cookie") for cookie in _cookies(value)],
        "headers": _headers(request.request_headers),
        "queryString": _query(request.url),
        "headersSize": -1,
        "bodySize": 0 if request.method in ("GET", "HEAD") else -1,
    }


def _response(request: PageRequest) -> dict[str, Any]:
    body = -1 if request.body_size is None else request.body_size
    encoded = not request.response_headers or bool(_values(request.response_headers, "content-encoding"))
    lines = [line for value in _values(request.response_headers, "set-cookie") for line in value.split("\n")]
    return {
        "status": request.status or 0,
        "statusText": request.status_text,
        "httpVersion": _version(request),
        "cookies": [cookie for line in lines for cookie in _set_cookie(line)],
        "headers": _headers(request.response_headers),
        "content": {"size": -1 if encoded else body, "mimeType": request.mime_type or "x-unknown"},
        "redirectURL": request.redirect_url or "",
        "headersSize": -1 if request.headers_size is None else request.headers_size,
        "bodySize": body,
    }


def _version(request: PageRequest) -> str:
    protocol = request.protocol or "unknown"
    return _VERSIONS.get(protocol, protocol)


def _headers(headers: Headers) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _values(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name]


def _query(url: str) -> list[dict[str, str]]:
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return []
    return [{"name": name, "value": value} for name, value in pairs]


def _cookies(header: str) -> Iterator[dict[str, Any]]:
    for part in header.split(";"):
        name, equals, value = part.strip().partition("=")
        if equals:
            yield {"name": name, "value": value}


def _set_cookie(line: str) -> Iterator[dict[str, Any]]:
    """A ``Set-Cookie`` line (RFC 6265, section 4.1); attributes that are not understood are left out."""
    pair, *rest = line.split(";")
    for cookie in _cookies(pair):
        attributes = {}
        for part in rest:
            name, _, value = part.strip().partition("=")
            attributes[name.lower()] = value
        cookie |= {name: attributes[name] for name in ("path", "domain") if attributes.get(name)}
        expires = _http_date(attributes.get("expires", ""))
        if expires is not None:
            cookie["expires"] = expires
        yield cookie | {"httpOnly": "httponly" in attributes, "secure": "secure" in attributes}


def _http_date(text: str) -> str | None:
    try:
        # Netscape's form has dashes in the date.
        return _iso(round((parsedate_to_datetime(text.replace("-", " ")).replace(tzinfo=UTC)).timestamp() * 1e6))
    except (ValueError, TypeError, OverflowError):
        return None


def _us(stamp: float) -> int:
    return round(stamp * 1e6)


def _ms(microseconds: int) -> float:
    return microseconds / 1000


def _iso(microseconds: int) -> str:
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
