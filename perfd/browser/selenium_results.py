"""What the reports of a Selenium child mean: a page load, with Navigation and Resource Timing in its records.

Resource Timing has no headers and no sizes of them; of other origins, without their Timing-Allow-Origin, it has
neither sizes nor steps. Firefox keeps 250 resources. Requests that failed may be missing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import attrs

from perfd.browser.fold import failure_of
from perfd.browser.numbers import moment, number, size, status
from perfd.browser.records import PageLoad, PageRequest, PageTask
from perfd.record import Error, Outcome

Report = Mapping[str, Any]

LONGEST_TEXT = 2000
LONGEST_URL = 20_000

_KINDS = {"img": "image", "image": "image", "script": "script", "css": "style", "link": "style"}
_ERROR_PAGE = re.compile(r"Reached error page: (about:\S+)")
_BROWSER_GONE = re.compile("marionette|without establishing a connection|session", re.IGNORECASE)
_PAGE_GONE = re.compile("discarded|tab crashed|no such window|unloaded", re.IGNORECASE)


@attrs.frozen
class Ending:
    """How a load ended."""

    outcome: Outcome
    code: str | None = None
    reason: str | None = None


def page_load(
    task: PageTask, start: float, end: float, reports: Sequence[Report], ending: Ending | None
) -> PageLoad:
    """The load that ``reports`` tell of.

    ``ending`` is how the child ended before it could tell itself. The load starts when the browser was told to load
    the page, at ``start`` if it never was.
    """
    told = {report.get("event"): report for report in reports}
    session, finished = told.get("session", {}), told.get("finished", {})
    answer = (finished or told.get("loaded", {})).get("page")
    page = _Page(answer if isinstance(answer, dict) else {}, bool(finished.get("rested")))
    how = ending or _judged(told, page)
    return PageLoad(
        task=task,
        driver="selenium",
        browser=_text(session.get("browser")),
        browser_version=_text(session.get("version")),
        outcome=how.outcome,
        errorcode=how.code,
        reason=how.reason,
        start=moment(told.get("navigating", {}).get("at")) or start,
        end=moment(finished.get("at")) or end,
        screenshot=_decoded(finished.get("screenshot")),
        # In the place of a page that failed there is an error page of the browser.
        **(page.fields() if finished.get("error") is None or "overdue" in told else {}),
    )


def overdue(reports: Sequence[Report]) -> Ending | None:
    """The ending of a load whose child had to be killed when the page's time was over.

    None: what the page said after its load event counts. It hangs now, and the browser does not.
    """
    told = {report.get("event"): report for report in reports}
    last = reports[-1]
    if last.get("event") == "asking" and last.get("loaded"):
        return None
    if last.get("event") == "asking" or "overdue" in told:
        return _late(told.get("overdue", {}))
    return Ending(Outcome.FAILED, Error.BROWSER, "the browser hung")


def _judged(told: Mapping[Any, Report], page: _Page) -> Ending:
    error = told.get("finished", {}).get("error")
    if "overdue" in told:
        if not page.is_loaded:  # else the driver waited for a page that its own scripts opened anew
            return _late(told["overdue"])
    elif isinstance(error, dict):
        message = _text(error.get("message")) or "no reason given"
        kind = str(error.get("type"))
        code, reason = _classified(kind, message) if "navigating" in told else (Error.BROWSER, _first_line(message))
        return Ending(Outcome.TIMEOUT if code == Error.TIMEOUT else Outcome.FAILED, code, reason)
    if not page.is_web_page:
        return Ending(Outcome.FAILED, Error.PAGE, f"the browser showed {page.url or 'nothing'}")
    if page.is_bare:
        return Ending(Outcome.FAILED, Error.HTTP, "the server's answer was not HTTP")
    if page.status is not None and page.status >= 400:
        return Ending(Outcome.FAILED, Error.STATUS, f"HTTP status {page.status}")
    return Ending(Outcome.OK)


def _late(report: Report) -> Ending:
    if report.get("downloaded"):
        return Ending(Outcome.FAILED, Error.DOWNLOAD, "the address led to a download")
    return Ending(Outcome.TIMEOUT, Error.TIMEOUT, "the deadline passed")


def _classified(kind: str, message: str) -> tuple[str, str]:
    """The error code for what Selenium raised while a page was loaded, and the reason in few words."""
    shown = _ERROR_PAGE.search(message)
    if shown is not None:
        return _error_page(shown[1])
    reason = _first_line(message)
    if kind == "TimeoutException":
        return Error.TIMEOUT, reason
    if kind == "InsecureCertificateException":
        return Error.TLS, reason
    if kind == "NoSuchWindowException" or _PAGE_GONE.search(message):
        return Error.CRASH, reason
    # geckodriver has Firefox end when a process of a page crashes, so that a crash may look like this too.
    if not kind.endswith("Exception") or kind.endswith("SessionIdException") or _BROWSER_GONE.search(message):
        return Error.BROWSER, f"the browser or geckodriver died: {reason}"
    return Error.PAGE, reason


def _error_page(address: str) -> tuple[str, str]:
    """What Firefox's error page ``about:neterror?e=...`` says."""
    name = parse_qs(address.partition("?")[2]).get("e", ["unknown"])[0]
    reason = f"Firefox showed an error page: {name[:100]}"
    if address.startswith("about:certerror") or name.startswith("nss"):
        return Error.TLS, reason
    return failure_of(name).code, reason


class _Page:
    """What the page's own clock says. Nothing of it is trusted: the page's scripts share it."""

    def __init__(self, answer: Mapping[str, Any], rested: bool) -> None:
        self.url = _text(answer.get("url"), LONGEST_URL)
        self._title = _text(answer.get("title"))
        self._origin = moment(answer.get("origin"), 1000)
        self._rested = rested
        self._paints = answer.get("paints")
        entries = answer.get("entries")
        self._entries = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
        self._navigation = next(self._of_kind("navigation"), {})
        self.status = _status(self._navigation)

    @property
    def is_web_page(self) -> bool:
        return self.url is not None and self.url.startswith(("http://", "https://"))

    @property
    def is_loaded(self) -> bool:
        """Whether there was a load event."""
        return self.is_web_page and self._at(self._navigation, "loadEventStart") is not None

    @property
    def is_bare(self) -> bool:
        """Whether the server's answer had no header."""
        return _is_bare(self._navigation)

    def fields(self) -> dict[str, Any]:
        """The fields of ``PageLoad`` that a page tells of."""
        if self._origin is None or not self.is_web_page:
            return {}
        page, requests = self._navigation, tuple(self._requests())
        loaded = self._at(page, "loadEventStart")
        first_paint = next((e for e in self._of_kind("paint") if e.get("name") == "first-contentful-paint"), {})
        largest = self._paints[-1] if isinstance(self._paints, list) and self._paints else None
        ends = [request.response_end for request in requests if request.response_end is not None]
        return {
            "url": self.url,
            "title": self._title,
            "status": self.status,
            "navigation_start": self._origin,
            "first_byte": self._at(page, "responseStart"),
            "last_byte": self._at(page, "responseEnd"),
            "first_contentful_paint": self._at(first_paint, "startTime"),
            "largest_contentful_paint": self._at({"startTime": largest}, "startTime"),
            "dom_content_loaded": self._at(page, "domContentLoadedEventStart"),
            "load": loaded,
            "fully_loaded": max([loaded, *ends]) if self._rested and loaded is not None else None,
            "requests": requests,
        }

    def _of_kind(self, kind: str) -> Iterator[Mapping[str, Any]]:
        return (entry for entry in self._entries if entry.get("entryType") == kind)

    def _requests(self) -> Iterator[PageRequest]:
        for entry in self._entries:
            if entry.get("entryType") in ("navigation", "resource"):
                request = self._request(entry)
                if request is not None:
                    yield request

    def _request(self, entry: Mapping[str, Any]) -> PageRequest | None:
        is_page = entry is self._navigation
        url = self.url if is_page else _text(entry.get("name"), LONGEST_URL)
        started = self._origin if is_page else self._at(entry, "startTime")
        if url is None or started is None or not url.startswith(("http://", "https://")):
            return None
        connected = number(entry.get("connectEnd")) > number(entry.get("connectStart"))
        # Another origin that does not allow it is told with zeros, which mean nothing then (Timing-Allow-Origin).
        told = number(entry.get("requestStart")) > 0
        transferred = size(entry.get("transferSize"))
        initiator = _text(entry.get("initiatorType"), 50) or "other"
        return PageRequest(
            url=url,
            started=started,
            connect_start=self._at(entry, "connectStart") if connected else None,
            tls_start=self._at(entry, "secureConnectionStart") if connected else None,
            connect_end=self._at(entry, "connectEnd") if connected else None,
            request_start=self._at(entry, "requestStart"),
            response_start=self._at(entry, "responseStart"),
            response_end=self._at(entry, "responseEnd"),
            status=_status(entry),
            protocol=_text(entry.get("nextHopProtocol"), 20) or None,
            mime_type=_text(entry.get("contentType"), 200) or None,
            body_size=size(entry.get("encodedBodySize")) if told else None,
            from_cache=told and transferred == 0 and bool(size(entry.get("encodedBodySize"))),
            is_navigation=is_page,
            kind="document" if is_page else _KINDS.get(initiator, initiator),
        )

    def _at(self, entry: Mapping[str, Any], name: str) -> float | None:
        """Seconds since the epoch of a step that is in ms since the origin, in which 0 is: it did not happen."""
        offset = number(entry.get(name))
        return moment((self._origin or 0) + offset / 1000) if offset > 0 else None


def _status(entry: Mapping[str, Any]) -> int | None:
    return None if _is_bare(entry) else status(entry.get("responseStatus"))


def _is_bare(entry: Mapping[str, Any]) -> bool:
    """Whether there was an answer without any header. Firefox takes it for text, by HTTP/0.9, with status 200."""
    asked = number(entry.get("requestStart")) > 0 and entry.get("contentType") == "text/plain"
    return asked and entry.get("finalResponseHeadersStart") == 0


def _text(value: object, longest: int = LONGEST_TEXT) -> str | None:
    return value[:longest] if isinstance(value, str) else None


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0][:300]


def _decoded(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True) or None
    except (ValueError, binascii.Error):
        return None
