"""Pages as people see them: in a real Firefox, at the widths of phones and of large screens.

One Firefox has no JavaScript and no SVG, as Tor Browser on its safest level. Another, in which the tests can look
at what is drawn, shows each page in frames of several widths. axe-core looks at them where it is there
(``make accessibility``).
"""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfd.charts.html import STYLE as CHART_STYLE
from perfd.charts.html import Sheet, figure
from perfd.pages.layout import STYLE, STYLE_PATH, error_document
from perfd.pages.make import make
from perfd.pages.records import DaemonState, PageRequest, View
from perfd.record import EMPTY, Outcome
from tests.support.charts import every_kind
from tests.support.geckodriver import GECKODRIVER, missing
from tests.support.pages import state, variant
from tests.support.places import DATA
from tests.support.shown import (
    CIRCUIT,
    COMPARISON,
    DOWNLOAD,
    LOAD,
    LONG,
    ROUND_TRIP,
    UPLOAD,
    fill_with_a_million,
    make_instance,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

CHECKOUT = Path(__file__).parents[2]
AXE = CHECKOUT / "build" / "node" / "node_modules" / "axe-core" / "axe.min.js"
VALIDATE = CHECKOUT / "build" / "node" / "node_modules" / ".bin" / "html-validate"
PICTURES = DATA / "charts"
WIDTHS = (320, 768, 1280, 1920)

OVERFLOW = """
return Array.from(document.querySelectorAll('iframe')).flatMap(frame => {
  const root = frame.contentDocument.documentElement;
  return root.scrollWidth > root.clientWidth + 1 ? [frame.name + ': ' + root.scrollWidth] : [];
});
"""
"""The frames whose page is wider than they are."""

OUTSIDE = """
return Array.from(document.querySelectorAll('iframe')).flatMap(frame => {
  const wide = frame.contentDocument.documentElement.clientWidth;
  return Array.from(frame.contentDocument.querySelectorAll('h1,h2,p,a,dt,dd,th,td,figcaption,label,button,summary'))
    .filter(e => !e.closest('.scroll,.numbers,.skip,pre,details:not([open])'))
    .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > wide + 1)
    .map(e => frame.name + ': ' + e.tagName + ' ' + e.textContent.slice(0, 40));
});
"""
"""Texts that reach out of the page, apart from those that can be scrolled to."""


Shown = tuple[str, dict[str, Any], DaemonState]
"""A page, its arguments, and the state of the daemon."""


def pages(directory: Path) -> Mapping[str, Shown]:
    """What is looked at, by the names of the files."""
    kinds = ("download-50k", "upload-1m", "rtt", "onion-50k", "page", "failing", LONG)
    files = directory / "har"
    settings = {"Largest download": "1 GiB"}
    usual = state(kinds, files=files, comparisons=(COMPARISON,), settings=settings, disk="12.5 of 250.0 GiB free")
    for each, changes in (("onion-50k", {"server": "onion"}), ("page", {"browser": "default"})):
        usual.health["experiments"][kinds.index(each)]["variants"] = [variant(**changes)]
    many = state([f"experiment-{n}-{'x' * 200}"[:200] for n in range(50)])
    ill = state([LONG, "failing"])
    ill.health["experiments"][0].update(healthy=False, variants=[variant(tor="y" * 60, healthy=False)])
    ill.health["tors"][0].update(healthy=False, state=LONG)

    def experiment(name: str, period: str, **arguments: str) -> Shown:
        return "experiment", {"name": name, "period": period, **arguments}, usual

    return {
        "overview": ("overview", {}, usual),
        "nothing": ("overview", {}, state([])),
        "one": ("overview", {}, state(["download-50k"])),
        "many": ("overview", {}, many),
        "ill": ("overview", {}, ill),
        "results": ("results", {}, usual),
        "filtered": ("results", {"experiment": "failing", "outcome": Outcome.FAILED}, usual),
        "circuits": ("circuits", {}, usual),
        "streams": ("streams", {}, usual),
        "events": ("events", {}, usual),
        "measurement": ("measurement", {"id": DOWNLOAD}, usual),
        "upload": ("measurement", {"id": UPLOAD}, usual),
        "round-trip": ("measurement", {"id": ROUND_TRIP}, usual),
        "load": ("measurement", {"id": LOAD}, usual),
        "circuit": ("circuit", {"id": CIRCUIT}, usual),
        "experiment": experiment("download-50k", "week"),
        "by-day": experiment("download-50k", "week", by="day"),
        "year": experiment("download-50k", "year"),
        "uploads": experiment("upload-1m", "day"),
        "round-trips": experiment("rtt", "month"),
        "loads": experiment("page", "week"),
        "failing": experiment("failing", "day"),
        "long": experiment(LONG, "year"),
        "relays": ("relays", {}, usual),
        "onion": ("onion", {}, usual),
        "comparison": ("comparison", {"name": COMPARISON}, usual),
        "status": ("status", {}, many),
        "about": ("about", {}, usual),
    }


def all_charts() -> str:
    """A page with a chart of each kind and no texts, whose shapes depend on no font."""
    sheet = Sheet()
    figures = "".join(figure(chart, sheet) for chart in every_kind())
    style = f"{CHART_STYLE}{sheet.text} body {{ width: 40rem; }} * {{ color: transparent !important; }}"
    return (
        f'<!DOCTYPE html><html data-theme="light"><title>charts</title><style>{style}</style><body>{figures}</body>'
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages as files, and frames of all widths around each."""
    directory = tmp_path_factory.mktemp("site")
    path = make_instance(directory)
    (directory / STYLE_PATH[1:]).write_text(STYLE)
    for name, (page, arguments, told) in pages(directory).items():
        for theme in ("light", "dark"):
            shown = {key: str(getattr(value, "value", value)) for key, value in arguments.items()}
            view = View(f"/{page}", shown, theme)
            made = make(PageRequest(name=page, view=view, arguments=arguments, state=told), path)
            assert made.status == 200, name
            (directory / f"{name}-{theme}.html").write_bytes(made.body)
    (directory / "error-light.html").write_bytes(error_document(404, "Not Found", LONG))
    frames = (f"<iframe name='{width}' width='{width}' height='400'></iframe>" for width in WIDTHS)
    (directory / "frames.html").write_text(f"<!DOCTYPE html><title>frames</title>{''.join(frames)}")
    (directory / "charts.html").write_text(all_charts())
    return directory


@pytest.fixture(scope="module")
def site(directory: Path) -> Iterator[str]:
    """The address of the files."""
    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def firefox(preferences: Mapping[str, Any] = EMPTY) -> Iterator[Any]:
    """A Firefox with these preferences, for somebody who reads Arabic and German."""
    from selenium.webdriver.firefox.options import Options
    from selenium.webdriver.firefox.service import Service
    from selenium.webdriver.remote.webdriver import WebDriver

    class OldGeckodriver(Service):
        def command_line_args(self) -> list[str]:
            return ["--port", str(self.port)]

    options = Options()
    options.capabilities.pop("moz:debuggerAddress", None)  # old ones refuse what they do not know
    options.binary_location = shutil.which("firefox-esr") or ""
    options.add_argument("-headless")
    for name, value in {"intl.accept_languages": "ar, de", **preferences}.items():
        options.set_preference(name, value)
    language = {"LANG": "ar_EG.UTF-8", "LANGUAGE": "ar:de"}
    service = OldGeckodriver(executable_path=str(GECKODRIVER), env={**os.environ, **language})
    service.start()
    try:
        browser = WebDriver(command_executor=service.service_url, options=options)
        browser.set_script_timeout(60)
        yield browser
        browser.quit()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def looking() -> Iterator[Any]:
    """A Firefox in which the tests can run scripts."""
    with firefox() as browser:
        yield browser


def show(browser: Any, site: str, page: str) -> None:
    """Load a page into all frames."""
    browser.get(f"{site}/frames.html")
    browser.execute_async_script(
        "const done = arguments[1], frames = Array.from(document.querySelectorAll('iframe'));"
        "let left = frames.length;"
        "for (const frame of frames) {"
        "  frame.onload = () => { if (--left === 0) done(); }; frame.src = arguments[0]; }",
        f"{page}.html",
    )


NAMES = [f"{name}-{theme}" for name in pages(Path()) for theme in ("light", "dark")] + ["error-light"]
LIGHT = [name for name in NAMES if name.endswith("-light")]


def test_nothing_reaches_out(site: str, looking: Any) -> None:
    """No page is wider than its window, and no text is cut off at its edge, at any width."""
    found = {}
    for name in LIGHT:
        show(looking, site, name)
        found[name] = [*looking.execute_script(OVERFLOW), *looking.execute_script(OUTSIDE)[:5]]
    assert {name: what for name, what in found.items() if what} == {}


def test_safest_level(site: str) -> None:
    """Without JavaScript and without SVG all is there: texts, lines, bands, and tables that open."""
    with firefox({"javascript.enabled": False, "svg.disabled": True}) as browser:
        browser.get(f"{site}/experiment-light.html")
        (heading,) = browser.find_elements("css selector", "h1")
        assert heading.text == "download-50k"
        lines = browser.find_elements("css selector", ".plot .line")
        assert lines
        assert all(each.rect["width"] > 100 and each.rect["height"] > 50 for each in lines)
        details = browser.find_element("css selector", "figure details")
        closed = details.rect["height"]
        browser.find_element("css selector", "figure summary").click()
        assert details.rect["height"] > closed + 50
        browser.get(f"{site}/overview-light.html")
        assert len(browser.find_elements("css selector", ".outcomes i")) == 7 * 48


def test_keyboard(site: str) -> None:
    """The first key leads past the navigation; tables of numbers open, and wide ones can be scrolled to."""
    from selenium.webdriver.common.keys import Keys

    with firefox({"javascript.enabled": False}) as browser:
        browser.get(f"{site}/relays-light.html")
        browser.find_element("css selector", "body").send_keys(Keys.TAB)
        skip = browser.switch_to.active_element
        assert (skip.text, skip.rect["x"] >= 0) == ("To the content", True)
        skip.send_keys(Keys.ENTER)
        assert browser.current_url.endswith("#content")
        seen: list[str] = []
        while len(seen) < 60 and seen[-1:] != ["section"]:
            browser.switch_to.active_element.send_keys(Keys.TAB)
            reached = browser.switch_to.active_element
            seen.append(reached.tag_name)
            if reached.tag_name == "summary":
                details = reached.find_element("xpath", "..")
                closed = details.rect["height"]
                reached.send_keys(Keys.ENTER)
                assert details.rect["height"] > closed + 50
        assert "summary" in seen
        assert seen[-1] == "section"


def test_print(directory: Path, site: str, looking: Any) -> None:
    """On paper all is dark on white, whatever the screen has, nothing is cut off, and navigation is left out."""
    (directory / "print.css").write_text(STYLE.replace("@media print", "@media all"))
    page = (directory / "experiment-dark.html").read_text()
    assert STYLE_PATH in page
    (directory / "print.html").write_text(page.replace(STYLE_PATH, "/print.css"))
    looking.set_window_size(794, 1123)  # A4 at 96 pixels per inch
    looking.get(f"{site}/print.html")
    found = looking.execute_script(
        "const look = e => getComputedStyle(e), all = s => Array.from(document.querySelectorAll(s));"
        "return [look(document.body).backgroundColor, look(document.body).color,"
        "  all('nav, .chart details').filter(e => look(e).display !== 'none').length,"
        "  document.documentElement.scrollWidth <= window.innerWidth];"
    )
    assert found == ["rgb(255, 255, 255)", "rgb(0, 0, 0)", 0, True]


DRAWN = {
    "distribution": ".plot",
    "series": ".plot",
    "scatter": ".plot",
    "failures": ".plot",
    "strip": ".strip",
    "effects": ".track",
    "steps": ".track",
}
"""The part of each chart whose picture is kept in tests/data/charts."""


@pytest.mark.parametrize("name", DRAWN)
def test_shapes(site: str, looking: Any, name: str) -> None:
    """Charts of fixed numbers look as they always did; WRITE_PICTURES=1 in the environment keeps them anew."""
    from PIL import Image, ImageChops, ImageStat

    looking.set_window_size(800, 900)
    looking.get(f"{site}/charts.html")
    drawn = looking.find_element("css selector", f"#{name} {DRAWN[name]}").screenshot_as_png
    file = PICTURES / f"{name}.png"
    picture = Image.open(io.BytesIO(drawn)).convert("RGB")
    if os.environ.get("WRITE_PICTURES"):
        picture.quantize(32).save(file, optimize=True)
    with Image.open(file) as kept:
        small = (160, max(8, 160 * kept.height // kept.width))
        assert abs(picture.width - kept.width) <= 2
        assert abs(picture.height - kept.height) <= 2
        before, now = kept.convert("RGB").resize(small), picture.resize(small)
    different = ImageStat.Stat(ImageChops.difference(before, now)).mean
    assert max(different) < 0.5, different  # of 255; a line that is missing makes more than 1


@pytest.mark.long
def test_a_million(directory: Path, site: str, looking: Any, tmp_path: Path) -> None:
    """The first page and a year of one of a million measurements are short, and reach out nowhere."""
    path = tmp_path / "perfd.sqlite"
    fill_with_a_million(path)
    told = state(("download-50k", "other"))
    view = View("/", theme="light")
    for name, arguments in (("overview", {}), ("experiment", {"name": "download-50k", "period": "year"})):
        made = make(PageRequest(name=name, view=view, arguments=arguments, state=told), path)
        assert made.status == 200
        if name == "overview":
            assert (len(made.body) < 100 * 1024, len(made.packed) < 30 * 1024) == (True, True)
        (directory / "million.html").write_bytes(made.body)
        show(looking, site, "million")
        assert [*looking.execute_script(OVERFLOW), *looking.execute_script(OUTSIDE)] == []


@pytest.mark.skipif(not AXE.exists(), reason="there is no axe-core (make accessibility)")
@pytest.mark.parametrize("name", NAMES)
def test_accessibility(site: str, looking: Any, name: str) -> None:
    """axe-core finds nothing: contrast, names, landmarks, tables, headings, keyboard."""
    looking.get(f"{site}/{name}.html")
    looking.execute_script(AXE.read_text(encoding="utf-8"))
    found = looking.execute_async_script(
        "const done = arguments[0]; axe.run().then(found => done(found.violations.map("
        "each => each.id + ': ' + each.nodes.map(node => node.target.join(' ')).slice(0, 3).join(' | '))));"
    )
    assert found == []


@pytest.mark.skipif(not VALIDATE.exists(), reason="there is no html-validate (make accessibility)")
def test_valid(site: str, tmp_path: Path) -> None:
    """html-validate finds nothing."""
    for name in LIGHT:
        with urllib.request.urlopen(f"{site}/{name}.html") as page:
            (tmp_path / f"{name}.html").write_bytes(page.read())
    (tmp_path / ".htmlvalidate.json").write_text('{"extends": ["html-validate:recommended"], "root": true}')
    ran = subprocess.run(
        [str(VALIDATE), *(f"{name}.html" for name in LIGHT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[:2000]
