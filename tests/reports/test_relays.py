"""Relays that are slow, or fail, more often than the others do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from perfd.charts.model import Bars
from perfd.reports.figures import of_relays
from perfd.reports.groups import grouped
from perfd.reports.relays import relays
from perfd.reports.runs import Run
from perfd.variant import Variant

KINDS = {"onion": 0.3, "public": 0.02}
"""How often runs to each server fail."""


def run(n: int, server: str, guard: str, *, has_failed: bool, took: float = 1.0) -> Run:
    return Run(
        start=float(n),
        id=f"run{n}",
        source="example",
        experiment="download",
        type="download",
        filesize=2**20,
        outcome="failed" if has_failed else "ok",
        errorcode="TOR" if has_failed else None,
        slots=1,
        guard=guard,
        variant=Variant("default", server),
        first_payload=None,
        throughput=None,
        path=(guard,),
        nicknames="",
        weights="",
        hops=(),
        rtt_idle=None,
        rtt_load=None,
        times={} if has_failed else {"datacomplete": took},
    )


def runs(is_bad: Callable[[str], bool], share: float = 0.0) -> Iterator[Run]:
    """Each server has guards of its own; bad ones fail in ``share`` of their runs besides."""
    chance = Random(5)
    for n in range(4000):
        server = ("onion", "public")[n % 2]
        guard = f"${server}{n // 2 % 20}"
        rate = KINDS[server] + share * is_bad(guard)
        took = chance.lognormvariate(2 if server == "onion" else 0, 0.5)
        yield run(n, server, guard, has_failed=chance.random() < rate, took=took)


def test_variants_that_differ_accuse_nobody() -> None:
    found = relays(grouped(runs(lambda _: False)))
    assert len(found.failing) == len(found.slow) == 40
    assert min(each.found.q for each in (*found.failing, *found.slow)) > 0.05


def test_a_bad_relay_of_one_variant_is_found() -> None:
    """Though it fails less often than what the other variant uses."""
    bad, *others = relays(grouped(runs(lambda guard: guard == "$public7", share=0.15))).failing
    assert (bad.fingerprint, bad.found.q < 1e-4) == ("$public7", True)
    assert bad.found.share < 0.3
    assert min(each.found.q for each in others) > 0.05


def test_all_runs_are_all_runs() -> None:
    """Those of relays too that have too few to be told."""
    many = [run(n, "public", "$many", has_failed=n < 2) for n in range(10)]
    few = [run(10 + n, "public", f"$few{n}", has_failed=True) for n in range(10)]
    (chart,) = [chart for chart in of_relays(relays(grouped([*many, *few]))) if chart.name == "relays.failing"]
    assert isinstance(chart, Bars)
    assert [mark.at for mark in chart.marks] == [12 / 20]
    assert chart.bars[0].text == "2 of 10, expected 6, q 1"
