"""File descriptors: how many this process may have open, and how many a configuration can need."""

from __future__ import annotations

import resource
from contextlib import suppress

from perfd.config import Config, ExperimentConfig
from perfd.config.records import NO_TOR

BASE = 200
"""Libraries, log, database, pipes of children, files that are sent, requests of this machine beyond the limit."""

OF_TOR = 16
"""For each tor: its control connection, the pipes of its process, and those of relays on the private network."""

OF_STREAM = 4
"""For each connection that measures at a time: the client's, both sides of a proxy in between, the server's."""

STREAMS_OF_PAGE = 100
"""Connections of a page load: six for each of three origins, and what a page elsewhere has more."""

FEWEST = 8
"""Strangers that are served at a time wherever Perfd can run at all."""

RESERVED = 400
"""What the web server leaves to all else when it has descriptors to spare."""


def raise_limit() -> int:
    """Let this process have as many as it may (the hard limit of setrlimit(2)); the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # a hard limit above what the kernel can do
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def most() -> int:
    """How many this process may have: the hard limit."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def needed(config: Config) -> int:
    """How many can be open at a time when all strangers and all measurements come at once.

    Each site (the server, and its onion service) has ``max-connections`` strangers that are served, and as many
    that wait. On a tor one measurement runs at a time, and so it is with all that go without one.
    """
    return _besides(config) + 2 * config.server.max_connections * _sites(config)


def strangers(config: Config, limit: int) -> int:
    """How many of them a site serves at a time: ``max-connections``, fewer where a ``limit`` is too low for that.

    What is left to them is what measurements do not need, so that they can take none of those.
    """
    room = (limit - _besides(config)) // (2 * _sites(config))
    return min(config.server.max_connections, max(FEWEST, room))


def _sites(config: Config) -> int:
    return 2 if any("onion" in each.servers for each in config.experiments) else 1


def _besides(config: Config) -> int:
    """What is needed apart from strangers."""
    tors = {tor for each in config.experiments for tor in each.tors}
    streams = sum(max(_streams(each) for each in config.experiments if tor in each.tors) for tor in tors)
    launched = len(tors - {NO_TOR}) if config.network != "socks" else 0
    return BASE + OF_TOR * launched + OF_STREAM * streams


def shortage(config: Config, limit: int) -> str | None:
    """What to do about a ``limit`` that is too low for ``config``; None if it is not."""
    number = needed(config)
    if number <= limit:
        return None
    return (
        f"max-connections = {config.server.max_connections} and the experiments can need {number} file "
        f"descriptors, and no more than {limit} are allowed: raise the limit (ulimit -Hn, LimitNOFILE of systemd), "
        "or lower max-connections in [server]"
    )


def _streams(config: ExperimentConfig) -> int:
    """How many connections a run of it has at a time."""
    if config.browsers:
        return STREAMS_OF_PAGE
    if config.options.get("stagger") is not None:
        requests: int = config.options["requests"]
        return requests
    streams: int = config.options.get("streams", 2)  # two: a round trip, and the download that is its load
    return streams


def _count(limit: int) -> int:
    return 2**31 if limit == resource.RLIM_INFINITY else limit
