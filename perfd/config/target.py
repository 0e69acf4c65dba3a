"""``url`` of an experiment: what is fetched from a server that is not ours, and what must come back."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import attrs

from perfd.config.named_files import read_named
from perfd.config.options import Option, web_address
from perfd.config.section import Section
from perfd.config.values import between, nonempty, one_of, positive, yes_or_no
from perfd.units import parse_duration, parse_size

T = TypeVar("T")

METHODS = ("GET", "HEAD")

MOST_REDIRECTS = 20

LEAST_INTERVAL = 10.0
"""Seconds between two slots of an experiment that asks the servers of others."""

MOST_TARGETS = 1000

LONGEST_URL = 500

_PLAIN = "/?%:@!$&'()*+,;=~[]"
"""What stands for itself in a path or query (RFC 3986, 3.3), what was quoted already, and what servers take."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ONION = re.compile(r"(?:.+\.)?([a-z2-7]{56})\.onion", re.DOTALL)
_ONION_KEY = re.compile(r"(?:([a-z2-7]{56}):)?descriptor:x25519:([A-Z2-7]{52})")


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
    pause: float = 1.0  # seconds for which a host is left alone between two runs
    onion_key: str | None = attrs.field(
        default=None, repr=False
    )  # x25519 in base64, as ONION_CLIENT_AUTH_ADD has it

    @property
    def onion(self) -> str | None:
        """The address of its onion service, without ``.onion``; None if it is none."""
        return onion_in(self.url)


def onion_in(url: str) -> str | None:
    """The address of the v3 onion service, without ``.onion``, that the URL is one of; None if it is none."""
    match = _ONION.fullmatch(urlsplit(url).hostname or "")
    return None if match is None else match[1]


def a_target(text: str, longest: int = LONGEST_URL) -> str:
    """The URL of something to fetch, as requests have it: in ASCII, and without a fragment. Raises ValueError."""
    parts = urlsplit(web_address(text))
    host = (parts.hostname or "").removesuffix(".")
    if host.endswith(".onion") and not _ONION.fullmatch(host):
        raise ValueError(f"{host} is no address of a v3 onion service: they have 56 letters and digits")
    netloc = parts.netloc
    if not netloc.isascii():
        netloc = host.encode("idna").decode("ascii") + (f":{parts.port}" if parts.port else "")
    path, query = quote(parts.path, safe=_PLAIN), quote(parts.query, safe=_PLAIN)
    url = parts._replace(netloc=netloc, path=path, query=query, fragment="").geturl()
    if len(url) > longest:
        raise ValueError(f"must have at most {longest} characters")
    return url


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


def onion_keys(text: str) -> Mapping[str | None, str]:
    """The keys of a file as ClientOnionAuthDir has it, in base64: by the service's address, or None for any."""
    found: dict[str | None, str] = {}
    for line in _lines(text):
        match = _ONION_KEY.fullmatch(line)
        if match is None:
            raise ValueError("a line is not ADDRESS:descriptor:x25519:KEY")
        found[match[1]] = base64.b64encode(base64.b32decode(match[2] + "====")).decode("ascii")
    if not found:
        raise ValueError("there is no key in it")
    return found


def urls(text: str) -> tuple[str, ...]:
    """The URLs of a list, one a line."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for url in _lines(line):
            try:
                found.append(a_target(url))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not 0 < len(found) <= MOST_TARGETS:
        raise ValueError(f"it has {len(found)} addresses, and must have from 1 to {MOST_TARGETS}")
    return tuple(dict.fromkeys(found))


def _lines(text: str) -> Iterator[str]:
    """The lines that are neither empty nor comments."""
    lines = (line.strip() for line in text.splitlines())
    return (line for line in lines if line and not line.startswith("#"))


URL = Option("url", a_target, None, "a file elsewhere instead, over http or https, public or onion")
URLS = Option("urls", nonempty, None, "a file with such addresses, one a line; the experiment runs once for each")
ONION_KEY = Option("onion-key", nonempty, None, "with url: a file with keys to onion services, as tor has them")

FILES = (URLS.name, ONION_KEY.name)
"""The options whose values are names of files."""

TARGET = (
    URL,
    URLS,
    ONION_KEY,
    Option("method", one_of(METHODS), "GET", "with url: GET, or HEAD, which has no payload"),
    Option("redirects", between(0, MOST_REDIRECTS), "0", "with url: how many redirects are followed"),
    Option("expect-status", statuses, "200", "with url: the statuses that are right", "statuses"),
    Option("expect-digest", a_digest, None, "with url: the SHA-256 of the payload", "digest"),
    Option("size-limit", positive(parse_size), "64 MiB", "with url: the most that is read"),
    Option("insecure", yes_or_no, "no", "with https: whether certificates that nobody signed are accepted"),
    Option("pause", parse_duration, "1 s", "with url: seconds for which a host is left alone between runs"),
)
"""The options of all kinds that can fetch from elsewhere; ``size``, if it is given, is what is expected."""


def read_targets(section: Section, options: dict[str, Any], directory: Path) -> tuple[TargetConfig, ...]:
    """The targets, of the ``options`` of an experiment, which lose what belongs to them; none: our own server.

    Files are relative to ``directory``.
    """
    found: dict[str, Any] = {each.attribute: options.pop(each.attribute) for each in TARGET}
    url, listed, key_file = (found.pop(each.attribute) for each in (URL, URLS, ONION_KEY))
    if url is None and listed is None:
        for option in TARGET:
            if option.name in section and option not in (URL, URLS):
                section.problem(option.name, "only used with url")
        return ()
    if url is not None and listed is not None:
        section.problem(URLS.name, "cannot be given together with url")
    addresses = (url,) if url is not None else _read(section, URLS, directory / listed, urls) or ()
    keys = {} if key_file is None else _read(section, ONION_KEY, directory / key_file, onion_keys)
    size = options["size"] if "size" in section else None
    targets = [TargetConfig(url=each, size=size, **found) for each in addresses]
    if keys is None:  # which was told
        return tuple(targets)
    targets = [
        attrs.evolve(each, onion_key=keys.get(each.onion, keys.get(None))) if each.onion is not None else each
        for each in targets
    ]
    if keys and all(each.onion_key is None for each in targets):
        section.problem(ONION_KEY.name, f"{key_file!r} has no key for the onion services of url")
    return tuple(targets)


def _read(section: Section, option: Option, path: Path, read: Callable[[str], T]) -> T | None:
    """What ``read`` makes of a file; None if that cannot be, which the section is told."""
    try:
        return read(read_named(path))
    except (OSError, ValueError) as error:
        section.problem(option.name, f"{path.name!r}: {getattr(error, 'strerror', None) or error}")
        return None


def check_targets(section: Section, targets: Sequence[TargetConfig], interval: float) -> None:
    """Whether their options go together, and are no burden to whom they belong."""
    if "server" in section:
        section.problem("server", "cannot be given together with url")
    target = targets[0]  # all but the addresses is the same
    if target.size is not None and target.size > target.size_limit and target.method == "GET":
        section.problem("size", "larger than size-limit")
    if target.method == "HEAD" and target.digest is not None:
        section.problem("expect-digest", "there is no payload with method = HEAD")
    if interval < LEAST_INTERVAL:
        section.problem("interval", f"must be at least {LEAST_INTERVAL:g} s with url, as the server is not ours")
    hosts = Counter(urlsplit(each.url).hostname for each in targets)
    most = max(hosts.values())
    if most * target.pause > interval:
        section.problem("pause", f"{most} addresses of one host, with the pause between them, outlast the interval")
