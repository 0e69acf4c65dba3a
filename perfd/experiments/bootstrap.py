"""``type = bootstrap``: how long a tor takes from its launch until it can be used, and until a first byte has come.

Each run launches a tor of its own, and ends it. START is the launch, and the steps after it are those of a download
from our own server.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from perfd.clock import Anchor, Clock, Phase, Timeline
from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.transfer import Transfer
from perfd.experiments.ways import MeasuredTor
from perfd.formats.bootstrap_keys import key_of
from perfd.record import EMPTY, Error, Outcome
from perfd.tor.bootstrap.fresh import FreshTor
from perfd.tor.bootstrap.launcher import Life
from perfd.tor.events.listener import LAST_EVENTS_WAIT

FIRST_BYTE = "first_byte"
"""The name under which a tor is asked for the bytes that it had moved as the first byte came."""

DONE, LATE = "done", "late"


class BootstrapRun(Run):
    """One launch, in an empty data directory or in a copy of ``data_directory``."""

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        data_directory: Path | None,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self._data = data_directory
        self.extra["DATADIRECTORY"] = "empty" if data_directory is None else "copied"
        self._anchor = setup.clock.anchor()
        self._found = attrs.evolve(setup.begun(self.id, slot), start=self._anchor.wall)

    async def exchange(self) -> bool:
        assert isinstance(self.setup.tor, MeasuredTor)
        launcher = self.setup.tor.launcher
        assert launcher is not None
        try:
            life = await launcher.launch(self._data)
        except OSError as error:
            self._end(Outcome.FAILED, Error.BOOTSTRAP, f"tor {launcher.name} cannot be launched: {error}")
            return True
        except CancelledError:
            self._end(Outcome.CANCELLED, Error.STOPPED, "stopped")
            return False
        try:
            await self._measure(life)
        except CancelledError:
            self._end(Outcome.CANCELLED, Error.STOPPED, "stopped")
        self._take(life.tor)
        await launcher.end(life)
        return self._found.outcome is not Outcome.CANCELLED

    async def finish(self) -> None:
        self.record(attrs.evolve(self._found, extra={**self.extra, **self._found.extra}))

    async def _measure(self, life: Life) -> None:
        """All until the download is over, or what comes before it failed."""
        setup, tor = self.setup, life.tor
        deadline = self._anchor.monotonic + setup.timeout
        how = await self._bootstrapped(tor, deadline)
        if how == LATE:
            self._end(Outcome.TIMEOUT, Error.TIMEOUT, f"not bootstrapped before the deadline: {_reached(tor)}")
        elif how != DONE:
            self._end(Outcome.FAILED, Error.BOOTSTRAP, f"{how}; it came to {_reached(tor)}")
        else:
            way = MeasuredTor(tor, events=life.events, transport=setup.tor.transport)
            transfer = Transfer(attrs.evolve(setup, tor=way), self.id, self.user)
            transfer.timeline = _Noticed(setup.clock, self._anchor, partial(tor.ask, FIRST_BYTE))
            exchange = await transfer.fetch(setup.size, deadline - setup.clock.monotonic())
            self._found = await transfer.result(self.slot)
            if exchange.outcome is not Outcome.CANCELLED:
                counted = Deferred.fromCoroutine(tor.when_counted())
                with suppress(DeferredTimeoutError, CancelledError):
                    await counted.addTimeout(LAST_EVENTS_WAIT, setup.reactor)

    async def _bootstrapped(self, tor: FreshTor, deadline: float) -> str:
        """Return when tor is done, or the deadline has passed, or tor has ended: then how, in words."""
        over: Deferred[str] = Deferred()

        def end(how: str) -> None:
            if not over.called:
                over.callback(how)

        timer = self.setup.reactor.callLater(max(0.0, deadline - self.setup.clock.monotonic()), end, LATE)
        ready = Deferred.fromCoroutine(tor.when_ready())
        ready.addCallbacks(lambda _: end(DONE), lambda failure: end(failure.getErrorMessage()))
        tor.ended.addCallback(lambda how: end(f"tor {tor.name} {how}"))
        try:
            return await over
        finally:
            if timer.active():
                timer.cancel()
            ready.cancel()

    def _end(self, outcome: Outcome, errorcode: str, reason: str) -> None:
        self._found = attrs.evolve(
            self._found,
            outcome=outcome,
            errorcode=errorcode,
            reason=reason,
            end=self._anchor.epoch(self.setup.clock.monotonic()),
        )

    def _take(self, tor: FreshTor) -> None:
        """Put what the bootstrap was like into the record. The phases are by the clock of its launch."""
        phases = tor.phases
        launched = self._anchor.monotonic if phases.launched is None else phases.launched
        self.extra |= bootstrap_keys(tor, self._anchor)
        self._found = attrs.evolve(
            self._found, start=self._anchor.epoch(launched), torversion=self._found.torversion or tor.last_version
        )


class _Noticed(Timeline):
    """A timeline that calls ``came`` when the first byte has come."""

    def __init__(self, clock: Clock, anchor: Anchor, came: Callable[[], None]) -> None:
        super().__init__(clock)
        self.anchor = anchor  # that of the launch, so that no step of the wall clock is in between
        self._came = came

    def mark(self, phase: Phase, stamp: float | None = None) -> None:
        is_first = phase is Phase.DATARESPONSE and phase not in self.stamps
        super().mark(phase, stamp)
        if is_first:
            self._came()


def _reached(tor: FreshTor) -> str:
    """How far it came, in words."""
    last = tor.phases.last
    return "no phase" if last is None else last.sentence


def bootstrap_keys(tor: FreshTor, anchor: Anchor) -> dict[str, Any]:
    """What a record says of a bootstrap; what was not reached has no key."""
    phases, keys = tor.phases, dict[str, Any]()
    if phases.control is not None:
        keys["TORCONTROL"] = anchor.epoch(phases.control)
    if phases.network is not None:
        keys["TORNETWORK"] = anchor.epoch(phases.network)
    for tag, stamp in phases.reached.items():
        keys[f"BOOTSTRAP{key_of(tag)}"] = anchor.epoch(stamp)
    for tag, (read, written) in phases.moved.items():
        keys[f"TORREAD{key_of(tag)}"] = read
        keys[f"TORWRITTEN{key_of(tag)}"] = written
    if phases.network is not None:
        keys["DIRREAD"], keys["DIRWRITTEN"] = phases.directory.read, phases.directory.written
    if phases.last is not None:
        keys["BOOTSTRAPPROGRESS"] = phases.last.percent
    return keys
