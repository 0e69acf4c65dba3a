"""The page of a page load: its requests, its pictures, and documents that are not what they should be."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.browser.files.contents import Job, write_files
from perfd.pages.make import make
from perfd.pages.records import PageRequest, View
from perfd.store.inserts import insert_many
from perfd.store.page_files import HAR, file_of
from perfd.store.schema import open_database
from tests.support.page_loads import ID, NOW, frames, page_load, png
from tests.support.pages import Document, state
from tests.support.strategies import typical

HOSTILE = "<script>alert('1')</script>"


def page(directory: Path) -> Document:
    """The page of the load, whose files are in ``directory``."""
    request = PageRequest(
        name="measurement",
        view=View(f"/results/{ID}"),
        arguments={"id": ID},
        state=state(files=directory / "har"),
    )
    made = make(request, directory / "perfd.sqlite")
    assert made.status == 200
    return Document(made.body.decode())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with one page load."""
    made = tmp_path_factory.mktemp("load")
    with closing(open_database(made / "perfd.sqlite")) as connection:
        run = typical(1, id=ID, start=NOW, type="pageload", extra={"LOAD": NOW + 1.6})
        insert_many(connection, [run])
    (made / "har").mkdir()
    return made


def written(directory: Path, load: Any) -> Path:
    """Its files, as the daemon writes them. Returns the HAR document."""
    job = Job(directory=directory / "har", measurement=ID, load=load, carriers=())
    write_files(job, png(), frames()[:1])
    return file_of(directory / "har", NOW, ID, HAR)


def test_requests_and_pictures(directory: Path) -> None:
    """Each request with its phases, its status, and when it began; the screenshot, and what can be downloaded."""
    load = page_load(frames=frames()[:1])
    first, second = load.requests
    load = attrs.evolve(load, requests=(first, attrs.evolve(second, url=f"http://site.example/{HOSTILE}.css")))
    written(directory, load)
    found = page(directory)
    assert "requests" in [each["id"] for each in found.all("figure")]
    rows = {each["aria-label"] for each in found.all("div") if each.get("class") == "track"}
    assert any(row.startswith("site.example: ") and "wait" in row and "receive" in row for row in rows)
    assert "script>.css" in found.text
    pictures = [f"/results/{ID}/frames/1", f"/results/{ID}/screenshot"]
    assert [each["src"] for each in found.all("img")] == pictures
    hrefs = [each["href"] for each in found.all("a")]
    assert {f"/results/{ID}/har", f"/results/{ID}/filmstrip"} <= set(hrefs)


def test_nothing_left(tmp_path: Path) -> None:
    """Files that are too old are deleted; the page of the load does without."""
    with closing(open_database(tmp_path / "perfd.sqlite")) as connection:
        insert_many(connection, [typical(1, id=ID, start=NOW, type="pageload")])
    found = page(tmp_path)
    assert found.all("img") == []
    assert "requests" not in [each["id"] for each in found.all("figure")]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_document(directory: Path, data: st.DataObject) -> None:
    """A document in which anything stands where something else should."""
    path = written(directory, page_load())
    document = json.loads(gzip.decompress(path.read_bytes()))
    place: Any = document
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    page(directory)


def test_damaged_file(directory: Path) -> None:
    """What is no gzip, what is cut, and what is no JSON."""
    path = written(directory, page_load())
    whole = path.read_bytes()
    for damaged in (b"", b"x" * 100, whole[: len(whole) // 2], gzip.compress(b"{"), gzip.compress(b"[1]")):
        path.write_bytes(damaged)
        page(directory)


def test_film(tmp_path: Path) -> None:
    """An experiment has the pictures of the load next to its median whose files are there; a load has its own."""
    loads = [
        typical(n, id=f"{n:032x}", start=NOW + n, type="pageload", experiment="page", datacomplete=None)
        for n in range(1, 6)
    ]
    loads = [
        attrs.evolve(each, extra={"LOAD": each.start + n, "FILMSTRIP": 12}) for n, each in enumerate(loads, start=1)
    ]
    with closing(open_database(tmp_path / "perfd.sqlite")) as connection:
        insert_many(connection, loads)
    (tmp_path / "har").mkdir()
    pictures = [attrs.evolve(frames()[0], at=NOW + n / 10) for n in range(12)]
    for each in (loads[1], loads[4]):  # of the median's own load they were deleted
        job = Job(directory=tmp_path / "har", measurement=each.id, load=page_load(start=each.start), carriers=())
        write_files(job, png(), pictures)
    told = state(["page"], now=NOW + 60, files=tmp_path / "har")
    request = PageRequest(name="experiment", view=View("/experiments/page"), arguments={"name": "page"}, state=told)
    found = Document(make(request, tmp_path / "perfd.sqlite").body.decode())
    assert "The median page load The load that took 2 s" in found.text
    shown = [each["src"] for each in found.all("img")]
    assert shown[0] == f"/results/{loads[1].id}/frames/1"
    assert (len(shown), shown[-1]) == (8, f"/results/{loads[1].id}/frames/12")
    one = attrs.evolve(request, name="measurement", arguments={"id": loads[4].id})
    found = Document(make(one, tmp_path / "perfd.sqlite").body.decode())
    assert f"/results/{loads[4].id}/frames/12" in [each["src"] for each in found.all("img")]
