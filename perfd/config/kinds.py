"""The kinds of experiment.

A new kind is one ``Kind`` in ``KINDS``, the module in ``perfd/experiments/`` that runs it with its row in
``perfd/experiments/types.py``, and its part of docs/. Other packages can have kinds too (``extensions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from perfd.config.extensions import extensions
from perfd.config.kind import Context, Kind, Time
from perfd.config.options import OPTIMISTIC, Option, number, size, web_address
from perfd.config.records import NO_TOR, ExperimentConfig
from perfd.config.relays import RELAYS, SCANNED
from perfd.config.section import Section
from perfd.config.target import TARGET
from perfd.config.values import names, nonempty, one_of, positive, several_of, whole_number, yes_or_no
from perfd.units import parse_duration

MOST_STREAMS = 1000
MOST_REQUESTS = 1000
HIGHEST_RATE = 100.0
MOST_SAMPLES = 1000


def _check_parallel(section: Section, config: ExperimentConfig, context: Context) -> None:
    if config.options["streams"] > MOST_STREAMS:
        section.problem("parallel", f"must be at most {MOST_STREAMS}")
    if not config.targets:
        _check_connections(section, "parallel", config.options["streams"], context)
    elif config.options["streams"] > 1 and config.targets[0].pause:
        section.problem("parallel", "with url it needs pause = 0 s: say so only if the server's operator agrees")


def _check_connections(section: Section, option: str, at_once: int, context: Context) -> None:
    """Whether the server takes so many connections."""
    if context.max_connections < at_once <= MOST_STREAMS:
        section.problem(option, f"more than max-connections of [server], which is {context.max_connections}")


def _check_optimistic(section: Section, config: ExperimentConfig, context: Context) -> None:
    if config.options["optimistic"] in ("yes", "both") and set(config.tors) == {NO_TOR}:
        section.problem("optimistic", "there is no SOCKS reply that would not be waited for with tor = none")


def _check_series(section: Section, config: ExperimentConfig, context: Context) -> None:
    requests, stagger = config.options["requests"], config.options["stagger"]
    if requests > MOST_REQUESTS:
        section.problem("requests", f"must be at most {MOST_REQUESTS}")
    if stagger is not None and not config.targets:  # else they are one after the other
        _check_connections(section, "requests", requests, context)
    if config.options["groups"] > requests:
        section.problem("groups", "must be at most as many as there are requests")
    if stagger is not None and (requests - 1) * stagger >= config.timeout:
        section.problem("stagger", "the last request would begin after the timeout, which is that of all")


def _check_rtt(section: Section, config: ExperimentConfig, context: Context) -> None:
    rate, duration = config.options["rate"], config.options["duration"]
    for target in config.targets[:1]:
        if rate * target.pause > 1:
            section.problem("rate", "more often than pause allows; with url, rate = 1 is usual")
        for option in ("size", "method", "redirects", "expect-digest", "size-limit"):
            if option in section:
                section.problem(option, "not used by type = rtt with url, which repeats HEAD")
    if rate > HIGHEST_RATE:
        section.problem("rate", f"must be at most {HIGHEST_RATE:g} exchanges a second")
    if rate * duration > MOST_SAMPLES:
        section.problem("duration", f"rate x duration must be at most {MOST_SAMPLES}")
    loads = config.options["loads"]
    phases = 1 if config.targets else 1 + len(loads)
    # Between two loads there is a second.
    if phases * duration + max(0, phases - 2) >= config.timeout:
        words = "both phases" if phases <= 2 else "all phases"
        section.problem("duration", f"{words} together must be shorter than the timeout")
    for option in ("loads", "both-ways"):
        if config.targets and option in section:
            section.problem(option, "not used with url: both ends must be Perfd's")


def _check_pageload(section: Section, config: ExperimentConfig, context: Context) -> None:
    if config.url is not None:
        for option in ("page", "server"):
            if option in section:
                section.problem(option, "cannot be given together with url")
    for browser in config.browsers:
        if browser not in context.browsers:
            there = ", ".join(sorted(context.browsers))
            section.problem("browser", f"no browser is named {browser!r}; there is {there}")


def _check_bootstrap(section: Section, config: ExperimentConfig, context: Context) -> None:
    others = {NO_TOR, *(client.name for client in context.clients), *context.attached}
    for tor in others.intersection(config.tors):
        section.problem(
            "tor", f"{tor} is not launched by Perfd; type = bootstrap needs a [tor:NAME] without control"
        )
    if context.network == "socks":
        section.problem("type", "bootstrap needs a network of tors, which network = socks is not")
    data = config.options["data_directory"]
    if data is not None and not data.is_dir():
        section.problem("data-directory", f"{data} is no directory")


def _is_one(text: str) -> bool:
    return one_of(("one", "each"))(text) == "one"


DOWNLOAD = Kind(
    name="download",
    plural="downloads",
    doc="random bytes from our own server",
    options=(
        size("50 KiB"),
        OPTIMISTIC,
        Option("parallel", positive(whole_number), "1", "so many downloads at once", "streams"),
        Option(
            "parallel-circuits", _is_one, "one", "over one circuit, or over one for each of them", "one_circuit"
        ),
        *TARGET,
        *RELAYS,
    ),
    checks=(_check_parallel, _check_optimistic),
    highlights=(
        "URL",
        "OPTIMISTIC",
        "PARALLEL",
        "THROUGHPUT",
        "JAIN",
        "REDIRECTEDTO",
        "TLSDONE",
        "HSRENDJOINED",
        "FRESHDESCRIPTOR",
    ),
    is_timed=True,
    has_target=True,
    is_archived=True,
)

UPLOAD = Kind(
    name="upload",
    plural="uploads",
    doc="random bytes to our own server",
    options=(
        size("50 KiB"),
        Option("expect-continue", yes_or_no, "no", "whether the body waits for the server's 100 Continue"),
        *RELAYS,
    ),
    highlights=("UPLOADBYTES",),
    is_timed=True,
    is_sent=True,
)

REQUEST = Kind(
    name="request",
    plural="requests",
    doc="one request of a series",
    options=(),
    highlights=("REQUESTNUMBER", "GROUP", "ATTACHEDTO"),
)

SERIES = Kind(
    name="series",
    plural="series",
    doc="several requests, and to which circuits tor attaches their streams",
    options=(
        size("50 KiB", "the payload of each request, in bytes or with a unit"),
        Option("requests", positive(whole_number), "10", "how many requests"),
        Option("groups", positive(whole_number), "1", "in how many isolation groups, in turn"),
        Option("stagger", parse_duration, None, "seconds from one to the next; not given: one after the other"),
        *TARGET,
        *RELAYS,
    ),
    checks=(_check_series,),
    highlights=("URL", "REQUESTSOK", "CIRCUITS", "REUSED", "CIRCUITWAITMEDIAN", "FAILURES"),
    parts=(REQUEST,),
    has_target=True,
)

RTT = Kind(
    name="rtt",
    plural="round-trip times",
    doc="round-trip times on one circuit, idle and under the load of downloads, uploads or both",
    options=(
        size("5 MiB", "of each download that is the load, in bytes or with a unit"),
        Option("rate", number, "10", "exchanges a second"),
        Option("duration", positive(parse_duration), "10 s", "seconds of each phase"),
        Option(
            "loads",
            several_of(("download", "upload", "both")),
            "download",
            "one phase under each: download, upload, both at once",
        ),
        Option("both-ways", yes_or_no, "no", "whether the server sends probes too"),
        *TARGET,
        *RELAYS,
    ),
    checks=(_check_rtt,),
    highlights=("URL", "RTTIDLEMEDIAN", "RTTLOADMEDIAN", "RTTUPLOADMEDIAN", "RTTBOTHMEDIAN", "RTTLOST"),
    has_speed=False,
    has_target=True,
)

BOOTSTRAP = Kind(
    name="bootstrap",
    plural="bootstraps",
    doc="a tor that is launched anew: the time and the bytes to each phase, and to the first byte",
    options=(
        size("1 KiB", "of the download after the bootstrap, in bytes or with a unit"),
        Option("data-directory", nonempty, None, "a data directory of tor, copied for each run; not given: empty"),
    ),
    checks=(_check_bootstrap,),
    highlights=("DATADIRECTORY", "BOOTSTRAPDONE", "TORREADDONE", "DIRREAD", "BOOTSTRAPPROGRESS"),
    times=(Time("BOOTSTRAPDONE", "bootstrapped", "bootstrapped"),),
    is_timed=True,
    has_speed=False,
    is_launched=True,
)

PAGELOAD = Kind(
    name="pageload",
    plural="page loads",
    doc="a whole page in a real browser",
    options=(
        OPTIMISTIC,
        Option("page", one_of(("canonical", "light", "heavy")), "canonical", "which page of our own server"),
        Option("url", web_address, None, "a page elsewhere instead"),
        Option("browser", names, "default", "one or more names of browsers; it runs once for each", "browsers"),
        Option(
            "quiet", positive(parse_duration), "2 s", "seconds without a request after which it is fully loaded"
        ),
        Option("screenshot", yes_or_no, "yes", "whether a picture of the page is kept"),
        Option("filmstrip", yes_or_no, "no", "whether pictures are made meanwhile, for the SpeedIndex"),
        Option("insecure", yes_or_no, "no", "whether certificates that nobody signed are accepted"),
        *RELAYS,
    ),
    checks=(_check_optimistic, _check_pageload),
    highlights=("BROWSER", "OPTIMISTIC", "FIRSTCONTENTFULPAINT", "LOAD", "FULLYLOADED", "REQUESTS", "SPEEDINDEX"),
    times=(
        Time("FIRSTCONTENTFULPAINT", "first_contentful_paint", "first paint"),
        Time("LOAD", "load", "load"),
        Time("FULLYLOADED", "fully_loaded", "fully loaded"),
    ),
    is_timed=True,
)

SCAN = Kind(
    name="scan",
    plural="scans",
    doc="the relays of a class in turn, each over a circuit with known others",
    options=(size("50 KiB"), *SCANNED, *TARGET),
    highlights=("SCANNICKNAME", "SCANPLACE", "SCANPASS", "URL"),
    is_timed=True,
    has_target=True,
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (DOWNLOAD, UPLOAD, SERIES, RTT, BOOTSTRAP, PAGELOAD, SCAN)}
"""Perfd's own, by name."""

OTHER = Kind(name="other", plural="others", doc="what no kind of this Perfd has measured", options=())


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds that perfd.conf can have, by name: those of other packages that are installed too."""
    others = extensions().usable
    return {**KINDS, **{name: each.kind for name, each in others.items() if name not in KINDS}}


def kind_of(name: str) -> Kind:
    """The kind of the records whose type is ``name``; ``OTHER`` for those that another program has written."""
    kind = kinds().get(name)
    parts = (part for each in kinds().values() for part in each.parts if part.name == name)
    return kind or next(parts, OTHER)
