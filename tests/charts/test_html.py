"""Charts as HTML and CSS."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import attrs
import pytest

from perfd.charts.axes import Axis
from perfd.charts.document import Numbers, Section, document
from perfd.charts.html import MOST_NUMBERS, Sheet, figure
from perfd.charts.model import Chart, LineChart, Row, Stacks, Stretch, Table, Tone, Waterfall
from perfd.charts.outlines import outline
from tests.support.charts import HOSTILE, HOUR, START, every_kind

KINDS = {chart.name: chart for chart in every_kind()}
VOID = {"meta", "br"}


class Elements(HTMLParser):
    """What a browser would see; AssertionError where elements don't fit into each other."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def classes(self) -> list[set[str]]:
        return [set((attributes.get("class") or "").split()) for _, attributes in self.tags]


@pytest.mark.parametrize("chart", KINDS.values(), ids=KINDS)
def test_nothing_that_a_strict_policy_forbids(chart: Chart) -> None:
    """Neither scripts nor SVG nor style attributes, whatever names and texts say."""
    sheet = Sheet()
    found = Elements(figure(chart, sheet))
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "svg", "style", "img"}
    assert not any(name == "style" or name.startswith("on") for _, attributes in found.tags for name in attributes)
    rules = set(re.findall(r"\.(k[0-9a-f]{8})\{", sheet.text))
    used = {name for classes in found.classes() for name in classes if re.fullmatch(r"k[0-9a-f]{8}", name)}
    assert used == rules
    assert not re.search(r"nan|inf|[<>]", sheet.text)


@pytest.mark.parametrize("chart", KINDS.values(), ids=KINDS)
def test_for_those_who_do_not_see_it(chart: Chart) -> None:
    """The picture has a label, and the numbers are there as a table."""
    found = Elements(figure(chart, Sheet()))
    pictures = [attributes for _, attributes in found.tags if attributes.get("role") == "img"]
    assert pictures
    assert all(attributes["aria-label"] for attributes in pictures)
    assert chart.title in found.texts
    rows = sum(tag == "tr" for tag, _ in found.tags)
    assert rows == 1 + min(len(chart.table.rows), MOST_NUMBERS)
    assert HOSTILE in " ".join(found.texts)


def test_gaps() -> None:
    """Where nothing was measured the line and its band are interrupted."""
    chart = KINDS["series"]
    assert isinstance(chart, LineChart)
    looks = Elements(figure(chart, Sheet())).classes()
    assert sum("line" in look and "shape" in look for look in looks) == len(chart.lines[0].pieces) == 2
    assert sum("band" in look for look in looks) == 2


def test_a_line_is_as_wide_everywhere() -> None:
    """A level line through the middle goes a pixel above and below; a single place is a dot."""
    assert outline([(0, 0.5), (1, 0.5)], 2.0) == (
        "clip-path:polygon(calc(0% + 2px) calc(50% + 1px),calc(100% - 2px) calc(50% + 1px),"
        "calc(100% - 2px) calc(50% - 1px),calc(0% + 2px) calc(50% - 1px))"
    )
    assert outline([(0.5, 0.5)], 2.0).count("calc(50% - 2px)") == 4


def test_the_document() -> None:
    """The policy of a report allows its own style and nothing else."""
    table = Numbers(HOSTILE, Table(("what", "n"), ((HOSTILE, "1"),)))
    sections = [Section(HOSTILE, (*KINDS.values(), table, HOSTILE))]
    text = document(HOSTILE, HOSTILE, [HOSTILE], sections)
    found = Elements(text)
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not any(tag in {"script", "svg", "link"} for tag, _ in found.tags)
    assert not re.search(r"(src|href)=|url\(|@import", text)
    assert text == document(HOSTILE, HOSTILE, [HOSTILE], sections)


def test_what_colours_of_a_waterfall_stand_for() -> None:
    """Phases of requests are told; steps of which each has a row of its own are not."""
    spans = (Stretch(0, 1, Tone.B, "connect"), Stretch(1, 2, Tone.E, "wait"))
    x = Axis(label="since navigation", low=0, high=2, unit="s")
    phases = Waterfall(name="x", title="X", x=x, rows=(Row("a", spans[:1]), Row("b", spans)))
    steps = Waterfall(name="x", title="X", x=x, rows=(Row("a", spans[:1]), Row("b", spans[1:])))
    assert '<i class="box e"></i>wait' in figure(phases, Sheet())
    assert "box e" not in figure(steps, Sheet())


def test_where_nothing_was_run() -> None:
    """In a chart of failures that is hatched: without failures, and without runs, there is no bar alike."""
    chart = KINDS["failures"]
    assert isinstance(chart, Stacks)
    assert chart.gaps == [(START + 7 * HOUR, START + 8 * HOUR)]
    sheet = Sheet()
    gap = re.search(r'<i class="gap (k\w+)">', figure(chart, sheet))
    assert gap is not None
    assert f".{gap[1]}{{left:14.58%;right:83.33%}}" in sheet.text
    late = attrs.evolve(chart, columns=chart.columns[10:20])
    assert late.gaps == [(START, START + 11 * HOUR), (START + 21 * HOUR, START + 48 * HOUR)]
