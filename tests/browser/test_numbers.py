"""Numbers that a hostile browser tells: a page load stays a record, and its HAR file one that can be written."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from perfd.browser.files.har import har_bytes, har_document
from perfd.browser.fold import PageFold
from perfd.browser.numbers import LATEST, MOST_BYTES, moment, number, size, status
from perfd.browser.records import PageLoad, PageTask
from perfd.browser.selenium_results import Ending, page_load
from perfd.record import Outcome

NOW = 1_700_000_000.0
TASK = PageTask(url="http://page.example/", proxy_port=9, timeout=6)

# What JSON can hold in the place of a number: json.loads also reads NaN and Infinity.
numbers = st.one_of(
    st.sampled_from(
        [0, -1, 10**400, -(10**400), 1e308, math.inf, -math.inf, math.nan, 2**63, MOST_BYTES, NOW * 1000]
    ),
    st.integers(),
    st.floats(),
    st.floats(min_value=NOW * 1000, max_value=NOW * 1000 + 10_000),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
)


@given(numbers)
def test_numbers(value: Any) -> None:
    """Whatever it is, it is a number in its bounds or none."""
    assert math.isfinite(number(value))
    found = (moment(value), size(value), status(value))
    for each, most in zip(found, (LATEST, MOST_BYTES, 999), strict=True):
        assert each is None or 0 <= each <= most


def test_meaning() -> None:
    """What is a number is that number."""
    assert (moment(NOW), moment(NOW * 1000, 1000), moment(0), moment(LATEST)) == (NOW, NOW, None, None)
    assert (size(0), size(5), size(5.0), size(-1), size(True), size("5")) == (0, 5, 5, None, None, None)
    assert (status(200), status(99), status(1000), status("200")) == (200, None, None, None)


def is_sound(load: PageLoad) -> bool:
    """Whether all numbers of a load are such, and a HAR file can be made of it."""
    values = [value for request in load.requests for value in attrs.astuple(request)]
    har = json.loads(json.dumps(har_document(load)))
    return (
        bool(har["log"])
        and bool(har_bytes(har_document(load)))
        and not any(isinstance(value, float) and not math.isfinite(value) for value in values)
    )


STEPS = ("requestTime", "connectStart", "tlsStart", "connectEnd", "requestStart", "responseStart", "responseEnd")


@given(st.data())
def test_bidi(data: st.DataObject) -> None:
    """The fold takes an event, or says that it makes no sense."""
    fold = PageFold("tab")

    def tell(method: str, event: dict[str, Any]) -> None:
        try:
            fold.take(method, event)
        except (KeyError, TypeError, ValueError):
            return

    url = data.draw(st.sampled_from([TASK.url, "http://[/#", "http://:99999999/?a#b", "https://x/%zz"]))
    for name in ("beforeRequestSent", "responseStarted", "responseCompleted"):
        asked = {"request": "1", "url": url, "method": "GET", "headers": []}
        asked["timings"] = {step: data.draw(numbers) for step in STEPS}
        answer = {name: data.draw(numbers) for name in ("status", "headersSize", "bodySize")}
        event = {"context": "tab", "navigation": "n", "redirectCount": data.draw(st.one_of(st.just(0), numbers))}
        event["timestamp"] = data.draw(st.one_of(st.just(NOW * 1000), numbers))
        tell(f"network.{name}", {**event, "request": asked, "response": {**answer, "headers": []}})
    tell("browsingContext.load", {"context": "tab", "url": url, "timestamp": data.draw(numbers)})
    load = PageLoad(
        task=TASK,
        driver="bidi",
        outcome=Outcome.OK,
        start=NOW,
        end=NOW + 1,
        load=fold.load,
        fully_loaded=fold.last_end,
        requests=fold.requests(),
    )
    assert is_sound(load)


@given(st.data())
def test_selenium(data: st.DataObject) -> None:
    """So does what a page says to Selenium."""
    entry = {step: data.draw(numbers) for step in (*STEPS, "startTime", "loadEventStart", "encodedBodySize")}
    entry |= {"responseStatus": data.draw(numbers), "transferSize": data.draw(numbers), "name": "http://[/#"}
    page = {"url": TASK.url, "origin": data.draw(st.one_of(st.just(NOW * 1000), numbers)), "paints": [1]}
    page["entries"] = [{**entry, "entryType": kind} for kind in ("navigation", "resource")]
    reports = [
        {"event": "navigating", "at": data.draw(numbers)},
        {"event": "finished", "rested": True, "at": data.draw(numbers), "page": page},
    ]
    assert is_sound(page_load(TASK, NOW, NOW + 1, reports, Ending(Outcome.OK)))
