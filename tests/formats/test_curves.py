"""Curves as tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from perfd.formats import curves
from perfd.record import Curve
from tests.support.curves import arrival, circuit

CURVES = [arrival("m1", 1_700_000_000.5), circuit("m1", 7, 1_700_000_000.5)]


def test_csv() -> None:
    """A row for each sample; what a curve does not have is empty."""
    text = curves.csv_header() + "".join(map(curves.csv_lines, CURVES))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == tuple(column.name for column in curves.COLUMNS)
    assert [(row["curve"], row["seconds"], row["payload"], row["cwnd"], row["rtt"]) for row in rows[2:6]] == [
        ("arrival", "2.0", "2097152", "", ""),
        ("arrival", "3.0", "3145728", "", ""),
        ("circuit-7", "1.0", "", "124", ""),
        ("circuit-7", "2.0", "", "248", "0.08"),
    ]
    assert {row["at"] for row in rows} == {"2023-11-14T22:13:20.500000Z"}


def test_json() -> None:
    """All of a curve in one object."""
    found = json.loads(curves.json_line(CURVES[1]))
    assert found.pop("columns") == list(CURVES[1].columns)
    assert [tuple(sample) for sample in found.pop("samples")] == list(CURVES[1].samples)
    assert found == {"id": "m1-circuit-7", "source": "example", "measurement": "m1", "at": 1_700_000_000.5} | {
        "name": "circuit-7"
    }


def test_parquet(tmp_path: Path) -> None:
    """The same rows, typed."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "curves.parquet"
    with path.open("wb") as opened:
        writer = curves.CurveParquetWriter(opened)
        writer.write(CURVES)
        writer.close()
    found = parquet.read_table(path)
    assert found.num_rows == 6
    assert found["payload"].to_pylist() == [0, 1 << 20, 2 << 20, 3 << 20, None, None]
    assert found["rtt"].to_pylist() == [None] * 5 + [0.08]
    assert found.schema.field("rtt").metadata[b"unit"] == b"s"


def test_a_column_of_a_later_version() -> None:
    """It is left out, and its neighbours are where they belong."""
    curve = Curve(
        id="i",
        source="s",
        measurement="m",
        at=0.0,
        name="new",
        columns=("seconds", "unheard", "cwnd"),
        samples=((1.0, 5, 9),),
    )
    ((*_, name, seconds, payload, _, _, _, _, cwnd),) = (row[:11] for row in curves.rows(curve))
    assert (name, seconds, payload, cwnd) == ("new", 1.0, None, 9)
