"""What a kind of experiment is: what perfd.conf may say of it, and what the rest of Perfd asks about it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import attrs

from perfd.config.options import Option
from perfd.config.records import ClientConfig, ExperimentConfig
from perfd.config.section import Section


@attrs.frozen(kw_only=True)
class Context:
    """What the other sections of perfd.conf say that experiments refer to."""

    max_size: int  # bytes
    max_connections: int
    network: str
    tors: Collection[str]  # clients too
    browsers: Collection[str]
    directory: Path  # of perfd.conf
    single_onion_tor: str | None  # the tor that can carry no measurement
    clients: Collection[ClientConfig] = ()
    onion_auth: bool = False  # whether our onion service wants its clients' key
    attached: Collection[str] = ()  # the tors that somebody else runs
    bridged: Collection[str] = ()  # the tors that go over bridges
    relays: Collection[str] = ()  # the nicknames of the private network, if that is the network


Check = Callable[[Section, ExperimentConfig, Context], None]
"""Tells the section what is wrong with an experiment's options together."""


@attrs.frozen
class Time:
    """A time that the records of a kind have besides the steps of all, and that summaries have quartiles of."""

    key: str  # in records
    name: str  # in JSON
    heading: str  # in tables


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of experiment: the ``type`` of perfd.conf and of records."""

    name: str
    plural: str  # what its measurements are called
    doc: str
    options: tuple[Option, ...]
    checks: tuple[Check, ...] = ()
    highlights: tuple[str, ...] = ()  # the record's keys that tables show
    parts: tuple[Kind, ...] = ()  # of the records that a run has besides its own
    times: tuple[Time, ...] = ()
    is_timed: bool = False  # how long it takes says how fast the way was, and is not configured
    has_speed: bool = True  # its payload goes as fast as it can
    is_sent: bool = False  # the payload goes to the server, whose stamps DATAPERCn are
    has_target: bool = False  # it can fetch from elsewhere: ``TARGET`` is among its options
    is_archived: bool = False  # what Torperf measured, so that files for its readers have it
    is_launched: bool = False  # each run launches a tor of its own, as that of the configuration would be
