"""``python -m tests.campaign.run``: run a campaign, print its table by fault, and write its results to a file."""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.campaign import table
from tests.campaign.faults import UnavailableError, inject
from tests.campaign.instances import Subject, Testnet
from tests.campaign.invariants import Kept, Tolerance, growth_violations, violations, web_violations
from tests.campaign.plan import ALL, KINDS, Plan, PlannedFault, plans
from tests.campaign.table import Injected, Results
from tests.support.instance import is_alive, wait_for

FIRST_SUCCESS = 120.0
"""Seconds in which a new instance must measure."""


SETTLING = 10.0
"""Seconds after a recovery in which the last traces of a fault must be gone."""


def run_instance(plan: Plan, directory: Path, testnet: Testnet | None) -> Results:
    """Start the instance, have its faults happen, stop it, and look at what is left."""
    found: list[str] = []
    injected: list[Injected] = []
    lost = 0
    subject = Subject(directory, plan, testnet)
    try:
        run = _Run(subject)
        run.begin()
        for fault in plan.faults:
            with suppress(UnavailableError):
                injected.append(run.meet(fault))
                if injected[-1].recovery is None:
                    break
        lost = run.finish()
        found = run.violations
    except Exception:  # noqa: BLE001 - whatever it is, it is what the campaign looks for
        found = [f"the campaign could not go on:\n{traceback.format_exc()}"]
    finally:
        subject.end()
    return Results(
        instances=1,
        injected=tuple(injected),
        lost=lost,
        violations=tuple(f"seed {plan.seed}, instance {plan.number} ({directory}): {text}" for text in found),
    )


class _Run:
    """One instance on its way through its faults."""

    def __init__(self, subject: Subject) -> None:
        self.violations: list[str] = []
        self._subject = subject
        self._committed: set[str] = set()
        self._began = 0.0
        self._pid = 0
        self._footprint = (0, 0)
        self._happened: list[str] = []
        self._lost = {"database": -math.inf, "log": -math.inf}  # when, last, by the instance's clock

    def begin(self) -> None:
        self._subject.start()
        self._began = self._subject.now()
        if self._subject.success(FIRST_SUCCESS) is None:
            raise AssertionError(f"no run has succeeded within {FIRST_SUCCESS:.0f} s")
        self._watch()

    def meet(self, fault: PlannedFault) -> Injected:
        """Have the fault happen and wait for the recovery; it is None if there is none in time."""
        kind = KINDS[fault.kind]
        time.sleep(fault.pause)
        self._committed |= self._subject.committed()
        if kind.database:
            self._committed = set()
        self._happened.append(fault.kind)
        trouble = None
        try:
            inject(self._subject, fault)
        except AssertionError as error:
            trouble = str(error)
        except UnavailableError:
            self._happened.pop()
            raise
        recovery = self._subject.success(kind.limit)
        if trouble is not None:
            self._violated(trouble)
        if recovery is None:
            self._violated(f"no run has succeeded within {kind.limit:.0f} s after it")
        else:
            self._look()
        self._lost |= {name: self._subject.now() for name in self._lost if getattr(kind, name)}
        return Injected(fault.kind, recovery)

    def finish(self) -> int:
        """Stop it, and check what it has written; how many records are lost."""
        subject = self._subject
        self._look()
        self._committed |= subject.committed()
        if subject.perfd("stop").returncode:
            self._violated("perfd stop failed")
        with suppress(AssertionError):
            wait_for(lambda: not subject.processes(), "the end of all processes", timeout=20)
        for pid in subject.processes():
            name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            self._violated(f"process {pid} is left: {name}")
        kept = Kept.of(subject.directory)
        kinds = [KINDS[name] for name in self._happened]
        tolerance = Tolerance(
            database=any(kind.database for kind in kinds),
            log=any(kind.log for kind in kinds),
            kills=sum(kind.kills for kind in kinds),
            both=min(self._lost.values()),
        )
        for text in violations(kept, subject.intervals, self._began, self._committed, tolerance):
            self._violated(text)
        return len(kept.lost()) if tolerance.kills and not (tolerance.database or tolerance.log) else 0

    def _look(self) -> None:
        """Check what can be seen while it runs."""
        subject = self._subject
        if not is_alive(subject.pid):
            self._violated(f"the daemon (pid {subject.pid}) has ended")
            return
        for text in _settled(lambda: web_violations(subject.get("/health"), subject.get("/results?limit=1"))):
            self._violated(text)
        if subject.pid != self._pid:
            self._watch()
            return
        for text in _settled(lambda: growth_violations(self._footprint, subject.footprint())):
            self._violated(text)

    def _watch(self) -> None:
        """From here on this daemon must not grow."""
        self._pid = self._subject.pid
        self._footprint = self._subject.footprint()

    def _violated(self, text: str) -> None:
        self.violations.append(f"after {', '.join(self._happened) or 'its start'}: {text}")


def _settled(look: Callable[[], Iterator[str]]) -> list[str]:
    """What is seen once it has settled: a database is opened anew, and connections are closed, within seconds."""
    until = time.monotonic() + SETTLING
    while (found := list(look())) and time.monotonic() < until:
        time.sleep(0.2)
    return found


@contextmanager
def private_network(directory: Path) -> Iterator[Testnet]:
    """A private Tor network, which all instances share."""
    command = [sys.executable, "-m", "perfd", "testnet"]
    subprocess.run([*command, "start", str(directory)], check=True, capture_output=True)
    try:
        status = subprocess.run(
            [*command, "status", str(directory), "--json"], check=True, capture_output=True, text=True
        )
        yield Testnet(directory, json.loads(status.stdout)["client_options"])
    finally:
        subprocess.run([*command, "stop", str(directory)], check=True, capture_output=True)


def campaign(chosen: Sequence[Plan], directory: Path, jobs: int) -> Results:
    """Run all instances, ``jobs`` at a time. Directories of those that violate nothing are removed."""
    needs_tor = any(plan.network in ("testnet", "attach") for plan in chosen)
    total = Results()

    def one(plan: Plan, testnet: Testnet | None) -> Results:
        place = directory / f"{plan.seed}-{plan.number}"
        began = time.monotonic()
        results = run_instance(plan, place, testnet)
        for text in results.violations:
            say(f"VIOLATION {text}")
        if not results.violations:
            shutil.rmtree(place, ignore_errors=True)
        kinds = ", ".join(fault.kind for fault in results.injected)
        say(f"instance {plan.number} ({plan.network}, {time.monotonic() - began:.0f} s): {kinds}")
        return results

    def all_of(testnet: Testnet | None) -> Results:
        with ThreadPoolExecutor(jobs) as pool:
            try:
                return sum(pool.map(lambda plan: one(plan, testnet), chosen), total)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)  # those that run come to their end
                raise

    if not needs_tor:
        return all_of(None)
    with private_network(directory / "testnet") as testnet:
        return all_of(testnet)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> int:
    """Run as the command line says; 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.run", description=__doc__)
    parser.add_argument("--faults", type=int, default=30, metavar="N", help="how many (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="which (default 1); the same seed has the same faults")
    parser.add_argument("--instance", type=int, help="only this one")
    parser.add_argument("--networks", default=",".join(sorted(ALL)), help="only instances of these, by commas")
    parser.add_argument("--jobs", type=int, default=2, help="instances at a time (default 2)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the results to this file, as JSON")
    options = parser.parse_args(words)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = [
        each
        for each in plans(options.seed, options.faults, frozenset(options.networks.split(",")))
        if options.instance in (None, each.number)
    ]
    # Short, since the path of a control socket has 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="campaign-"))
    say(f"seed {options.seed}, {len(chosen)} instances, in {directory}")
    results = campaign(chosen, directory, options.jobs)
    if not results.violations:
        shutil.rmtree(directory, ignore_errors=True)
    if options.results is not None:
        options.results.write_text(json.dumps({"seed": options.seed, **results.as_dict()}, indent=1) + "\n")
    say(table.text(results))
    return 1 if results.violations else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    raise SystemExit(main())
