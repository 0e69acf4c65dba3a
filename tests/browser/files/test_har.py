"""HAR: valid documents for every kind of load, and requests matched to the proxy's connections."""

import gzip
import json
import math
from datetime import datetime

import attrs
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfd import __version__
from perfd.browser.files.har import har_bytes, har_document
from perfd.browser.files.har_matching import EntryTor, Match, match_connections
from perfd.browser.records import PageLoad, PageRequest, PageTask
from perfd.record import Error, Outcome

NOW = 1795444800.123456
SITE = "http://site.example:8080"


def _object(required: dict, optional: dict = {}) -> dict:  # noqa: B006 -- never changed
    """An object with the members of HAR 1.2, and none besides that do not begin with an underscore."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional, "comment": TEXT},
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
SIZE = {"type": "integer", "minimum": -1}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z$"}
TIME = {"type": "number", "minimum": 0}
MAYBE_TIME = {"anyOf": [TIME, {"const": -1}]}
PAIRS = {"type": "array", "items": _object({"name": TEXT, "value": TEXT})}
COOKIES = {
    "type": "array",
    "items": _object(
        {"name": TEXT, "value": TEXT},
        {
            "path": TEXT,
            "domain": TEXT,
            "expires": MOMENT,
            "httpOnly": {"type": "boolean"},
            "secure": {"type": "boolean"},
        },
    ),
}
MESSAGE = {"httpVersion": TEXT, "cookies": COOKIES, "headers": PAIRS, "headersSize": SIZE, "bodySize": SIZE}
URL = {"type": "string", "pattern": "^[a-z]+://[^#]*$"}
ENTRY = _object(
    {
        "startedDateTime": MOMENT,
        "time": TIME,
        "request": _object({"method": TEXT, "url": URL, "queryString": PAIRS, **MESSAGE}),
        "response": _object(
            {
                "status": {"type": "integer", "minimum": 0, "maximum": 999},
                "statusText": TEXT,
                "content": _object({"size": SIZE, "mimeType": TEXT}),
                "redirectURL": TEXT,
                **MESSAGE,
            }
        ),
        "cache": _object({}),
        "timings": _object(
            {"send": TIME, "wait": TIME, "receive": TIME},
            {"blocked": MAYBE_TIME, "dns": MAYBE_TIME, "connect": MAYBE_TIME, "ssl": MAYBE_TIME},
        ),
    },
    {"pageref": TEXT, "serverIPAddress": TEXT, "connection": TEXT},
)
PAGE = _object(
    {
        "startedDateTime": MOMENT,
        "id": TEXT,
        "title": TEXT,
        "pageTimings": _object({}, {"onContentLoad": MAYBE_TIME, "onLoad": MAYBE_TIME}),
    }
)
NAMED = _object({"name": TEXT, "version": TEXT})
HAR = _object(
    {
        "log": _object(
            {"version": {"const": "1.2"}, "creator": NAMED, "entries": {"type": "array", "items": ENTRY}},
            {"browser": NAMED, "pages": {"type": "array", "items": PAGE}},
        )
    }
)
"""HAR 1.2 as the specification has it, but strict."""

VALIDATOR = jsonschema.Draft202012Validator(HAR)


@attrs.frozen
class Proxied:
    """A connection of the measuring proxy."""

    host: str
    port: int
    opened: float
    closed: float | None
    entry: EntryTor


def proxied(number: int, opened: float, closed: float | None = None, host: str = "site.example") -> Proxied:
    return Proxied(host, 8080, NOW + opened, None if closed is None else NOW + closed, EntryTor(connection=number))


def request(url: str = f"{SITE}/", started: float = 0.0, **fields) -> PageRequest:
    """A request; times are seconds since the navigation."""
    steps = ("connect_start", "tls_start", "connect_end", "request_start", "response_start", "response_end")
    fields |= {name: NOW + fields[name] for name in steps if fields.get(name) is not None}
    return PageRequest(url=url, started=NOW + started, **fields)


def fresh(connect: float, done: float, url: str = f"{SITE}/", **fields) -> PageRequest:
    """A request for which the browser connected."""
    times = {"connect_end": done, "request_start": done, "response_start": done + 0.2, "response_end": done + 0.3}
    return request(url, connect, connect_start=connect, **{**times, "status": 200, **fields})


def reused(start: float, end: float, url: str = f"{SITE}/a", **fields) -> PageRequest:
    """A request on a connection that was there."""
    times = {"request_start": start, "response_start": (start + end) / 2, "response_end": end}
    return request(url, start, **{**times, "status": 200, **fields})


def load(*requests: PageRequest, **fields) -> PageLoad:
    times = {"navigation_start": NOW, "first_byte": NOW + 0.4, "dom_content_loaded": NOW + 1.1, "load": NOW + 1.25}
    given = {"outcome": Outcome.OK, "start": NOW - 0.01, "end": NOW + 5, **times, **fields}
    task = PageTask(url=f"{SITE}/", proxy_port=9, timeout=60)
    return PageLoad(
        task=task, driver="bidi", requests=requests, browser="firefox", browser_version="153.7", **given
    )


def document(page: PageLoad, **arguments) -> dict:
    """The document, which has to be valid."""
    made = har_document(page, **arguments)
    VALIDATOR.validate(made)
    return made["log"]


def entries(*requests: PageRequest, **fields) -> list[dict]:
    return document(load(*requests, **fields))["entries"]


def total(timings: dict) -> float:
    """The sum of an entry's phases, to the microsecond; ssl is within connect."""
    return round(sum(value for name, value in timings.items() if name != "ssl" and value != -1), 3)


def test_page() -> None:
    """A page has its times since the navigation, and what the format has no place for with an underscore."""
    log = document(
        load(title="Page", first_contentful_paint=NOW + 0.9), measurement="id1", page_fields={"_visualMetrics": {}}
    )
    assert log["creator"] == {"name": "perfd", "version": __version__}
    assert log["browser"] == {"name": "firefox", "version": "153.7"}
    (page,) = log["pages"]
    assert (page["id"], page["title"], page["startedDateTime"]) == ("id1", "Page", "2026-11-23T14:40:00.123456Z")
    assert page["pageTimings"] == {
        "onContentLoad": 1100.0,
        "onLoad": 1250.0,
        "_firstByte": 400.0,
        "_lastByte": None,
        "_firstContentfulPaint": 900.0,
        "_largestContentfulPaint": None,
        "_fullyLoaded": None,
    }
    assert page["_visualMetrics"] == {}


def test_failed_load() -> None:
    """A load that failed before anything happened has a document as well."""
    failed = load(
        outcome=Outcome.FAILED,
        errorcode=Error.BROWSER,
        reason="died",
        navigation_start=None,
        first_byte=None,
        dom_content_loaded=None,
        load=None,
    )
    log = document(failed)
    assert log["entries"] == []
    page = log["pages"][0]
    assert (page["_outcome"], page["_errorcode"], page["_reason"]) == ("failed", Error.BROWSER, "died")
    assert page["pageTimings"]["onLoad"] == -1
    assert page["title"] == f"{SITE}/"


def test_phases_of_a_fresh_connection() -> None:
    """Connect includes TLS; the gap until the request went out counts as blocked."""
    (entry,) = entries(
        request(
            connect_start=0.01,
            tls_start=0.11,
            connect_end=0.21,
            request_start=0.215,
            response_start=0.4,
            response_end=0.6,
        )
    )
    assert entry["timings"] == {
        "blocked": 15.0,
        "dns": -1,
        "connect": 200.0,
        "ssl": 100.0,
        "send": 0,
        "wait": 185.0,
        "receive": 200.0,
    }
    assert entry["time"] == 600.0


def test_phases_of_a_reused_connection() -> None:
    """Without a connect of its own a request has no connect phase, also if another's connect was begun for it."""
    plain, partial = entries(reused(0.1, 0.3), reused(0.2, 0.4, connect_start=0.15))
    for entry in (plain, partial):
        assert (entry["timings"]["connect"], entry["timings"]["ssl"], entry["timings"]["wait"]) == (-1, -1, 100.0)


def test_connect_that_failed() -> None:
    """A request whose connection never came has status 0, its error, and all of its time in connect."""
    (entry,) = entries(request(connect_start=0.1, response_end=1.1, error="NS_ERROR_NET_RESET"))
    assert (entry["response"]["status"], entry["_error"]) == (0, "NS_ERROR_NET_RESET")
    assert (entry["timings"]["blocked"], entry["timings"]["connect"], entry["time"]) == (100.0, 1000.0, 1100.0)


def test_unfinished_request() -> None:
    """A request that was not over when the load ended lasts until then, and says so."""
    (entry,) = entries(request(request_start=1.0))
    assert entry["_error"] == "unfinished when the load ended"
    assert (entry["timings"]["wait"], entry["time"]) == (4000.0, 5000.0)


def test_only_start_and_end_known() -> None:
    """Resource Timing tells no more of other origins: all of the time is wait."""
    (entry,) = entries(request(response_end=0.5, status=200))
    assert (entry["timings"]["wait"], entry["timings"]["blocked"], entry["time"]) == (500.0, 0.0, 500.0)
    assert "_error" not in entry


def test_from_cache() -> None:
    """A cached response takes no time and is marked."""
    (entry,) = entries(request(from_cache=True, status=200))
    assert (entry["time"], entry["_fromCache"]) == (0.0, True)
    assert "_error" not in entry


def test_messages() -> None:
    """Headers, query string, cookies, sizes and redirects are where the format wants them."""
    (entry,) = entries(
        reused(
            0,
            1,
            f"{SITE}/p?a=1&b=&c=%20x#part",
            protocol="h2",
            status=302,
            status_text="Found",
            mime_type="text/html",
            redirect_url="/q",
            headers_size=120,
            body_size=30,
            request_headers=(("Cookie", "k=v; l=w"), ("Accept", "*/*")),
            response_headers=(
                (
                    "Set-Cookie",
                    "s=1; Path=/; Domain=site.example; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure; HttpOnly",
                ),
                ("set-cookie", "t=2; Expires=never\nu=3; expires=Wed, 21-Oct-2026 07:28:00 GMT"),
            ),
        )
    )
    asked, answer = entry["request"], entry["response"]
    assert (asked["url"], asked["httpVersion"], asked["bodySize"]) == (f"{SITE}/p?a=1&b=&c=%20x", "HTTP/2", 0)
    assert [(q["name"], q["value"]) for q in asked["queryString"]] == [("a", "1"), ("b", ""), ("c", " x")]
    assert asked["cookies"] == [{"name": "k", "value": "v"}, {"name": "l", "value": "w"}]
    assert asked["headers"][1] == {"name": "Accept", "value": "*/*"}
    assert answer["cookies"] == [
        {
            "name": "s",
            "value": "1",
            "path": "/",
            "domain": "site.example",
            "expires": "2026-10-21T07:28:00.000000Z",
            "httpOnly": True,
            "secure": True,
        },
        {"name": "t", "value": "2", "httpOnly": False, "secure": False},
        {"name": "u", "value": "3", "expires": "2026-10-21T07:28:00.000000Z", "httpOnly": False, "secure": False},
    ]
    assert (answer["redirectURL"], answer["headersSize"], answer["bodySize"]) == ("/q", 120, 30)
    assert answer["content"] == {"size": 30, "mimeType": "text/html"}


def test_sizes_that_are_not_known() -> None:
    """What is not known is -1; the decoded size of a compressed body is not."""
    compressed, unknown = entries(
        reused(0, 1, body_size=30, response_headers=(("Content-Encoding", "gzip"),)), reused(1, 2, method="POST")
    )
    assert (compressed["response"]["bodySize"], compressed["response"]["content"]["size"]) == (30, -1)
    assert (
        unknown["request"]["bodySize"],
        unknown["response"]["bodySize"],
        unknown["response"]["headersSize"],
    ) == (-1,) * 3


def test_entries_are_in_order_with_their_circuits() -> None:
    """Entries are sorted by their start, and each keeps its own match."""
    tor = EntryTor(
        connection=7, stream_id=3, circ_id=4, path=("$A", "$B"), local_port=5, reply=0, times={"CONNECT": NOW}
    )
    log = document(load(reused(2, 3), reused(0, 1)), matches=[Match(tor, "exact"), None])
    first, second = log["entries"]
    assert "_tor" not in first
    assert (second["connection"], second["_match"]) == ("7", "exact")
    assert second["_tor"] == {
        "connection": 7,
        "measurement": None,
        "localPort": 5,
        "stream": 3,
        "circuit": 4,
        "path": ["$A", "$B"],
        "reply": 0,
        "times": {"CONNECT": NOW},
    }


offsets = st.floats(-1, 10)
maybe = st.none() | offsets


@settings(deadline=None)
@given(
    st.builds(
        request,
        st.just(f"{SITE}/"),
        offsets,
        connect_start=maybe,
        tls_start=maybe,
        connect_end=maybe,
        request_start=maybe,
        response_start=maybe,
        response_end=maybe,
        error=st.none() | st.just("NS_ERROR"),
        from_cache=st.booleans(),
    )
)
def test_phases_sum_to_the_time(any_request: PageRequest) -> None:
    """Whatever stamps a browser gives, no phase is negative and their sum is the entry's time."""
    (entry,) = entries(any_request)
    assert total(entry["timings"]) == entry["time"]
    assert entry["timings"]["ssl"] <= max(entry["timings"]["connect"], 0)
    assert datetime.fromisoformat(entry["startedDateTime"]).timestamp() == pytest.approx(
        any_request.started, abs=1e-5
    )


def test_bytes() -> None:
    """A document is written as compressed JSON, always the same; odd texts survive."""
    made = har_document(load(reused(0, 1), title="t\u00e4 \ud800"))
    written = har_bytes(made)
    assert json.loads(gzip.decompress(written)) == made
    assert har_bytes(json.loads(gzip.decompress(written))) == written


def matched(*requests: PageRequest, to: list[Proxied]) -> list[tuple[int, str] | None]:
    """The number of the connection for each request, and how sure that is."""
    found = match_connections(load(*requests), to)
    return [None if match is None else (match.tor.connection, match.how) for match in found]


def test_fresh_connections() -> None:
    """Each fresh request belongs to the connection that was opened when the browser connected."""
    requests = [fresh(0.5, 0.8), fresh(0.0, 0.3), fresh(0.51, 0.9, "http://other.example:8080/")]
    connections = [proxied(1, 0.001), proxied(2, 0.502), proxied(3, 0.512, host="other.example")]
    assert matched(*requests, to=connections) == [(2, "exact"), (1, "exact"), (3, "exact")]


def test_burst() -> None:
    """Connections that are opened at once belong to the requests in order, but only likely so."""
    requests = [fresh(n / 10000, 0.3) for n in range(6)]
    connections = [proxied(n, 0.0003 + n / 10000) for n in range(6)]
    assert matched(*requests, to=connections) == [(n, "likely") for n in range(6)]


def test_connection_that_nobody_used() -> None:
    """A connection that the browser opened to have one more is passed over."""
    requests = [fresh(0.0, 0.3), fresh(0.6, 0.9)]
    connections = [proxied(1, 0.001), proxied(2, 0.25), proxied(3, 0.601)]
    assert matched(*requests, to=connections) == [(1, "exact"), (3, "exact")]


def test_no_connection_to_match() -> None:
    """Requests to elsewhere, from the cache, of other times, or that were never sent belong to no connection."""
    requests = [
        fresh(0, 1, "http://elsewhere.example:8080/"),
        fresh(0, 1, "https://site.example/"),
        request(from_cache=True),
        fresh(3, 4),
        request(error="NS_BINDING_ABORTED", response_end=0.5),
        request("http://[broken/"),
        reused(0.1, 0.2),
    ]
    assert matched(*requests, to=[proxied(1, 0.5, 0.6)]) == [None] * 7


def test_connect_that_failed_is_matched() -> None:
    """A request whose connection failed belongs to it."""
    failed = request(connect_start=0.1, response_end=0.4, error="NS_ERROR_CONNECTION_REFUSED")
    assert matched(failed, to=[proxied(1, 0.101, 0.4)]) == [(1, "exact")]


def test_reused_connection() -> None:
    """A reused connection is one that was open and idle; the only one is exact."""
    requests = [fresh(0.0, 0.3), fresh(0.01, 0.9), reused(0.7, 0.8), reused(1.4, 1.5)]
    connections = [proxied(1, 0.001, 1.25), proxied(2, 0.011)]
    assert matched(*requests, to=connections) == [(1, "exact"), (2, "exact"), (1, "exact"), (2, "exact")]


def test_idle_connections_to_choose_from() -> None:
    """Of several idle connections it is likely the one that was used last."""
    requests = [fresh(0.0, 0.3), fresh(0.01, 0.4), reused(1, 2)]
    assert matched(*requests, to=[proxied(1, 0.001), proxied(2, 0.011)])[2] == (2, "likely")


def test_connection_opened_meanwhile() -> None:
    """A connection that was opened when the request went out, and for which no request is known, leaves a doubt."""
    requests = [fresh(0.0, 0.3), reused(1, 2)]
    assert matched(*requests, to=[proxied(1, 0.001), proxied(2, 1.01)])[1] == (1, "likely")


def test_connection_opened_for_another_request() -> None:
    """A request may begin a connection and go by another one; the connection it began carries a later request."""
    requests = [fresh(0.0, 0.3), reused(0.7, 0.9, connect_start=0.35), reused(0.71, 0.95)]
    connections = [proxied(1, 0.001), proxied(2, 0.351)]
    found = matched(*requests, to=connections)
    assert sorted(number for number, _ in found[1:]) == [1, 2]


def test_multiplexed_connection() -> None:
    """All HTTP/2 requests share their connection at the same time."""
    requests = [fresh(0.0, 0.3, protocol="h2"), reused(0.4, 0.9, protocol="h2"), reused(0.4, 0.8, protocol="h2")]
    assert matched(*requests, to=[proxied(1, 0.001)]) == [(1, "exact")] * 3


@settings(deadline=None)
@given(
    st.lists(
        st.builds(fresh, st.floats(0, 3), st.floats(3, 4)) | st.builds(reused, st.floats(0, 3), st.floats(3, 4)),
        max_size=12,
    ),
    st.lists(st.floats(0, 3), max_size=12),
)
def test_no_fresh_connection_is_given_twice(requests: list[PageRequest], opened: list[float]) -> None:
    """Every connection is the fresh one of at most one request, and was open when it was used."""
    connections = [proxied(number, at) for number, at in enumerate(opened)]
    found = matched(*requests, to=connections)
    owned = [match[0] for asked, match in zip(requests, found, strict=True) if asked.connect_end and match]
    assert len(owned) == len(set(owned))
    for asked, match in zip(requests, found, strict=True):
        if match is not None:
            assert connections[match[0]].opened <= (asked.response_end or math.inf)
