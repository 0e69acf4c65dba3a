"""What others wrote shows as text: imported files, HAR documents, notes, and what relays say of themselves."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from perfd.browser.files.contents import Job, write_files
from perfd.formats import onionperf_writer, torperf
from perfd.pages.make import PAGES, make
from perfd.pages.records import PageRequest, View
from perfd.record import Measurement, Note, Outcome
from perfd.store.inserts import insert_many
from perfd.store.page_files import HAR, file_of
from perfd.store.rows import NOTES
from perfd.store.schema import open_database
from tests.support.page_loads import frames, page_load, png
from tests.support.pages import NOW, Document, recent, state
from tests.support.stored import Stored

HOSTILE = "\"><script>alert('1')</script><img/src=x/onerror=alert(1)>"
ID = f"{1:032x}"


def shown(name: str, path: Path, told: Any, /, **arguments: str) -> Document:
    """A page; it is an error if it has a script, an attribute that runs one, or an element that it should not."""
    made = make(PageRequest(name=name, view=View(f"/{name}"), arguments=arguments, state=told), path)
    assert made.status == 200
    assert b"<script" not in made.body
    found = Document(made.body.decode())
    assert not [each for each in found.all("img") if not each["src"].startswith("/results/")]
    return found


def hostile(n: int, **changes: Any) -> Measurement:
    """A run all of whose texts are hostile."""
    names = ("experiment", "tor", "torversion", "server", "network", "errorcode", "reason", "endpointremote")
    texts = dict.fromkeys((*names, "endpointproxy", "hostnameremote", "links", "cc_state"), HOSTILE)
    known = {name: text for name, text in texts.items() if name in attrs.fields_dict(Measurement)}
    relays = ("NICKNAMES", "FLAGS", "VERSIONS", "COUNTRIES", "CGO", "WEIGHTS")
    extra = {f"PATH{key}": ",".join([HOSTILE.replace(",", "")] * 3) for key in relays}
    extra |= dict.fromkeys(("URL", "PAGE", "BROWSER", "RTTIDLEMS", "CONSENSUSPARAMS", "PAIR"), HOSTILE)
    return recent(n, **{**known, "outcome": Outcome.FAILED, "extra": extra, **changes})


@pytest.mark.parametrize("form", ["tpf", "onionperf"])
def test_imported_files(tmp_path: Path, form: str) -> None:
    """Files of Torperf's and OnionPerf's formats that somebody else wrote."""
    instance = Stored(tmp_path / "instance")
    runs = [hostile(n, source="example") for n in range(3)]
    if form == "tpf":
        file = tmp_path / "hostile.tpf"
        file.write_text("".join(torperf.write(runs)))
    else:
        file = tmp_path / "hostile.onionperf.analysis.json"
        file.write_bytes(onionperf_writer.dumps(onionperf_writer.analysis("example", runs), xz=False))
    code, out, err = instance.perfd("import", file)
    assert code == 0, out + err
    (imported, *_) = instance.measurements()
    told = state([imported.experiment], now=NOW)
    texts = [shown(name, instance.database, told).text for name in ("overview", "results")]
    texts.append(shown("experiment", instance.database, told, name=imported.experiment, period="month").text)
    texts.append(shown("measurement", instance.database, told, id=imported.id).text)
    assert "alert('1')" in texts[-1]


@pytest.mark.parametrize("name", PAGES)
def test_records(tmp_path: Path, name: str) -> None:
    """Each text of a record, what relays say of themselves, and notes."""
    path = tmp_path / "perfd.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, [hostile(n, outcome=(Outcome.FAILED, Outcome.OK)[n % 2]) for n in range(20)])
        note = Note(source="example", at=NOW - 3600, text=HOSTILE)
        with connection:
            connection.execute(NOTES.insert, NOTES.row(note))
    if name in ("circuit", "comparison"):
        return  # what they show is no measurement's
    arguments = {"measurement": {"id": ID}, "experiment": {"name": HOSTILE}}.get(name, {})
    text = shown(name, path, state([HOSTILE], disk=HOSTILE), **arguments).text
    assert "alert('1')" in text or name in ("circuits", "streams", "events", "onion")


def test_har(tmp_path: Path) -> None:
    """The document of a page load: the page's title, addresses, states, errors, circuits."""
    path = tmp_path / "perfd.sqlite"
    with closing(open_database(path)) as connection:
        insert_many(connection, [recent(1, type="pageload", extra={"LOAD": recent(1).start + 1})])
    files = tmp_path / "har"
    files.mkdir()
    start = recent(1).start
    load = page_load(start=start, title=HOSTILE, frames=frames()[:1])
    write_files(Job(directory=files, measurement=ID, load=load, carriers=()), png(), frames()[:1])
    file = file_of(files, start, ID, HAR)
    document = json.loads(gzip.decompress(file.read_bytes()))
    for entry in document["log"]["entries"]:
        entry["request"]["url"] = f"http://{HOSTILE}/{HOSTILE}"
        entry["response"]["status"] = HOSTILE
        entry["_tor"] = {"circuit": HOSTILE}
    document["log"]["entries"][0]["_error"] = HOSTILE
    document["log"]["pages"][0]["title"] = HOSTILE
    file.write_bytes(gzip.compress(json.dumps(document).encode()))
    found = shown("measurement", path, state(files=files), id=ID)
    assert "Requests" in found.text
    assert found.text.count("alert('1')") >= 4
