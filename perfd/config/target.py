"""``url`` of an experiment: what is fetched from a server that is not ours, and what must come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from perfd.config.options import Option, web_address
from perfd.config.section import Section
from perfd.config.values import one_of, positive, whole_number, yes_or_no
from perfd.units import parse_duration, parse_size

METHODS = ("GET", "HEAD")

MOST_REDIRECTS = 20

LEAST_INTERVAL = 10.0
"""Seconds between two slots of an experiment that asks the servers of others."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ONION = re.compile(r"(?:.+\.)?[a-z2-7]{56}\.onion", re.DOTALL)


@attrs.frozen(kw_only=True)
class TargetConfig:
    """What is fetched from elsewhere. ``size`` and ``digest`` None: any will do."""

    url: str  # as perfd.conf has it
    method: str = "GET"
    redirects: int = 0  # how many are followed
    statuses: tuple[int, ...] = (200,)
    size: int | None = None
    digest: str | None = None  # SHA-256, in hexadecimal
    size_limit: int = 64 * 2**20
    insecure: bool = False
    pause: float = 1.0  # seconds from one request to a host to the next one

    @property
    def is_onion(self) -> bool:
        return is_onion(self.url)


def is_onion(url: str) -> bool:
    """Whether the URL is one of a v3 onion service."""
    return _ONION.fullmatch(urlsplit(url).hostname or "") is not None


def a_target(text: str) -> str:
    """The URL of something to fetch. Raises ValueError."""
    host = (urlsplit(web_address(text)).hostname or "").removesuffix(".")
    if host.endswith(".onion") and not _ONION.fullmatch(host):
        raise ValueError(f"{host} is no address of a v3 onion service: they have 56 letters and digits")
    return text


def a_digest(text: str) -> str:
    """A SHA-256 in hexadecimal."""
    digest = text.lower().removeprefix("sha256:")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{text!r} is not a SHA-256 of 64 hexadecimal digits")
    return digest


def statuses(text: str) -> tuple[int, ...]:
    """One or more HTTP statuses, with commas between."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[2-5][0-9]{2}", word, re.ASCII) for word in words):
        raise ValueError(f"{text!r} is not a list of statuses such as 200 or 200, 206")
    return tuple(dict.fromkeys(map(int, words)))


def redirects(text: str) -> int:
    """How many redirects are followed."""
    count = whole_number(text)
    if count > MOST_REDIRECTS:
        raise ValueError(f"must be at most {MOST_REDIRECTS}")
    return count


URL_OPTION = Option("url", a_target, None, "a file elsewhere instead, over http or https, public or onion")

TARGET = (
    URL_OPTION,
    Option("method", one_of(METHODS), "GET", "with url: GET, or HEAD, which has no payload"),
    Option("redirects", redirects, "0", "with url: how many redirects are followed"),
    Option("expect-status", statuses, "200", "with url: the statuses that are right", "statuses"),
    Option("expect-digest", a_digest, None, "with url: the SHA-256 of the payload", "digest"),
    Option("size-limit", positive(parse_size), "64 MiB", "with url: the most that is read"),
    Option("insecure", yes_or_no, "no", "with https: whether certificates that nobody signed are accepted"),
    Option("pause", parse_duration, "1 s", "with url: seconds from one request to a host to the next one"),
)
"""The options of all kinds that can fetch from elsewhere; ``size``, if it is given, is what is expected."""


def read_target(section: Section, options: dict[str, Any]) -> TargetConfig | None:
    """The target, of the ``options`` of an experiment, which lose what belongs to it; None: our own server."""
    found: Mapping[str, Any] = {each.attribute: options.pop(each.attribute) for each in TARGET}
    if found["url"] is None:
        for option in TARGET:
            if option.name in section and option is not URL_OPTION:
                section.problem(option.name, "only used with url")
        return None
    size = options["size"] if "size" in section else None
    return TargetConfig(size=size, **found)


def check_target(section: Section, target: TargetConfig, interval: float) -> None:
    """Whether its options go together, and are no burden to whom it belongs."""
    if "server" in section:
        section.problem("server", "cannot be given together with url")
    if target.size is not None and target.size > target.size_limit and target.method == "GET":
        section.problem("size", "larger than size-limit")
    if target.method == "HEAD" and target.digest is not None:
        section.problem("expect-digest", "there is no payload with method = HEAD")
    if interval < LEAST_INTERVAL:
        section.problem("interval", f"must be at least {LEAST_INTERVAL:g} s with url, as the server is not ours")
