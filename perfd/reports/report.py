"""A report of a period: its tables and charts, as terminals, JSON and pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import attrs

from perfd.charts.axes import moment, number
from perfd.charts.document import Numbers, Section, document
from perfd.charts.model import Chart, Mark, Table
from perfd.reports.boxes import boxes_of
from perfd.reports.figures import of_experiment, of_relays, runs_of_experiment
from perfd.reports.groups import MEASURES, Group, Measure, grouped, percentiles
from perfd.reports.relays import RelayFinding, Relays, relays
from perfd.reports.runs import Run

CERTAIN = 0.05
"""Of relays whose q is smaller, no more than this share is expected to be there by chance."""

SUMMARY = ("experiment", "all", "ok", "failed")
RELAYS = ("relay", "place", "runs", "share", "95 % interval", "expected", "q", "weight", "fingerprint")


@attrs.frozen
class Report:
    """What is known of a period. ``notes`` say what was left out, and what else a reader must know."""

    groups: tuple[Group, ...]
    relays: Relays
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]

    @property
    def lead(self) -> str:
        """One sentence: how much there is, and of when."""
        runs = [run for group in self.groups for run in group.runs]
        failed = sum(run.has_failed for run in runs)
        done = failed + sum(run.is_ok for run in runs)
        if not runs:
            return "There are no such measurements."
        span = f"from {moment(min(r.start for r in runs))} to {moment(max(r.start for r in runs))} UTC"
        if not done:
            return f"Nothing was run {span}."
        words = "1 run" if done == 1 else f"{done:,} runs"
        return f"{words} {span}, of which {failed:,} failed ({number(100 * failed / done)} %)."

    def charts(self) -> list[tuple[str, list[Chart]]]:
        """The charts of each experiment, and at last of relays."""
        experiments = [
            (name, list(groups)) for name, groups in groupby(self.groups, lambda group: group.experiment)
        ]
        found = [
            (name, [*of_experiment(groups, self.marks), *runs_of_experiment(groups, self.marks), *boxes_of(groups)])
            for name, groups in experiments
        ]
        by_relay = list(of_relays(self.relays))
        return [(name, charts) for name, charts in (*found, ("relays", by_relay)) if charts]

    def as_dict(self) -> dict[str, Any]:
        return {
            "lead": self.lead,
            "notes": list(self.notes),
            "marks": [{"at": mark.at, "text": mark.text} for mark in self.marks],
            "groups": [group.as_dict() for group in self.groups],
            "relays": {
                "slow": [_finding(each) for each in self.relays.slow],
                "failing": [_finding(each) for each in self.relays.failing],
            },
        }


def report(runs: Iterable[Run], marks: Sequence[Mark], notes: Sequence[str]) -> Report:
    """What ``runs`` say."""
    groups = grouped(runs)
    return Report(tuple(groups), relays(groups), tuple(marks), tuple(notes))


def summary(found: Report) -> Table:
    """A row for each group: counts, and median and quartiles of each measure."""
    headings = [*SUMMARY, *(f"{m.label} ({m.unit})" for m in MEASURES), "what happened to the others"]
    rows = []
    for group in found.groups:
        failed = group.outcomes["failed"] + group.outcomes["timeout"]
        others = ", ".join(f"{count:,} {code}" for code, count in group.errors.most_common())
        cells = [_quartiles(group, measure) for measure in MEASURES]
        rows.append(
            (group.name, f"{group.outcomes.total():,}", f"{group.outcomes['ok']:,}", f"{failed:,}", *cells, others)
        )
    return Table(tuple(headings), tuple(rows))


def relay_table(findings: Sequence[RelayFinding]) -> Table:
    """Those that are unlikely to be there by chance."""
    rows = []
    for each in findings:
        found = each.found
        if found.q < CERTAIN:
            interval = f"{number(100 * found.low)} to {number(100 * found.high)} %"
            share = f"{number(100 * found.share)} %"
            expected = f"{number(100 * found.expected / found.count)} %"
            shares = (f"{found.count:,}", share, interval, expected, f"{found.q:.2g}")
            rows.append((each.name, each.place, *shares, each.weight, each.fingerprint))
    return Table(RELAYS, tuple(rows))


def relay_titles(found: Report) -> list[tuple[str, Table]]:
    """Both tables of relays with their titles, without empty ones."""
    tables = [
        ("Relays with more slow runs than others", relay_table(found.relays.slow)),
        ("Relays with more failures than others", relay_table(found.relays.failing)),
    ]
    return [(title, table) for title, table in tables if table.rows]


def page(found: Report, title: str, charts: Sequence[tuple[str, list[Chart]]]) -> str:
    """The report as one file of HTML."""
    tables = [Numbers("Median and quartiles of the successes", summary(found))]
    tables += [Numbers(title, table) for title, table in relay_titles(found)]
    sections = [Section("Summary", tuple(tables)), *(Section(name, tuple(each)) for name, each in charts)]
    return document(title, found.lead, found.notes, sections)


def _quartiles(group: Group, measure: Measure) -> str:
    found = percentiles(group.values(measure))
    return "" if found is None else f"{number(found['p50'])} ({number(found['p25'])} to {number(found['p75'])})"


def _finding(each: RelayFinding) -> dict[str, Any]:
    about = {name: getattr(each, name) or None for name in ("place", "fingerprint", "nickname", "weight")}
    numbers = {
        name: getattr(each.found, name) for name in ("hits", "count", "expected", "share", "low", "high", "p", "q")
    }
    return about | numbers
