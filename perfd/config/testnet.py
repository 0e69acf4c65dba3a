"""``[testnet]``: the private network's relays, and the links between them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import attrs

from perfd.config.named_files import read_named
from perfd.config.section import Section, suggestion
from perfd.config.syntax import read_sections
from perfd.config.values import between, nonempty, one_of, positive, whole_number
from perfd.units import parse_bit_rate, parse_duration, parse_percentage

LINKS = ("auto", "proxy", "netns")

LEAST_RELAYS, MOST_RELAYS = 4, 50
DEFAULT_RELAYS = 6
DEFAULT_KEEP = "10 min"
"""For how long ``--keep`` alone keeps a network that nobody uses."""

LONGEST_DELAY = 0.5
"""Seconds. With more it would take the authorities many minutes to agree: see `perfd.tor.testnet.voting`."""

MOST_LOSS = 0.3

MOST_BRIDGES = 10

PRESETS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "near": {"relays": "8", "delay": "5 ms", "jitter": "0.5 ms", "rate": "100 Mbit/s"},
        "continent": {"relays": "8", "delay": "15 ms", "jitter": "2 ms", "rate": "50 Mbit/s"},
        "world": {"relays": "20", "delay": "40 ms", "jitter": "5 ms", "rate": "20 Mbit/s"},
        "large": {"relays": "50", "delay": "40 ms", "jitter": "5 ms", "rate": "20 Mbit/s"},
    }
)
"""What a name stands for; what is given besides counts more."""


@attrs.frozen(kw_only=True)
class Link:
    """The link of one relay, the same in both directions; what goes from relay to relay crosses two."""

    delay: float = 0.0  # seconds, one way
    jitter: float = 0.0  # seconds that each delay is longer or shorter at most, all equally likely
    rate: float | None = None  # bit/s of IP packets; None: no bound
    loss: float = 0.0  # the share of packets that are lost

    @property
    def is_plain(self) -> bool:
        """Whether it does nothing."""
        return self == Link()


@attrs.frozen(kw_only=True)
class TestnetConfig:
    """``[testnet]``: how the private network is made."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    relays: int = DEFAULT_RELAYS
    links: str | None = None  # one of LINKS; None: no links
    link: Link = Link()
    links_by_relay: Mapping[str, Link] = attrs.field(factory=dict, hash=False)  # by nickname
    seed: int | None = None  # of weights, jitter and loss; None: all relays have the same weight
    keep: float | None = None  # seconds that a network which Perfd started stays when nobody uses it; None: none
    bridges: int = 0  # besides the relays: they are in no consensus

    @property
    def bridge_names(self) -> list[str]:
        """The nicknames of the bridges."""
        return [f"bridge{number + 1}" for number in range(self.bridges)]

    @property
    def longest_delay(self) -> float:
        """Of any link, one way, in seconds."""
        links = (self.link, *self.links_by_relay.values()) if self.links is not None else ()
        return max((link.delay + link.jitter for link in links), default=0.0)

    def link_of(self, nickname: str) -> Link:
        """The link of a relay."""
        return self.links_by_relay.get(nickname, self.link)


def nicknames(relays: int) -> list[str]:
    """The names of so many relays: three authorities, and exits; of more than six also guards and middles."""
    others = relays - min(3, relays - 1)
    guards = (others + 1) // 3 if relays > DEFAULT_RELAYS else 0
    middles = others // 5 if relays > DEFAULT_RELAYS else 0
    counts = {"auth": relays - others, "guard": guards, "middle": middles, "exit": others - guards - middles}
    return [f"{role}{number + 1}" for role, count in counts.items() for number in range(count)]


def read_testnet(section: Section, directory: Path) -> TestnetConfig:
    """What ``section`` says; a relative name of a file is relative to ``directory``."""
    preset = PRESETS.get(section.get("preset", one_of(tuple(PRESETS)), None) or "", {})
    relays = section.get("relays", between(LEAST_RELAYS, MOST_RELAYS), preset.get("relays", str(DEFAULT_RELAYS)))
    bridges = section.get("bridges", between(0, MOST_BRIDGES), "0")
    link = read_link(section, preset)
    names = [*nicknames(relays), *TestnetConfig(bridges=bridges).bridge_names]
    by_relay = section.get("links-file", partial(_links_in, directory, link, names), None) or {}
    has_links = "links" in section or not link.is_plain or bool(by_relay)
    links = section.get("links", one_of(LINKS), "auto")
    if links == "proxy" and any(each.loss for each in (link, *by_relay.values())):
        section.problem("loss", "needs links = netns: through a proxy, a loss would end connections")
    seed = section.get("seed", whole_number, "1" if relays > DEFAULT_RELAYS else None)
    config = TestnetConfig(
        relays=relays,
        links=links if has_links else None,
        link=link,
        links_by_relay=by_relay,
        seed=seed,
        keep=section.get("keep", positive(parse_duration), None),
        bridges=bridges,
    )
    section.finish()
    return config


def read_link(section: Section, defaults: Mapping[str, str] | Link) -> Link:
    """The values of a link; those that are not given are of ``defaults``."""
    if isinstance(defaults, Link):
        texts = {"delay": f"{defaults.delay:.9f} s", "jitter": f"{defaults.jitter:.9f} s"}
        texts["loss"] = f"{100 * defaults.loss:.9f} %"
        texts |= {} if defaults.rate is None else {"rate": f"{defaults.rate:.0f} bit/s"}
        defaults = texts
    link = Link(
        delay=section.get("delay", _delay, defaults.get("delay", "0 s")),
        jitter=section.get("jitter", _delay, defaults.get("jitter", "0 s")),
        rate=section.get("rate", positive(parse_bit_rate), defaults.get("rate")),
        loss=section.get("loss", _loss, defaults.get("loss", "0 %")),
    )
    if link.jitter > link.delay:
        section.problem("jitter", "must not be more than delay")
    return link


def _links_in(directory: Path, default: Link, known: list[str], name: str) -> dict[str, Link]:
    """The links in an INI file with a section for each relay that differs."""
    path = directory / nonempty(name)
    try:
        sections, problems = read_sections(read_named(path), path, "exit1")
    except (OSError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = {}
    for nickname, values in sections.items():
        if nickname not in known:
            problems.append(f"{path}: [{nickname}]: there is no such relay{suggestion(nickname, known)}")
            continue
        section = Section(path, nickname, values, problems)
        found[nickname] = read_link(section, default)
        section.finish()
    if problems:
        raise ValueError("; ".join(problems))
    return found


def _delay(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > LONGEST_DELAY:
        raise ValueError(f"must be at most {LONGEST_DELAY:g} s")
    return seconds


def _loss(text: str) -> float:
    share = parse_percentage(text)
    if share > MOST_LOSS:
        raise ValueError(f"must be at most {100 * MOST_LOSS:g} %")
    return share
