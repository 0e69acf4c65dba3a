"""Notes of what changes by itself, or by the operator's hand: charts show them, and comparisons warn of them.

The versions of Perfd and of tors, perfd.conf, and the parameters of the consensus. What was so the last time is in
the database, so what changed while Perfd did not run is seen as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from perfd import __version__
from perfd.clock import Clock
from perfd.config import Config
from perfd.config.kinds import kind_of
from perfd.config.records import ExperimentConfig
from perfd.config.testnet import TestnetConfig
from perfd.record import Measurement, Note
from perfd.store.known import KnownState

PAUSE = 1.0
"""Seconds until what could not be read is read again: at the first start there is no database yet."""

WORTH_A_LINE = 10  # times one after the other

MOST_WAITING = 1000
"""What is remembered until it is known what was so before."""

PERFD, TOR, CONFIGURATION, CONSENSUS = "perfd", "tor", "configuration", "consensus"
"""The kinds of notes."""

_OF_RECORDS = (TOR, CONSENSUS)
"""Those that measurements tell of, which come in the order in which they end."""

_NOT_MEASURED = frozenset({"name", "directory", "title", "description", "contact", "is_indexed", "results", "keep"})
"""Fields that change nothing of what is measured; a directory is another one when the instance was moved."""


class Memory(Protocol):
    """What was so the last time, and where notes are kept."""

    async def known(self) -> list[KnownState]:
        """All that was known, the oldest first."""

    def keep(self, known: KnownState, note: Note | None) -> None:
        """Keep what is so now, and the note of the change if it was something else before."""


@attrs.frozen
class _Seen:
    """What is so at a time; ``words`` are those of the note, given what was so before (empty: it is none)."""

    at: float
    kind: str
    subject: str | None
    state: str
    words: Callable[[str], str]


class Marks(Service):
    """Keeps a note of each change. A sink: tors' versions and the consensus are those of measurements."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, clock: Clock, config: Config, memory: Memory) -> None:
        self._reactor = reactor
        self._clock = clock
        self._source = config.source
        self._memory = memory
        self._known: dict[tuple[str, str | None], KnownState] | None = None
        self._waiting: list[_Seen] = []
        self._reading: Deferred[None] | None = None
        self._config = config

    def startService(self) -> None:
        super().startService()
        self._see(
            _Seen(self._clock.wall(), PERFD, None, __version__, lambda was: _versions("Perfd", was, __version__))
        )
        self.configured(self._config)
        self._reading = Deferred.fromCoroutine(self._read())
        self._reading.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:
        super().stopService()
        if self._reading is not None:
            self._reading.cancel()

    def configured(self, config: Config) -> None:
        """What holds from now on."""
        now = self._clock.wall()
        for section, digests in _sections(config):
            state = json.dumps(digests, sort_keys=True)
            self._see(_Seen(now, CONFIGURATION, section, state, _differing(section, digests)))

    def record(self, measurement: Measurement) -> None:
        tor, version = measurement.tor, measurement.torversion
        # Of a comparison's tors the arms decide, anew for each block, and the records say so.
        if tor is not None and version is not None and "COMPARISON" not in measurement.extra:
            self._see(
                _Seen(measurement.start, TOR, f"tor:{tor}", version, lambda was: _versions(tor, was, version))
            )
        # Of several tors one has the next consensus before the others: its own time tells which is the newer one.
        valid_after, digest = (measurement.extra.get(key) for key in ("CONSENSUS", "CONSENSUSPARAMS"))
        if valid_after is not None and digest is not None:
            told = f"the consensus has other parameters ({digest})"
            self._see(_Seen(float(valid_after), CONSENSUS, None, str(digest), lambda _: told))

    async def _read(self) -> None:
        tries = 0
        while True:
            try:
                known = await self._memory.known()
                break
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                tries += 1
                if tries == WORTH_A_LINE:
                    self._log.error("what was so before cannot be read: {error}; tried on", error=error)
                await deferLater(self._reactor, PAUSE)
        self._known = {(each.kind, each.subject): each for each in known}
        waiting, self._waiting = self._waiting, []
        for seen in waiting:
            self._see(seen)

    def _see(self, seen: _Seen) -> None:
        if self._known is None:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(seen)
            return
        before = self._known.get((seen.kind, seen.subject))
        if before is not None and (
            before.state == seen.state or (seen.kind in _OF_RECORDS and seen.at <= before.at)
        ):
            return
        now = KnownState(source=self._source, at=seen.at, kind=seen.kind, subject=seen.subject, state=seen.state)
        self._known[seen.kind, seen.subject] = now
        text = "" if before is None else seen.words(before.state)
        note = (
            Note(source=self._source, at=seen.at, text=text, kind=seen.kind, subject=seen.subject) if text else None
        )
        if note is not None:
            self._log.info("noted: {text}", text=text)
        self._memory.keep(now, note)


def _versions(what: str, was: str, now: str) -> str:
    return f"{what} is {now}, and was {was}"


def _sections(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """The sections of perfd.conf that decide what is measured and how, each with a digest of every option."""
    made = {
        name for comparison in config.comparisons for name in comparison.tors
    }  # they have a design of their own
    yield "perfd", _digests({"network": config.network, "socks-proxy": config.socks_proxy})
    yield "testnet", _digests(_of_network(config.private_network))
    yield "server", _digests(_fields(config.server))
    for kind, sections in (
        ("tor", [tor for tor in config.tors if tor.name not in made]),
        ("client", config.clients),
        ("browser", config.browsers),
    ):
        for each in sections:
            yield f"{kind}:{each.name}", _digests(_fields(each))
    for experiment in config.experiments:
        yield f"experiment:{experiment.name}", _digests(_of_experiment(experiment))


def _of_network(network: TestnetConfig) -> dict[str, Any]:
    """The link of all relays has no option of its own: those of ``Link`` have their names."""
    found = _fields(network)
    found["links-file"] = found.pop("links-by-relay")
    # auto is what it is without the option, as soon as a link has a value.
    found["links"] = None if network.links == "auto" else network.links
    return found | attrs.asdict(found.pop("link"))


def _of_experiment(experiment: ExperimentConfig) -> dict[str, Any]:
    found = _fields(experiment)
    found.pop("options")
    given = experiment.options
    own = [option for option in kind_of(experiment.type).options if option.attribute in given]
    return found | {option.name: given[option.attribute] for option in own}


def _fields(section: attrs.AttrsInstance) -> dict[str, Any]:
    """The options by the names that people know."""
    names = (field.name for field in attrs.fields(type(section)) if field.name not in _NOT_MEASURED)
    return {name.removeprefix("is_").replace("_", "-"): getattr(section, name) for name in names}


def _digests(options: Mapping[str, Any]) -> dict[str, str]:
    """Eight hexadecimal digits of each: passwords and bridges are nobody's business, but that they changed is."""
    return {
        name: sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:8]
        for name, value in options.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, Mapping):
        return dict(value)
    return attrs.asdict(value) if attrs.has(type(value)) else str(value)


def _differing(section: str, digests: Mapping[str, str]) -> Callable[[str], str]:
    """Names the options that are others than they were; those that an older Perfd did not have are not."""

    def words(was: str) -> str:
        before = json.loads(was)
        names = [name for name, digest in digests.items() if name in before and before[name] != digest]
        return f"[{section}] changed: {', '.join(names)}" if names else ""

    return words
