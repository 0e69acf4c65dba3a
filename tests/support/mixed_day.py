"""A day of mixed experiments over five tors, with what tor told of it, as a database has it."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs

from perfd.record import Attach, Circuit, Event, Hop, Measurement, Outcome, Stream
from tests.support.strategies import typical

DAY = 1_700_006_400.0  # 2023-11-15
TORS = ("alpha", "beta", "gamma", "delta", "epsilon")
RELAYS = tuple(f"${n:040X}" for n in range(1, 30))
ONION = "a" * 56 + ".onion"
ERRORS = {
    "TOR/END/MISC": ("END", "MISC"),
    "TOR/TIMEOUT": ("TIMEOUT", None),
    "TOR/END/RESOLVEFAILED": ("END", "RESOLVEFAILED"),
    "PERFD/RESET": (None, None),
    "PERFD/CLOSED": (None, None),
    "PERFD/STATUS": (None, None),
    "PERFD/INTERNAL": (None, None),
    "PERFD/STALL": (None, None),
    "PERFD/TIMEOUT": (None, None),
}
SEVENTHS = 0.000_143  # so that times have all their decimals


@attrs.define
class MixedDay:
    """The records of the day, others for each seed. All tors number alike, and one of them is restarted."""

    random: Random
    measurements: list[Measurement] = attrs.field(factory=list)
    circuits: list[Circuit] = attrs.field(factory=list)
    streams: list[Stream] = attrs.field(factory=list)
    number: int = 0

    @classmethod
    def of(cls, seed: int) -> MixedDay:
        day = cls(Random(seed))
        # Every ten minutes, and half an hour around the day; 2.5 s early, so that runs go on beyond midnight.
        for slot in range(-3, 147):
            for place, tor in enumerate(TORS):
                day.slot(DAY - 2.5 + 600.0 * slot + 0.25 * place, tor, slot)
        return day

    @property
    def published(self) -> list[Measurement]:
        """What is a plain download through Tor that was run on the day, in order of starting."""
        runs = [m for m in self.measurements if m.extra.get("KIND") == "plain" and DAY <= m.start < DAY + 86400.0]
        return sorted(runs, key=lambda run: run.start)

    def slot(self, at: float, tor: str, slot: int) -> None:
        kind = self.random.choices(
            ("plain", "skipped", "cancelled", "upload", "parallel", "optimistic", "baseline", "imported"),
            (60, 6, 3, 6, 4, 4, 4, 3),
        )[0]
        self.number += 1
        # Ports go round as the client chooses them: none comes back within 300 s.
        port = 20_000 + self.number % 9_000
        start = round(at + self.random.randrange(10**6) / 1e6, 6)
        changes: dict[str, Any] = {
            "plain": {},
            "skipped": {"outcome": Outcome.SKIPPED, "errorcode": "PERFD/DOWN", "datacomplete": None},
            "cancelled": {"outcome": Outcome.CANCELLED, "errorcode": "PERFD/STOPPED", "datacomplete": None},
            "upload": {"type": "upload"},
            "parallel": {},
            "optimistic": {},
            "baseline": {"tor": "none"},
            "imported": {"network": None, "tor": None, "source": "example"},
        }[kind]
        extra = {
            "KIND": kind,
            **{
                "skipped": {"COUNT": 3, "FROM": at, "UNTIL": at + 600.0},
                "parallel": {"PARALLEL": 3},
                "optimistic": {"OPTIMISTIC": 1},
            }.get(kind, {}),
        }
        run = self.run(start, port, {"tor": tor, **changes}, extra)
        if kind in ("skipped", "baseline", "imported"):
            self.measurements.append(run)
            return
        # A tor that is restarted at noon begins to count anew.
        session = f"{tor}-{int(tor == 'beta' and at > DAY + 43200)}"
        self.measurements.append(self.told(run, session, slot))

    def run(self, start: float, port: int, changes: dict[str, Any], extra: dict[str, Any]) -> Measurement:
        """A run that ended in one of the ways there are, after steps of random lengths."""
        size = self.random.choice((51200, 1048576, 5242880))
        steps = ["socket", "connect", "negotiate", "request", "response", "datarequest", "dataresponse"]
        times: dict[str, Any] = {}
        at = start
        for step in steps:
            at = round(at + self.random.expovariate(8.0) + SEVENTHS, 6)
            times[step] = at
        shares = {n: round(at + (n + 1) * self.random.uniform(0.01, 0.02), 6) for n in range(0, 101, 10)}
        times |= {
            "dataperc": shares,
            "partial": {n: shares[100] for n in (10240, 51200, 1048576, 5242880) if n <= size},
            "datacomplete": shares[100],
            "end": round(shares[100] + 0.000_5, 6),
            "serverrequest": None,
            "readbytes": size + 192,
            "payloadbytes": size,
        }
        onion = self.random.random() < 0.4
        remote = f"{ONION}:0.0.0.0:8080" if onion else "192.0.2.1:192.0.2.1:8080"
        ending: dict[str, Any] = {"outcome": Outcome.OK, "errorcode": None, "reason": None}
        if "outcome" not in changes and self.random.random() < 0.3:
            ending = self.failure(times, steps, size)
        return typical(
            self.number,
            **{
                "start": start,
                "filesize": size,
                "server": "onion" if onion else "public",
                "endpointlocal": f"localhost:127.0.0.1:{port}",
                "endpointremote": remote,
                **times,
                **ending,
                **changes,
                "extra": extra,
            },
        )

    def failure(self, times: dict[str, Any], steps: list[str], size: int) -> dict[str, Any]:
        """One of the errors; what comes behind it was not reached."""
        code = self.random.choice(sorted(ERRORS))
        reached = 4 if code.startswith("TOR/") else self.random.randrange(5, 8)
        last = times[steps[reached - 1]]
        times |= dict.fromkeys(steps[reached:])
        got = {n: at for n, at in times["dataperc"].items() if n <= 40} if reached == 7 else {}
        times |= {"dataperc": got, "partial": {}, "datacomplete": None}
        times["end"] = round(max([last, *got.values()]) + self.random.uniform(0.1, 90.0), 6)
        times |= {"readbytes": size // 3 if got else 0, "payloadbytes": size * 4 // 10 if got else 0}
        outcome = Outcome.TIMEOUT if code in ("PERFD/STALL", "PERFD/TIMEOUT") else Outcome.FAILED
        return {"outcome": outcome, "errorcode": code, "reason": "as it was"}

    def told(self, run: Measurement, session: str, slot: int) -> Measurement:
        """The run with what tor told of it, and tor's stream and circuit, unless they were deleted since."""
        circuit = self.circuit(run, session, slot)
        end = round((run.end or run.start) + SEVENTHS, 6)
        local, remote = ERRORS.get(run.errorcode or "", (None, None))
        stream = Stream(
            id=f"{session}-s{slot}",
            source=run.source,
            tor=run.tor or "",
            stream_id=1000 + slot,
            new=round((run.request or run.start) + SEVENTHS, 6),
            end=end,
            status="FAILED" if local else "CLOSED",
            purpose="USER",
            target=f"{ONION}:8080" if run.server == "onion" else "192.0.2.1:8080",
            source_addr=(run.endpointlocal or "").partition(":")[2],
            measurement=run.id,
            circuit=circuit.id,
            attaches=(Attach(circuit.circ_id, round((run.request or run.start) + 2 * SEVENTHS, 6)),),
            failure_local=local,
            failure_remote=remote,
        )
        fate = self.random.random()
        if fate < 0.8:  # else keep-events has deleted it
            self.streams.append(stream)
        if fate < 0.7:
            self.circuits.append(circuit)
        launch = circuit.launch or 0.0
        return attrs.evolve(
            run,
            used_by=stream.stream_id,
            used_at=end,
            circ_id=circuit.circ_id,
            launch=launch,
            path=tuple(hop.fingerprint for hop in circuit.path),
            buildtimes=tuple(round((hop.built or 0.0) - launch, 6) for hop in circuit.path),
            guard=circuit.path[0].fingerprint,
            timeout=circuit.timeout,
            quantile=circuit.quantile,
            cbt_set=circuit.cbt_set,
            conflux=circuit.conflux_id is not None,
            conflux_id=circuit.conflux_id,
            conflux_circ_ids=None
            if circuit.conflux_id is None
            else (str(circuit.circ_id), str(circuit.circ_id + 500)),
        )

    def circuit(self, run: Measurement, session: str, slot: int) -> Circuit:
        """The circuit of the run; another leg of its Conflux set, or one that tor gave up, may be beside it."""
        launch = round(run.start - self.random.uniform(0.0, 400.0), 6)
        path, at = [], launch
        for relay in self.random.sample(RELAYS, 3):
            at = round(at + self.random.uniform(0.02, 0.4), 6)
            path.append(Hop(relay, f"relay{int(relay[1:], 16)}", at))
        is_leg = run.server == "public" and self.random.random() < 0.5
        circuit = Circuit(
            id=f"{session}-c{slot}",
            source=run.source,
            tor=run.tor or "",
            circ_id=100 + slot,
            launch=launch,
            built=at,
            end=round((run.end or run.start) + 600.0, 6),
            status="CLOSED",
            purpose="CONFLUX_LINKED" if is_leg else "GENERAL",
            path=tuple(path),
            timeout=self.random.choice((1500, 60_000, None)),
            quantile=0.8,
            cbt_set=self.random.choice((True, False, None)),
            conflux_id=f"{session}{slot}" if is_leg else None,
            events=(
                Event(launch, "GENERAL:LAUNCHED"),
                *(Event(hop.built or 0.0, "GENERAL:EXTENDED") for hop in path),
                Event(at, "GENERAL:BUILT"),
                Event(round((run.end or run.start) + 600.0, 6), "GENERAL:CLOSED"),
            ),
        )
        if circuit.timeout is None:
            circuit = attrs.evolve(circuit, quantile=None)
        if is_leg:
            self.circuits.append(attrs.evolve(circuit, id=f"{circuit.id}-leg", circ_id=circuit.circ_id + 500))
        if self.random.random() < 0.2:
            given_up = round(launch + 1.5, 6)
            self.circuits.append(
                attrs.evolve(
                    circuit,
                    id=f"{circuit.id}-given-up",
                    circ_id=circuit.circ_id + 1000,
                    purpose="MEASURE_TIMEOUT",
                    built=round(launch + 55.0, 6),
                    failure_local="TIMEOUT",
                    path=(attrs.evolve(path[0], built=launch + 1.0),),
                    events=(
                        Event(launch, "GENERAL:LAUNCHED"),
                        Event(given_up, "GENERAL:FAILED"),
                        Event(round(launch + 55.0, 6), "MEASURE_TIMEOUT:BUILT"),
                    ),
                )
            )
        return circuit
