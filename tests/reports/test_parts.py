"""What runs consist of: the variants of an experiment are kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from perfd.charts.html import Sheet, figure
from perfd.charts.model import Bars, Chart, LineChart, Scatter
from perfd.reports.figures import of_parts
from perfd.reports.groups import grouped
from perfd.reports.runs import Run
from perfd.variant import Variant


def run(n: int, tor: str, took: float, **values: object) -> Run:
    """By ``tor``, each of whose hops took so long, as did the ways there and back."""
    steps = {"datarequest": 1.0, "serverrequest": 1 + took, "serverresponse": 3.0, "dataresponse": 3 + 2 * took}
    found = Run(
        start=300.0 * n,
        id=f"{n}",
        source="here",
        experiment="web",
        type="download",
        filesize=2**20,
        outcome="ok",
        errorcode=None,
        slots=1,
        guard=None,
        variant=Variant(tor, "public"),
        first_payload=None,
        throughput=None,
        path=(),
        nicknames="",
        weights="",
        hops=(took,) * 3,
        rtt_idle=None,
        rtt_load=None,
        times=steps,
    )
    return attrs.evolve(found, **values)  # type: ignore[arg-type]


def charts(runs: Sequence[Run]) -> dict[str, Chart]:
    return {chart.name: chart for chart in of_parts("web", grouped(runs))}


def test_variants_are_apart() -> None:
    """Each hop and each way has a bar for each variant, one below the other, in the variant's colour."""
    runs = [run(n, "beta" if n % 2 else "alpha", 0.4 if n % 2 else 0.1) for n in range(20)]
    found = charts(runs)
    hops, ways = found["web.hops"], found["web.ways"]
    assert isinstance(hops, Bars)
    assert isinstance(ways, Bars)
    assert [(bar.whole_name, round(bar.value, 9)) for bar in hops.bars] == [
        (f"hop {n}: web [{tor}]", took) for n in (1, 2, 3) for tor, took in (("alpha", 0.1), ("beta", 0.4))
    ]
    assert [(bar.whole_name, round(bar.value, 9)) for bar in ways.bars] == [
        *(("to the server: web [alpha]", 0.1), ("to the server: web [beta]", 0.4)),
        *(("back: web [alpha]", 0.2), ("back: web [beta]", 0.8)),
    ]
    assert len({bar.tone for bar in hops.bars}) == 2
    assert hops.bars[0].text.endswith("n = 10")
    page = figure(hops, Sheet())
    assert [page.count(f'<span class="part">hop {n}</span>') for n in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert 'aria-label="hop 2: web [beta]: 0.4 s (0.4 to 0.4) n = 10' in page


def test_one_variant() -> None:
    """Of one there is room for distributions; that is said of which where others have no values."""
    (alone,) = [chart for name, chart in charts([run(0, "alpha", 0.1)]).items() if name == "web.hops"]
    assert isinstance(alone, LineChart)
    assert alone.title == "Build time of each hop"
    two = charts([run(0, "alpha", 0.1), run(1, "beta", 0.1, hops=())])["web.hops"]
    assert isinstance(two, LineChart)
    assert two.title == "Build time of each hop: web [alpha]"


def test_loads() -> None:
    """Round-trip times by load and variant; a scatter has as many clouds as colours, and says so."""
    rates = {"RTTLOADDOWNRATE": 1e6, "RTTUPLOADUPRATE": 1e6, "RTTBOTHDOWNRATE": 1e6}
    figures = {**rates, "RTTUPLOADMEDIAN": 0.5, "RTTBOTHMEDIAN": 0.7}
    runs = [run(n, f"t{n % 3}", 0.1, rtt_idle=0.1, rtt_load=0.3, figures=figures) for n in range(6)]
    found = charts(runs)
    rtt, load = found["web.rtt"], found["web.rtt-load"]
    assert isinstance(rtt, Bars)
    assert isinstance(load, Scatter)
    assert [bar.whole_name for bar in rtt.bars[2:4]] == ["idle: web [t2]", "loaded: web [t0]"]
    kinds = [f"{load}: web [t{n}] (n = 2)" for load in ("downloads", "uploads") for n in range(3)]
    assert [cloud.name for cloud in load.clouds] == kinds
    assert load.note.endswith("These are the first 6 of 9.")
