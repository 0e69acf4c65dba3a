"""What ``perfd analyze`` shows of what page loads have left: their pictures and requests."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from perfd.browser.files.contents import Job, write_files
from perfd.record import Measurement, Outcome
from perfd.store.page_files import FILMSTRIP, HAR, file_of
from tests.support.page_loads import page_load, png
from tests.support.stored import Stored

START = 1_795_392_000.0
TIMES = {"alpha": (0, 500, 1000), "beta": (0, 900, 3000)}
"""Of the pictures of each tor's loads, in ms."""


def load(n: int, tor: str, took: float) -> Measurement:
    start = START + 60 * n
    return Measurement(
        id=f"{n:032x}",
        source="example",
        experiment="page",
        type="pageload",
        start=start,
        tor=tor,
        server="public",
        filesize=0,
        outcome=Outcome.OK,
        extra={"LOAD": start + took},
    )


def filmed(stored: Stored, m: Measurement, pictures: Sequence[bytes]) -> Path:
    """Give a load its pictures."""
    path = file_of(stored.directory / "har", m.start, m.id, FILMSTRIP)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        for n, (milliseconds, picture) in enumerate(zip(TIMES[m.tor or ""], pictures, strict=True), 1):
            archive.writestr(f"{n:04}-{milliseconds:06}ms.png", picture)
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Three loads by each tor, all with pictures."""
    made = Stored(tmp_path / "instance")
    loads = [load(n, ("alpha", "beta")[n % 2], 1.0 + n) for n in range(6)]
    made.add(loads)
    for each in loads:
        filmed(made, each, [png(rows, (400, 300)) for rows in (0, 100, 250)])
    return made


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_two_variants_on_one_time_axis(stored: Stored, tmp_path: Path) -> None:
    """Of the median load of each, as a picture and in the page, which may load nothing but what is in it."""
    page, plots = tmp_path / "report.html", tmp_path / "plots"
    code, _, err = stored.perfd("analyze", "--report", page, "--plots", plots)
    assert code == 0, err
    rows = rows_of(plots / "page.film.csv")
    names = list(dict.fromkeys(row["load"] for row in rows))
    assert names == [
        "page [alpha]: loaded after 3 s, nearest to the median of 3",
        "page [beta]: loaded after 4 s, nearest to the median of 3",
    ]
    seen = {
        name: [(row["seen at (s)"], row["picture of (s)"]) for row in rows if row["load"] == name] for name in names
    }
    assert [at for at, _ in seen[names[0]]] == [at for at, _ in seen[names[1]]]
    assert [picture for _, picture in seen[names[0]]] == ["0.0", "0.5", "1.0", "1.0", "1.0", "1.0", "1.0"]
    assert [picture for _, picture in seen[names[1]]] == ["0.0", "0.0", "0.9", "0.9", "0.9", "0.9", "3.0"]
    assert (plots / "page.film.png").stat().st_size > 5000
    text = page.read_text()
    assert "img-src data:;" in text
    assert text.count("url(data:image/jpeg;base64,") == 3  # of both, which are alike
    assert text.count('class="shot ') == 14
    assert len(text) < 60_000


def test_damaged_and_missing_files(stored: Stored, tmp_path: Path) -> None:
    """The next load stands for one whose file is gone or is none; pictures that cannot be read are left out."""
    alpha = [load(n, "alpha", 1.0 + n) for n in (0, 2, 4)]
    file_of(stored.directory / "har", alpha[1].start, alpha[1].id, FILMSTRIP).write_bytes(b"no ZIP file")
    file_of(stored.directory / "har", alpha[2].start, alpha[2].id, FILMSTRIP).unlink()
    filmed(stored, alpha[0], [png(0, (400, 300)), b"\x89PNG no picture", png(250, (400, 300))])
    assert stored.perfd("analyze", "--tor", "alpha", "--plots", tmp_path / "plots")[0] == 0
    rows = rows_of(tmp_path / "plots" / "page.film.csv")
    assert {row["load"] for row in rows} == {"page: loaded after 1 s, nearest to the median of 3"}
    assert {row["picture of (s)"] for row in rows} == {"0.0", "", "1.0"}


def test_no_pictures_no_film(tmp_path: Path) -> None:
    stored = Stored(tmp_path / "instance")
    stored.add([load(n, "alpha", 1.0) for n in range(3)])
    page = tmp_path / "report.html"
    assert stored.perfd("analyze", "--report", page)[0] == 0
    assert "img-src" not in page.read_text()


def test_requests_of_the_median_load(stored: Stored, tmp_path: Path) -> None:
    """As a waterfall with first paint and load; of documents that are none the next load's is taken."""
    for n in (0, 2):  # of alpha's three loads, of which the last is the only one that is whole
        path = file_of(stored.directory / "har", load(n, "alpha", 1.0 + n).start, f"{n:032x}", HAR)
        path.write_bytes((b"no gzip", gzip.compress(b'{"log": {"pages": [], "entries": []}}'))[n // 2])
    last = load(4, "alpha", 5.0)
    left = page_load(start=last.start)
    write_files(Job(directory=stored.directory / "har", measurement=last.id, load=left, carriers=()), png(), [])
    code, _, err = stored.perfd("analyze", "--plots", tmp_path / "plots")
    assert code == 0, err
    assert [path.stem for path in sorted((tmp_path / "plots").glob("*requests*.png"))] == ["page.requests-1"]
    rows = rows_of(tmp_path / "plots" / "page.requests-1.csv")
    assert {row["step"] for row in rows} == {"site.example", "a.css"}
    assert {row["what"] for row in rows} <= {"blocked", "connect", "send", "wait", "receive"}
