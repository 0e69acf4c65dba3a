"""The data dictionary, and the tables that are made by it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from perfd.formats import dictionary, table
from perfd.record import FIELDS, Kind, Measurement, Outcome
from tests.support.places import CHECKOUT
from tests.support.stored import Stored
from tests.support.strategies import measurements, typical


def row(m: Measurement) -> dict[str, Any]:
    return dict(zip(table.NAMES, dictionary.row(m), strict=True))


def test_names() -> None:
    """Each once, in lower case, and all fields that are single values are there."""
    assert len(set(table.NAMES)) == len(table.NAMES)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in table.NAMES)
    assert {field.name for field in FIELDS} - {"dataperc", "partial", "extra"} <= set(table.NAMES)
    for column in dictionary.COLUMNS:
        assert column.doc
        assert "|" not in column.doc
        assert column.kind not in (Kind.TIMES, Kind.EXTRA)


def test_derived() -> None:
    """The durations by hand; what is not known gives none, and no clock that ran backwards a negative one."""
    found = row(typical(0))
    expected = {
        "circuit_s": 0.412345,
        "buildtime_s": typical(0).buildtimes[-1],
        "latency_s": 0.311,
        "first_byte_s": 0.723456,
        "complete_s": 1.234567,
        "duration_s": 1.234678,
    }
    assert expected.items() <= found.items()
    assert found["throughput_mbit_s"] == pytest.approx(51200 * 8 / 1e6 / 0.511111)
    failed = row(typical(0, response=None, datacomplete=None, outcome=Outcome.TIMEOUT, dataresponse=1.0))
    assert [failed[name] for name in ("circuit_s", "first_byte_s", "complete_s", "throughput_mbit_s")] == [None] * 4
    assert (failed["didtimeout"], failed["outcome"]) == (True, Outcome.TIMEOUT)


def test_nothing_is_lost() -> None:
    """What has no column, or a value that does not fit its column, is in the last one."""
    run = typical(
        0, dataperc={15: 2.5}, extra={"ROUND": 3, "a b": "c=d", "HELDUP": "long", "JAIN": 1, "LOADS": 0.5}
    )
    found = row(run)
    assert found["other_keys"] == "DATAPERC15=2.500000 ROUND=3 a%20b=c%3Dd HELDUP=long LOADS=0.5"
    assert (found["jain"], found["heldup"], found["loads"]) == (1.0, None, None)


@given(measurements())
def test_any_measurement(m: Measurement) -> None:
    """Whatever it has, it is a line of as many cells."""
    (cells,) = csv.reader(io.StringIO(table.csv_line(m), newline=""))
    assert len(cells) == len(table.NAMES)


# The examples of docs/formats.md

RUNS = [
    *(typical(n, datacomplete=typical(n).start + 1.0 + n) for n in range(5)),
    typical(9, outcome=Outcome.FAILED, datacomplete=None, errorcode="TOR/END/MISC"),
]


def example(language: str, name: str) -> str:
    """The block of code with this name in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (CHECKOUT / "docs" / "formats.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if name in block]
    return str(found)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the exports that the examples read."""
    stored = Stored(tmp_path / "instance")
    stored.add(RUNS)
    for form in ("csv", "parquet"):
        assert stored.perfd("export", "--format", form, "--output", tmp_path / f"results.{form}")[0] == 0
    return tmp_path


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_examples(library: str, files: Path) -> None:
    """They run as they stand there, and find the median of what succeeded."""
    pytest.importorskip(library)
    command = [sys.executable, "-c", example("python", f"import {library}")]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True)
    assert "51200" in done.stdout
    assert re.search(r"\b3\.0\b", done.stdout), done.stdout


def test_example_in_r(files: Path) -> None:
    """Base R reads CSV; `make test-r` installs it."""
    program = shutil.which("Rscript")
    if program is None:
        pytest.skip("no Rscript")
    done = subprocess.run(
        [program, "-e", example("r", "read.csv")], cwd=files, capture_output=True, text=True, check=True
    )
    assert re.search(r"51200 +public +3", done.stdout), done.stdout


def test_make_target() -> None:
    """It is this file that it runs."""
    makefile = (CHECKOUT / "Makefile").read_text()
    assert "tests/formats/test_dictionary.py" in makefile[makefile.index("test-r:") :]
