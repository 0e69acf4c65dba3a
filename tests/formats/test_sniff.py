"""Files of results, whatever their format: recognised, read, never raising."""

from __future__ import annotations

import gc
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from perfd.formats import legacy, legacy_merge, onionperf_writer, sniff, table, torperf
from perfd.formats.errors import Damage
from perfd.formats.sniff import parse_legacy_name, read_path
from perfd.record import Circuit, Measurement, Stream
from tests.support.places import DATA
from tests.support.strategies import INT_64, TEXTS, measurements, typical

TPF = DATA / "torperf-51200-2016-10-02.tpf"
JSON = DATA / "op-nl2.onionperf-2.0.analysis.json"
DATA_LINE = "100 0 100 1 100 2 100 3 101 0 101 1 101 2 101 3 102 0 75 51493 0"
EXTRA_LINE = f"CIRC_ID=5 LAUNCH=90.5 PATH=${'A' * 40} BUILDTIMES=0.25 USED_AT=102.2 USED_BY=9"


def kinds(path: Path, **given: object) -> list[str]:
    return [type(item).__name__ for item in read_path(path, **given)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "head", "found"),
    [
        ("a-51200-2016-10-02.tpf", "", "tpf"),
        ("a-51200-2016-10-02.tpf.xz", "", "tpf"),
        ("2020-01-01.onionperf.analysis.json.xz", "", "onionperf"),
        ("2020-01-01.op-nl.onionperf.analysis.json", "", "onionperf"),
        ("moria-50kb.data", "", "data"),
        ("moria-50kb.extradata", "", "extradata"),
        ("moria-50kb.mergedata", "", "mergedata"),
        ("x", "@type torperf 1.0\n", "tpf"),
        ("x", "CONNECT=1.0 SOURCE=a START=1.0\n", "tpf"),
        ("x.json", ' \n{"data": {}}', "onionperf"),
        ("x.json", '{"start": 1.5, "socket": null', "json"),
        ("measurements.json.xz", "", "json"),
        ("x", "1293543301 762678 1293543301 762704 1293", "data"),
        ("x", "CIRC_ID=5 LAUNCH=1.0", "extradata"),
        ("x", "BUILDTIMEOUT_SET COMPUTED", "extradata"),
        ("x", "BUILDTIMES=1 STARTSEC=5", "mergedata"),
        ("x.txt", "hello", None),
        ("x", "", None),
    ],
)
def test_sniff(name: str, head: str, found: str | None) -> None:
    """The name decides, or else the content."""
    assert sniff.sniff(name, head) == found


@pytest.mark.parametrize(
    ("name", "source", "filesize"),
    [
        ("moria-50kb.data", "moria", 51200),
        ("torperf-1mb.extradata.xz", "torperf", 1048576),
        ("op-nl-5mb.mergedata", "op-nl", 5242880),
        ("siv-51200.data", "siv", 51200),
        ("50kb.data", None, 51200),
        ("notes.data", None, None),
        ("data", None, None),
    ],
)
def test_legacy_names(name: str, source: str | None, filesize: int | None) -> None:
    """The names of Torperf's files tell their source and size."""
    assert parse_legacy_name(name) == (source, filesize)


@given(measurements(filesize=INT_64, **dict.fromkeys(("reason", "hostnameremote"), TEXTS)))
def test_json_lines(measurement: Measurement) -> None:
    """A line gives back exactly the measurement that it was made of."""
    assert list(table.read_json_lines([table.json_line(measurement)])) == [measurement]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "id: the member is missing"),
        ({"outcome": "well"}, "outcome: 'well' is no outcome"),
        ({"start": "now"}, "start: a number is expected"),
        ({"partial": {"5": None}}, "partial: an object without null is expected"),
        ({"extra": {"ROUND": None}}, "extra: an object without null is expected"),
        ({"unknown": 1}, None),
    ],
)
def test_damaged_json_lines(changes: dict[str, Any], message: str | None) -> None:
    """A line that is no measurement is named and costs itself only."""
    lines = [json.dumps(typical().as_dict() | changes), "[]", "{", "[" * 50_000, table.json_line(typical(1))]
    first, *others, last = table.read_json_lines(lines, "x")
    assert first == (Damage("x", 1, message) if message else typical())
    assert [type(item) for item in others] == [Damage] * 3
    assert last == typical(1)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_written_only(tmp_path: Path, ending: str) -> None:
    """What is for other programs only is refused with a remedy."""
    path = tmp_path / f"measurements.{ending}"
    path.write_text(table.csv_header() + table.csv_line(typical()))
    (damage,) = read_path(path)
    assert "export with --format json" in str(damage)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep_name", [False, True])
def test_any_file(tmp_path: Path, compressed: bool, keep_name: bool) -> None:
    """Plain or compressed, under its own name or another, a file gives all of its records."""
    for original, expected in (
        (TPF, ["Measurement"] * 3),
        (JSON, ["Circuit"] * 4 + ["Measurement"] * 3 + ["Stream"] * 4),
    ):
        path = tmp_path / (original.name if keep_name else "results")
        content = original.read_bytes()
        path.write_bytes(lzma.compress(content) if compressed else content)
        assert kinds(path) == expected


def test_data_is_merged_with_its_extradata(tmp_path: Path) -> None:
    """The file beside it gives the circuit; by itself it gives circuit and stream."""
    data, extra = tmp_path / "moria-50kb.data", tmp_path / "moria-50kb.extradata"
    data.write_text(f"{DATA_LINE}\nx\n")
    damage, alone = read_path(data)
    assert isinstance(alone, Measurement)
    assert (alone.source, alone.filesize, alone.circ_id) == ("moria", 51200, None)
    assert damage == Damage(str(data), 2, "the line has 1 columns; 20, 21 or 39 are expected")
    extra.write_text(f"{EXTRA_LINE}\n")
    merged = next(m for m in read_path(data) if isinstance(m, Measurement))
    assert (merged.id, merged.circ_id) == (alone.id, 5)
    circuit, stream = read_path(extra)
    assert isinstance(circuit, Circuit)
    assert isinstance(stream, Stream)
    assert (stream.circuit, circuit.circ_id) == (circuit.id, 5)


def test_mergedata(tmp_path: Path) -> None:
    """Runs are measurements, unused circuits are circuits."""
    run = legacy.parse_data(DATA_LINE, "moria", 51200)
    lines = legacy_merge.write_merged([run, legacy.Extra(circ_id=7)])
    path = tmp_path / "moria-50kb.mergedata"
    path.write_text("".join(lines))
    assert kinds(path) == ["Measurement", "Circuit"]


def test_source_and_size_can_be_given(tmp_path: Path) -> None:
    """Names that do not tell are a report with the remedy, unless the caller knows."""
    path = tmp_path / "50kb.data"
    path.write_text(f"{DATA_LINE}\n")
    (damage,) = read_path(path)
    assert "rename it, such as moria-50kb.data" in str(damage)
    (run,) = read_path(path, source="siv")
    assert isinstance(run, Measurement)
    assert (run.source, run.filesize) == ("siv", 51200)
    (run,) = read_path(path.rename(tmp_path / "x.data"), source="siv", filesize=7)
    assert isinstance(run, Measurement)
    assert run.filesize == 7


def test_our_own_files(tmp_path: Path) -> None:
    """What Perfd publishes it can read."""
    (tmp_path / "a.tpf").write_text("".join(torperf.write([typical()], 6)))
    document = onionperf_writer.analysis("example", [typical()])
    (tmp_path / "2023-11-14.onionperf.analysis.json.xz").write_bytes(onionperf_writer.dumps(document))
    for path in tmp_path.iterdir():
        found = list(read_path(path))
        assert [record for record in found if isinstance(record, Measurement)] == [typical()]
        # Of a document also the circuit and the stream that the measurement tells of.
        others = sorted(type(record).__name__ for record in found if not isinstance(record, Measurement))
        assert others == ([] if path.suffix == ".tpf" else ["Circuit", "Stream"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xff\x00",
        b"{",
        json.dumps({"type": "x"}).encode(),
        lzma.compress(b"{}")[:-9],
        b"\xfd7zXZ\x00garbage",
        lzma.compress(b"hello"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes) -> None:
    """A file that is nothing, or is cut off, is one report."""
    path = tmp_path / "x"
    path.write_bytes(content)
    assert kinds(path) == ["Damage"]


def test_truncated_xz_gives_what_is_there(tmp_path: Path) -> None:
    """Of a file cut off in the middle the lines before the cut are read."""
    lines = "".join(torperf.write(typical(n) for n in range(2000)))
    path = tmp_path / "x.tpf.xz"
    path.write_bytes(lzma.compress(lines.encode())[:20000])
    found = kinds(path)
    assert found.count("Measurement") > 100
    assert found.count("Damage") in (1, 2)  # the cut, and the line that it went through


def test_missing_file(tmp_path: Path) -> None:
    """It is a report like any other damage; so is a directory."""
    for path in (tmp_path / "missing.tpf", tmp_path):
        (damage,) = read_path(path)
        assert isinstance(damage, Damage)
        assert damage.file == str(path)
        assert "cannot be read" in damage.message


def test_bad_lines_cost_themselves_only(tmp_path: Path) -> None:
    """Lines that are no UTF-8, or without an end, do not hide those behind them."""
    good = TPF.read_bytes().splitlines(keepends=True)[1]
    path = tmp_path / "x.tpf"
    bad = [b"\xff" + good, b"A=" + b"x" * 300_000 + b"\n", good[:500] + b"\n", b"\n"]
    path.write_bytes(b"@type torperf 1.0\n" + good.join([b"", *bad, b""]))
    found = list(read_path(path))
    assert [type(item) for item in found] == [Measurement, Damage] * 4 + [Measurement]
    messages = [item.message for item in found if isinstance(item, Damage)]
    assert messages[0] == "the line is not UTF-8 text"
    assert messages[1] == "the line is longer than 262144 characters"
    assert messages[3] == "the line is empty"


def test_large_documents_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small compressed file cannot fill the memory."""
    monkeypatch.setattr(sniff, "MAX_DOCUMENT", 1000)
    path = tmp_path / "x.onionperf.analysis.json.xz"
    path.write_bytes(lzma.compress(b" " * 2_000_000))
    (damage,) = read_path(path)
    assert isinstance(damage, Damage)
    assert damage.message == "the document is larger than 1000 bytes"


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "always::ResourceWarning")
def test_files_are_closed() -> None:
    """Nothing stays open, even if the reader stops early."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read_path(TPF)
        next(records)
        del records
        list(read_path(JSON))
        gc.collect()
    assert not caught
