"""What the process of the links is told: which relays there are, and what the link of each is like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

from perfd.config.testnet import Link

DIRECTORY = "links"
"""Where the process of the links keeps its things, in the network's directory."""

PID_FILE = "links.pid"

NAMESPACES = "namespaces.json"
"""Which descriptor of the process of the links is the namespace of which relay."""

PROGRAM = "perfd.tor.testnet.links.program"


@attrs.frozen(kw_only=True)
class Endpoint:
    """A relay as the links see it.

    ``port`` is where others connect to. With proxies tor itself listens on ``behind``, and connects to others
    through ``outgoing``, by which it is recognized. ``obfs4`` is the same for others who speak obfs4, which itself
    listens on ``obfs4_behind``.
    """

    nickname: str
    link: Link
    address: str
    port: int
    behind: int | None = None
    outgoing: int | None = None
    obfs4: int | None = None
    obfs4_behind: int | None = None


@attrs.frozen(kw_only=True)
class LinkPlan:
    """All links of a network; ``mode`` is proxy or netns."""

    mode: str
    seed: int | None
    relays: tuple[Endpoint, ...]
    device: str = ""  # the machine's own network device, of netns
    gateway: str = ""  # its address

    def save(self, path: Path) -> None:
        """Write it into the file ``path``. Raises OSError."""
        path.write_text(json.dumps(attrs.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> LinkPlan:
        """What ``save`` has written. Raises OSError and ValueError."""
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        relays = tuple(Endpoint(**{**each, "link": Link(**each["link"])}) for each in data.pop("relays"))
        return cls(relays=relays, **data)


def describe(mode: str, relays: int, link: Link, seed: int | None, others: Mapping[str, Link]) -> str:
    """The links in one word without spaces, as LINKS of a record has it; ``others`` are those that differ."""
    values = [f"relays={relays}", *_values(link)]
    if others:
        # Two networks with other links have other words: so many, and eight hexadecimal digits of what they are.
        text = "\n".join(sorted(",".join([nickname, *_values(each)]) for nickname, each in others.items()))
        values.append(f"others={len(others)}:{sha256(text.encode()).hexdigest()[:8]}")
    if seed is not None:
        values.append(f"seed={seed}")
    return f"{mode}:" + ",".join(values)


def _values(link: Link) -> list[str]:
    values = [f"delay={1000 * link.delay:.10g}ms"]
    if link.jitter:
        values.append(f"jitter={1000 * link.jitter:.10g}ms")
    if link.rate is not None:
        values.append(f"rate={link.rate / 1e6:.10g}Mbit/s")
    if link.loss:
        values.append(f"loss={100 * link.loss:.10g}%")
    return values
