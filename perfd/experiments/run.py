"""What all types of experiment share: the turn on the tor, and the one door for records.

A type is a class of ``Run``. Its ``exchange`` has the tor for itself; its ``finish`` records when tor has told the
rest, while the next run may begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
from perfd.tor.circuits.chosen import Chosen, CircuitError, OpenCircuit

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
    chosen: Chosen | None = None  # over which relays a circuit is built for each run; None: tor's own circuits

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

    @property
    def users(self) -> Sequence[str]:
        """The names under which its streams are isolated."""
        return (self.user,)

    @property
    def streams(self) -> int | None:
        """How many streams it opens; None if that is not known."""
        return None

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

    @property
    def refusal(self) -> str | None:
        """Why a run would be skipped now; None when it would not be."""
        found = self.setup.refusal
        return None if found is None else found[1]

    async def run(self, slot: float | None, record: Record) -> None:
        """Run once, in our turn; ``record`` gets each measurement, whatever happened.

        First all measure, then all finish. When this is cancelled nothing begins any more, and what did not
        begin is recorded as stopped.
        """
        extra = {**self.setup.tor.keys, **self._pair()}
        begins = next(self._rounds) % len(self.alternatives)
        waiting = [*self.alternatives[begins:], *self.alternatives[:begins]]
        whole = _Round(self.setup, slot, record, extra, waiting)
        turns = [turn for turn in (self.first, self.setup.tor.turn) if turn is not None]
        ours: list[DeferredLock] = []
        try:
            for turn in turns:
                await turn.acquire()
                ours.append(turn)
            while (run := await whole.next()) is not None:
                with self.setup.hold_ups.watched():
                    began = self.setup.clock.monotonic()
                    went_on = await run.exchange()
                    run.extra |= self.setup.held_up_since(began)
                if not went_on:
                    break
        except CancelledError:
            pass
        finally:
            whole.over()
            for turn in ours:
                turn.release()
        await whole.finish()

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Sequence[Measurement]:
        """The records of a slot without runs: one of each alternative."""
        extra = {**self.setup.tor.keys, **self._pair()}
        how = outcome, errorcode, reason
        return [_blank(self.setup, slot, how, {**each.known, **extra}) for each in self.alternatives]

    def _pair(self) -> Extra:
        return {PAIR: new_id()} if len(self.alternatives) > 1 else EMPTY


class _Round:
    """The runs of one slot: ``waiting`` are the alternatives that have not begun, in their order."""

    def __init__(
        self, setup: Setup, slot: float | None, record: Record, extra: Extra, waiting: list[Alternative]
    ) -> None:
        self._setup = setup
        self._slot = slot
        self._record = record
        self._extra = dict(extra)
        self._waiting = waiting
        self._why_not = STOPPED
        self._runs: list[Run] = []
        self._circuit: OpenCircuit | None = None

    async def next(self) -> Run | None:
        """The run that is to measure now, whose streams go where they are wanted; None: there is none.

        What stands against it is in the records of those that have not begun.
        """
        self.over()
        setup = self._setup
        if not self._waiting:
            return None
        refusal = setup.refusal
        if refusal is not None:
            self._why_not = (Outcome.SKIPPED, *refusal)
            return None
        try:
            await self._have_circuit()
            run = self._make()
            if setup.fresh_descriptor and setup.tor.events is not None:
                run.extra["FRESHDESCRIPTOR"] = int(await setup.tor.events.forget_descriptors())
            if self._circuit is not None:
                for user in run.users:
                    await self._circuit.claim(user, run.streams)
        except CircuitError as error:
            self._why_not = (Outcome.FAILED, error.errorcode, str(error))
            self._extra |= error.keys
            return None
        self._runs.append(run)
        del self._waiting[0]
        return run

    def over(self) -> None:
        """No run has streams to open now."""
        if self._circuit is not None:
            self._circuit.release()

    async def finish(self) -> None:
        """Record what was measured, once tor has told the rest, and what was not."""
        try:
            await together(run.finish() for run in self._runs)
        finally:
            if self._circuit is not None:
                self._circuit.close()
            for alternative in self._waiting:
                extra = {**alternative.known, **self._extra}
                self._record(_blank(self._setup, self._slot, self._why_not, extra))

    async def _have_circuit(self) -> None:
        chosen = self._setup.chosen
        if chosen is not None and self._circuit is None:
            self._circuit = await chosen.build(self._setup.server.port, self._setup.timeout)
            self._extra |= self._circuit.keys

    def _make(self) -> Run:
        circuit, alternative = self._circuit, self._waiting[0]
        record = self._record if circuit is None else partial(_checked, circuit.circ_id, self._record)
        return alternative.make_run(self._setup, self._slot, record, {**alternative.known, **self._extra})


def _blank(setup: Setup, slot: float | None, how: tuple[Outcome, str, str], extra: Extra) -> Measurement:
    """The record of a slot without a run."""
    outcome, errorcode, reason = how
    return attrs.evolve(
        setup.begun(new_id(), slot), outcome=outcome, errorcode=errorcode, reason=reason, extra=extra
    )


def _checked(circ_id: int, record: Record, measurement: Measurement) -> None:
    """Record what went over the circuit that was built for it; what did not has failed, whatever it was."""
    if measurement.circ_id not in (None, circ_id) and measurement.outcome is Outcome.OK:
        reason = f"tor put the stream on circuit {measurement.circ_id}, not on {circ_id} over the chosen relays"
        measurement = attrs.evolve(
            measurement, outcome=Outcome.FAILED, datacomplete=None, errorcode=Error.CIRCUIT, reason=reason
        )
    record(measurement)


async def together(coroutines: Iterable[Any]) -> list[Any]:
    """The results of all, which run at the same time. A cancellation reaches each; their results count."""
    everything = gatherResults([ensureDeferred(each) for each in coroutines], consumeErrors=True)
    try:
        found: list[Any] = await everything
    except FirstError as error:
        error.subFailure.raiseException()
        raise
    return found
