"""What all types of experiment share: the turn on the tor, and the one door for records.

A type is a class of ``Run``. Its ``exchange`` has the tor for itself; its ``finish`` records when tor has told the
rest, while the next run may begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, DeferredLock, FirstError, ensureDeferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from perfd.clock import Clock
from perfd.experiments import curves
from perfd.experiments.target import Target
from perfd.experiments.ways import WayIn
from perfd.interfaces import HoldUps, ServerStamps, WayToServer
from perfd.record import EMPTY, Error, Measurement, Outcome, new_id

Extra = Mapping[str, str | int | float]

Record = Callable[[Measurement], None]
"""Takes each measurement that a run makes, as soon as it is complete."""

PAIR = "PAIR"
"""The key by which the two records of a pair know each other."""

STAMPS = "STAMPS"
"""The key that says by whom arrivals were stamped: ``kernel``, when they came, or ``user``, when they were read."""


@attrs.frozen(kw_only=True)
class Setup:
    """One experiment over one tor and one way to the server."""

    name: str
    type: str
    source: str
    network: str
    links: Callable[[], str | None] = lambda: None  # what the private network's links are like now
    source_address: str | None  # this machine's public IP address, if that is known
    server: WayToServer
    target: Target | None = None  # what is measured elsewhere; ``server`` is where that is
    size: int
    timeout: float
    fresh_circuits: bool = True
    skip_until_cbt: bool = False
    fresh_descriptor: bool = False
    tor: WayIn
    stamps: ServerStamps
    clock: Clock
    reactor: IReactorTime
    hold_ups: HoldUps
    record_curve: curves.Record = curves.ignore  # takes the curves of all that is measured

    def begun(self, measurement: str, slot: float | None) -> Measurement:
        """The record of a run that begins now, with all that is known by then; the rest says that it was stopped.

        The tor's version is that of now: it may be another one when the run is over.
        """
        return Measurement(
            id=measurement,
            slot=slot,
            start=self.clock.wall() if slot is None else slot,
            source=self.source,
            experiment=self.name,
            type=self.type,
            network=self.network,
            links=self.links(),
            tor=self.tor.name,
            torversion=self.tor.version,
            transport=self.tor.transport,
            server=self.server.name,
            filesize=self.size,
            outcome=Outcome.CANCELLED,
            errorcode=Error.STOPPED,
            reason="Perfd was stopped",
        )

    def user(self, measurement: str) -> str:
        """The name under which a run's streams are isolated from others.

        A name of its own gives a run a circuit that nothing else has used.
        """
        return measurement if self.fresh_circuits else self.name

    def held_up_since(self, moment: float) -> Extra:
        """The key HELDUP of what began at ``moment`` and ends now; none if nothing held the reactor up."""
        seconds = self.hold_ups.between(moment, self.clock.monotonic())
        return {"HELDUP": seconds} if seconds else EMPTY

    @property
    def refusal(self) -> tuple[str, str] | None:
        """Why nothing can be run now: error code and reason."""
        not_ready = self.tor.not_ready or self.server.not_ready
        if not_ready is not None:
            return Error.NOTREADY, not_ready
        events = self.tor.events
        if self.skip_until_cbt and events is not None and not events.cbt_set:
            return Error.NOCBT, f"tor {self.tor.name} has not learnt its circuit build timeout yet"
        return None


class Run:
    """One run. ``record`` is called with each of its measurements; ``extra`` are the keys of their experiment's
    type.
    """

    def __init__(self, setup: Setup, slot: float | None, record: Record, extra: Extra = EMPTY) -> None:
        self.setup = setup
        self.slot = slot
        self.record = record
        self.id = new_id()
        self.extra: dict[str, str | int | float] = dict(extra)
        self.user = setup.user(str(self.extra.get(PAIR, self.id)))  # both runs of a pair use the same circuits

    async def exchange(self) -> bool:
        """Measure; the tor is ours alone meanwhile. Cancelling it ends the measuring, not the run: gives False
        then.
        """
        raise NotImplementedError

    async def finish(self) -> None:
        """Record what was measured, once tor has told the rest."""
        raise NotImplementedError


@attrs.frozen
class Alternative:
    """One way of running an experiment: ``make_run`` makes the run of a slot.

    ``known`` are the keys that every record has, also that of a slot without a run.
    """

    make_run: Callable[[Setup, float | None, Record, Extra], Run]
    known: Extra = EMPTY


STOPPED = (Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped before it ran")


@attrs.frozen
class TorExperiment:
    """An experiment: in each slot a run of each of its ``alternatives``, all over the same tor, in one turn on
    it.

    START is taken once it is our turn, so measurements on the same tor do not disturb each other. ``first`` is
    the turn on something else that a run needs for itself; waiting for that holds up nobody on the tor.

    Of several alternatives another one goes first each time. Nothing comes between them, and they use the same
    circuits, so that they differ in nothing else. Their records have the same PAIR.
    """

    setup: Setup
    alternatives: Sequence[Alternative]
    first: DeferredLock | None = None
    _rounds: count[int] = attrs.field(factory=count, init=False)

    @property
    def name(self) -> str:
        return self.setup.name

    @property
    def not_ready(self) -> str | None:
        """Why no run can succeed now; None when one can."""
        return self.setup.tor.not_ready or self.setup.server.not_ready

    async def run(self, slot: float | None, record: Record) -> None:
        """Run once, in our turn; ``record`` gets each measurement, whatever happened.

        First all measure, then all finish. When this is cancelled nothing begins any more, and what did not
        begin is recorded as stopped.
        """
        extra = {**self.setup.tor.keys, **self._pair()}
        begins = next(self._rounds) % len(self.alternatives)
        waiting = [*self.alternatives[begins:], *self.alternatives[:begins]]
        setup, runs, why_not = self.setup, [], STOPPED
        turns = [turn for turn in (self.first, setup.tor.turn) if turn is not None]
        ours: list[DeferredLock] = []
        try:
            for turn in turns:
                await turn.acquire()
                ours.append(turn)
            while waiting:
                refusal = setup.refusal
                if refusal is not None:
                    why_not = (Outcome.SKIPPED, *refusal)
                    break
                alternative = waiting[0]
                run = alternative.make_run(setup, slot, record, {**alternative.known, **extra})
                if setup.fresh_descriptor and setup.tor.events is not None:
                    run.extra["FRESHDESCRIPTOR"] = int(await setup.tor.events.forget_descriptors())
                runs.append(run)
                del waiting[0]
                with setup.hold_ups.watched():
                    began = setup.clock.monotonic()
                    went_on = await run.exchange()
                    run.extra |= setup.held_up_since(began)
                if not went_on:
                    break
        except CancelledError:
            pass
        finally:
            for turn in ours:
                turn.release()
        try:
            await together(run.finish() for run in runs)
        finally:
            for alternative in waiting:
                record(self._blank(alternative, slot, *why_not, extra))

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Sequence[Measurement]:
        """The records of a slot without runs: one of each alternative."""
        extra = {**self.setup.tor.keys, **self._pair()}
        return [self._blank(each, slot, outcome, errorcode, reason, extra) for each in self.alternatives]

    def _blank(
        self,
        alternative: Alternative,
        slot: float | None,
        outcome: Outcome,
        errorcode: str,
        reason: str,
        extra: Extra,
    ) -> Measurement:
        return attrs.evolve(
            self.setup.begun(new_id(), slot),
            outcome=outcome,
            errorcode=errorcode,
            reason=reason,
            extra={**alternative.known, **extra},
        )

    def _pair(self) -> Extra:
        return {PAIR: new_id()} if len(self.alternatives) > 1 else EMPTY


async def together(coroutines: Iterable[Any]) -> list[Any]:
    """The results of all, which run at the same time. A cancellation reaches each; their results count."""
    everything = gatherResults([ensureDeferred(each) for each in coroutines], consumeErrors=True)
    try:
        found: list[Any] = await everything
    except FirstError as error:
        error.subFailure.raiseException()
        raise
    return found
