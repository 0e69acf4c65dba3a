"""``[experiment:NAME]``: the options of each type, and what they must be to one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from perfd.config.records import ExperimentConfig
from perfd.config.section import Section
from perfd.config.values import names, one_of, positive, several_of, whole_number, yes_or_no
from perfd.units import format_size, parse_duration, parse_size

TYPES = ("download", "upload", "series", "rtt", "pageload")
SERVERS = ("public", "onion")
CIRCUITS = ("fresh", "reuse")
PARALLEL_CIRCUITS = ("one", "each")
OPTIMISTIC = ("no", "yes", "both")
PAGES = ("canonical", "light", "heavy")
NO_TOR = "none"

LONGEST_INTERVAL = 366 * 86400.0
MOST_STREAMS = 1000
MOST_REQUESTS = 1000
HIGHEST_RATE = 100.0
MOST_SAMPLES = 1000
LONGEST_NAME = 253

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

Reader = Callable[[str], Any]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number such as 10 or 0.5") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} must be over 0")
    return value


def _url(text: str) -> str:
    parts = urlsplit(text)  # its ValueError, and that of its port, say what is wrong
    if "@" in parts.netloc:
        raise ValueError("user names and passwords are not taken here: they would be in each record")
    is_plain = text.isprintable() and " " not in text
    is_http = parts.scheme in ("http", "https") and parts.port != 0
    if not (is_plain and is_http and _is_host(parts.hostname or "")):
        raise ValueError(f"{text!r} is not an address like https://example.org/")
    return text


def _is_host(host: str) -> bool:
    """Whether it is an IPv6 address, or a name or IPv4 address that a browser would take (RFC 1035, IDNA)."""
    if ":" in host:
        return True  # urlsplit has looked at it
    try:
        name = host.encode("idna").decode("ascii").removesuffix(".").lower()
        return len(name) <= LONGEST_NAME and all(_is_label(label) for label in name.split("."))
    except UnicodeError:
        return False


def _is_label(label: str) -> bool:
    if label.startswith("xn--"):
        meant = label.removeprefix("xn--").encode("ascii").decode("punycode")
        return meant.isprintable() and not meant.isascii()
    return _LABEL.fullmatch(label) is not None


def _is_one(text: str) -> bool:
    return bool(one_of(PARALLEL_CIRCUITS)(text) == "one")


OPTIONS: Mapping[str, tuple[str, Reader, tuple[str, ...]]] = {
    "size": ("size", positive(parse_size), ("download", "upload", "series", "rtt")),
    "optimistic": ("optimistic", one_of(OPTIMISTIC), ("download", "pageload")),
    "parallel": ("parallel", positive(whole_number), ("download",)),
    "parallel-circuits": ("is_on_one_circuit", _is_one, ("download",)),
    "expect-continue": ("expect_continue", yes_or_no, ("upload",)),
    "requests": ("requests", positive(whole_number), ("series",)),
    "groups": ("groups", positive(whole_number), ("series",)),
    "stagger": ("stagger", parse_duration, ("series",)),
    "rate": ("rate", _number, ("rtt",)),
    "duration": ("duration", positive(parse_duration), ("rtt",)),
    "page": ("page", one_of(PAGES), ("pageload",)),
    "url": ("url", _url, ("pageload",)),
    "browser": ("browsers", names, ("pageload",)),
    "quiet": ("quiet", positive(parse_duration), ("pageload",)),
    "screenshot": ("screenshot", yes_or_no, ("pageload",)),
    "filmstrip": ("filmstrip", yes_or_no, ("pageload",)),
    "insecure": ("insecure", yes_or_no, ("pageload",)),
}
"""The options of one type or some: the attribute, how it is read, and the types that it belongs to."""


@attrs.frozen(kw_only=True)
class Known:
    """What other sections say that experiments refer to."""

    max_size: int
    max_connections: int
    network: str
    tors: Collection[str]
    browsers: Collection[str]
    single_onion_tor: str | None  # the tor that can carry no measurement


def read_experiment(section: Section, name: str, known: Known) -> ExperimentConfig:
    """The experiment ``name``; its problems are with ``section``."""
    interval = section.get("interval", positive(parse_duration), 300.0)
    kind = section.get("type", one_of(TYPES), "download")
    defaults: dict[str, Any] = {field.name: field.default for field in attrs.fields(ExperimentConfig)}
    defaults["size"] = {"rtt": 5 * 2**20, "pageload": 0}.get(kind, 51200)
    options: dict[str, Any] = {
        attribute: section.get(option, read, defaults[attribute])
        for option, (attribute, read, types) in OPTIONS.items()
        if kind in types
    }
    config = ExperimentConfig(
        name=name,
        type=kind,
        interval=interval,
        offset=section.get("offset", parse_duration, 0.0),
        timeout=section.get("timeout", positive(parse_duration), max(1.0, interval - 5.0)),
        tors=section.get("tor", names, ("default",)),
        servers=section.get("server", several_of(SERVERS), ("public",)),
        fresh_circuits=section.get("circuit", one_of(CIRCUITS), "fresh") == "fresh",
        skip_until_cbt=section.get("skip-until-cbt", yes_or_no, False),
        fresh_descriptor=section.get("fresh-descriptor", yes_or_no, False),
        **({"size": defaults["size"]} | options),
    )
    _check_schedule(section, config)
    _check_ways(section, config, known)
    _check_type(section, config, known)
    section.finish({option: f"type = {' or '.join(types)}" for option, (_, _, types) in OPTIONS.items()})
    return config


def _check_schedule(section: Section, config: ExperimentConfig) -> None:
    if not 1 <= config.interval <= LONGEST_INTERVAL:
        section.problem("interval", "must be from 1 s to 366 d")
    if config.offset >= config.interval:
        section.problem("offset", "must be smaller than the interval")


def _check_ways(section: Section, config: ExperimentConfig, known: Known) -> None:
    """Whether the tors are there and lead to the servers."""
    if known.network == "socks" and "onion" in config.servers:
        section.problem("server", "there are no onion services with network = socks")
    if NO_TOR in config.tors and "onion" in config.servers:
        section.problem("tor", "an onion service cannot be reached with tor = none")
    if config.fresh_descriptor and "onion" not in config.servers:
        section.problem("fresh-descriptor", "only used with server = onion")
    for tor in config.tors:
        if tor not in (*known.tors, NO_TOR):
            there = ", ".join(sorted((*known.tors, NO_TOR)))
            section.problem("tor", f"no tor is named {tor!r}; there is {there}")
        elif tor == known.single_onion_tor:
            section.problem(
                "tor",
                f"{tor} publishes a single onion service, which takes away its anonymity and its SOCKS port; "
                "give onion-tor of [server] a tor of its own",
            )


def _check_type(section: Section, config: ExperimentConfig, known: Known) -> None:
    """Whether the options of the type fit together."""
    if config.size > known.max_size:
        section.problem("size", f"larger than max-size of [server], which is {format_size(known.max_size)}")
    _check_connections(section, config, known)
    if config.type == "series":
        _check_series(section, config)
    if config.optimistic in ("yes", "both") and set(config.tors) == {NO_TOR}:
        section.problem("optimistic", "there is no SOCKS reply that would not be waited for with tor = none")
    if config.type == "rtt":
        _check_rtt(section, config)
    if config.type == "pageload":
        _check_pageload(section, config, known)


def _check_connections(section: Section, config: ExperimentConfig, known: Known) -> None:
    """Whether the server takes as many connections."""
    if config.parallel > MOST_STREAMS:
        section.problem("parallel", f"must be at most {MOST_STREAMS}")
    if config.requests > MOST_REQUESTS:
        section.problem("requests", f"must be at most {MOST_REQUESTS}")
    for option, at_once in (("parallel", config.parallel), ("requests", _requests_at_once(config))):
        if known.max_connections < at_once <= MOST_STREAMS:
            section.problem(option, f"more than max-connections of [server], which is {known.max_connections}")


def _check_series(section: Section, config: ExperimentConfig) -> None:
    if config.groups > config.requests:
        section.problem("groups", "must be at most as many as there are requests")
    if config.stagger is not None and (config.requests - 1) * config.stagger >= config.timeout:
        section.problem("stagger", "the last request would begin after the timeout, which is that of all")


def _requests_at_once(config: ExperimentConfig) -> int:
    """The requests of a series that can be under way at the same time."""
    return 1 if config.stagger is None else config.requests


def _check_rtt(section: Section, config: ExperimentConfig) -> None:
    if config.rate > HIGHEST_RATE:
        section.problem("rate", f"must be at most {HIGHEST_RATE:g} exchanges a second")
    if config.rate * config.duration > MOST_SAMPLES:
        section.problem("duration", f"rate x duration must be at most {MOST_SAMPLES}")
    if 2 * config.duration >= config.timeout:
        section.problem("duration", "both phases together must be shorter than the timeout")


def _check_pageload(section: Section, config: ExperimentConfig, known: Known) -> None:
    if config.url is not None:
        for option in ("page", "server"):
            if option in section:
                section.problem(option, "cannot be given together with url")
    for browser in config.browsers:
        if browser not in known.browsers:
            there = ", ".join(sorted(known.browsers))
            section.problem("browser", f"no browser is named {browser!r}; there is {there}")
