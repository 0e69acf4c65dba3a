"""Files of results as they come: compressed, in archives, damaged, and made to do harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.formats import legacy, legacy_merge, sniff, torperf, unpacking
from perfd.formats.errors import Damage
from perfd.record import Measurement
from tests.support.places import DATA
from tests.support.strategies import typical

TPF = DATA / "torperf-51200-2016-10-02.tpf"
DOCUMENT = DATA / "op-nl2.onionperf-2.0.analysis.json"
COMPRESSORS = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress, ".bz2": bz2.compress}


def read(path: Path) -> tuple[list[str], list[Damage]]:
    """The ids of the measurements, and what is damaged."""
    found = list(sniff.read_path(path))
    return [m.id for m in found if isinstance(m, Measurement)], [d for d in found if isinstance(d, Damage)]


def ids(*paths: Path) -> list[str]:
    return [found for path in paths for found in read(path)[0]]


def archive(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return content.getvalue()


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("path", [TPF, DOCUMENT])
def test_compressed(path: Path, ending: str, tmp_path: Path) -> None:
    """Each compression is read, whatever the name says."""
    content = COMPRESSORS[ending](path.read_bytes())
    for name in (f"{path.name}{ending}", "results"):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == (ids(path), [])


@pytest.mark.parametrize("padding", [0, 4, 400, 70_000])
def test_xz_padding(padding: int, tmp_path: Path) -> None:
    """Zeros behind and between the streams of an .xz are a part of the format."""
    lines = TPF.read_bytes().splitlines(keepends=True)
    halves = b"".join(lines[:4]), b"".join(lines[4:])
    content = b"".join(lzma.compress(half) + bytes(padding) for half in halves)
    (tmp_path / "x.tpf.xz").write_bytes(content)
    assert read(tmp_path / "x.tpf.xz") == (ids(TPF), [])


@pytest.mark.parametrize("ending", [".xz", ".gz", ".bz2"])
def test_cut_off(ending: str, tmp_path: Path) -> None:
    """What can be read of it is, and the damage is told."""
    path = tmp_path / f"x.tpf{ending}"
    path.write_bytes(COMPRESSORS[ending](TPF.read_bytes())[:-20])
    found, damages = read(path)
    assert set(found) <= set(ids(TPF))
    assert ending == ".bz2" or len(found) >= 2  # bzip2 gives a block or none of it
    assert damages[-1].file == str(path)
    assert "cannot be read" in damages[-1].message


def test_garbage_behind_xz(tmp_path: Path) -> None:
    """It costs nothing of what is before it, but it is told."""
    path = tmp_path / "x.tpf.xz"
    path.write_bytes(lzma.compress(TPF.read_bytes()) + bytes(8) + b"garbage")
    found, (damage,) = read(path)
    assert found == ids(TPF)
    assert "cannot be read" in damage.message


@pytest.mark.parametrize("outer", ["", ".xz", ".gz", ".bz2"])
@pytest.mark.parametrize("inner", ["", ".xz", ".gz"])
def test_archives(outer: str, inner: str, tmp_path: Path) -> None:
    """A month as CollecTor archives it: results in directories, compressed or not; other files are passed over."""
    compress = COMPRESSORS[inner]
    content = archive(
        {
            f"torperf-2016-10/{TPF.name}{inner}": compress(TPF.read_bytes()),
            "torperf-2016-10/README": b"Not a result.",
            f"torperf-2016-10/27/2020-04-27.op-nl2.onionperf.analysis.json{inner}": compress(DOCUMENT.read_bytes()),
        }
    )
    path = tmp_path / f"torperf-2016-10.tar{outer}"
    path.write_bytes(COMPRESSORS[outer](content))
    assert read(path) == (ids(TPF, DOCUMENT), [])
    assert sniff.is_result(path.name)


def test_members_are_named(tmp_path: Path) -> None:
    """A message has the archive, the member and the line; a damaged member costs itself."""
    content = archive(
        {
            "a/1.tpf": b"@type torperf 1.1\nSTART=nonsense\n",
            "a/2.tpf.xz": lzma.compress(TPF.read_bytes())[:-12],
            "a/\x1b[31m\nx.tpf": b"x\n",
            f"a/{TPF.name}": TPF.read_bytes(),
        }
    )
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    found, damages = read(path)
    assert set(ids(TPF)) <= set(found)
    assert str(damages[0]).startswith(f"{path}/a/1.tpf:2: ")
    assert str(damages[1]).startswith(f"{path}/a/2.tpf.xz: ")
    assert all(str(damage).isprintable() for damage in damages)


def test_data_and_extradata(tmp_path: Path) -> None:
    """They find each other in an archive too, in any order and any case, in each directory its own."""
    runs = [typical(n) for n in range(3)]
    data = "".join(legacy.write_data(runs)).encode()
    extra = "".join(legacy.write_extra([found for found in map(legacy.extra_of, runs) if found])).encode()
    path = tmp_path / "old.tar.gz"
    members = {
        "one/Moria-50kb.extradata": extra,
        "two/siv-50kb.data": data,
        "one/Moria-50kb.data": data,
        "two/siv-1mb.extradata.xz": lzma.compress(extra),
        "two/gabelmoo-50kb.mergedata": b"",
    }
    path.write_bytes(gzip.compress(archive(members)))
    found = [record for record in sniff.read_path(path) if isinstance(record, Measurement)]
    assert [(m.source, m.circ_id) for m in found] == [
        *(("siv", None) for _ in runs),
        *(("Moria", run.circ_id) for run in runs),
    ]
    assert not read(path)[1]


@pytest.mark.parametrize("cut", [100, 600, 5000])
def test_archive_that_is_cut_off(cut: int, tmp_path: Path) -> None:
    """Also between two members, where tarfile sees nothing wrong."""
    content = archive({f"{n}/{TPF.name}": TPF.read_bytes() for n in range(2)})
    path = tmp_path / "x.tar"
    for end in (cut, len(content) // 1024 * 512, 512 + (len(TPF.read_bytes()) + 511) // 512 * 512):
        path.write_bytes(content[:end])
        assert read(path)[1], end


def test_damaged_header(tmp_path: Path) -> None:
    """What is behind it is not read, which is said."""
    content = bytearray(archive({f"{n}.tpf": TPF.read_bytes() for n in range(3)}))
    second = 512 + (len(TPF.read_bytes()) + 511) // 512 * 512
    content[second + 10] ^= 1
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    found, (damage,) = read(path)
    assert found == ids(TPF)
    assert "the archive is damaged" in damage.message


def test_nothing_in_it(tmp_path: Path) -> None:
    """An archive of something else is told so, and so are links."""
    path = tmp_path / "x.tar"
    path.write_bytes(archive({"README": b"x"}))
    assert [damage.message for damage in read(path)[1]] == ["the archive has no results"]
    link = tarfile.TarInfo("../../x.tpf")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(link)
    path.write_bytes(content.getvalue())
    assert [str(damage).partition(": ")[2] for damage in read(path)[1]] == [
        "it is a link or another special file in the archive"
    ]


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    """Is passed over, as is all that has no name of results."""
    path = tmp_path / "x.tar"
    path.write_bytes(archive({"y.tar": archive({TPF.name: TPF.read_bytes()})}))
    assert [damage.message for damage in read(path)[1]] == ["the archive has no results"]


def test_nothing_is_extracted(tmp_path: Path) -> None:
    """Paths that lead elsewhere are no more than names."""
    path = tmp_path / "in" / "x.tar"
    path.parent.mkdir()
    path.write_bytes(archive({"../evil.tpf": TPF.read_bytes(), "/tmp/evil-50kb.data": b"1 2\n"}))
    assert read(path)[0] == ids(TPF)
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "x.tar"]
    assert not Path("/tmp/evil-50kb.data").exists()


class TestBombs:
    """Little files that unpack to much. The limits are smaller here, or it would take long."""

    @pytest.fixture(autouse=True)
    def _limits(self) -> Iterator[None]:
        with mock.patch.object(unpacking, "ALWAYS", 1 << 20), mock.patch.object(unpacking, "MOST_TIMES", 10):
            yield

    @pytest.mark.parametrize("ending", [".xz", ".gz", ".bz2"])
    def test_file(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"x.tpf{ending}"
        path.write_bytes(COMPRESSORS[ending](bytes(1 << 24)))
        found, damages = read(path)
        assert not found
        assert "unpacks to more than 10 times its size" in damages[-1].message

    def test_members_together(self, tmp_path: Path) -> None:
        """No member is too large, but all of them are."""
        member = lzma.compress(bytes(300_000))
        path = tmp_path / "x.tar.xz"
        path.write_bytes(lzma.compress(archive({f"{n}.tpf.xz": member for n in range(40)})))
        assert "unpacks to more than 10 times" in read(path)[1][-1].message


def test_what_is_allowed() -> None:
    """A month of documents is far below the limit."""
    unpacking.Allowance(0).take(1 << 28)
    unpacking.Allowance(50 << 20).take(10 << 30)


def test_a_header_that_fills_the_memory(tmp_path: Path) -> None:
    """tarfile would hold a long name in memory, however long it says it is."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    (damage,) = read(path)[1]
    assert damage.message == f"the archive has a header of {1 << 40} bytes"


def test_memory_that_a_decompressor_asks_for(tmp_path: Path) -> None:
    """A dictionary of 1.5 GiB is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 3 << 29}]
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    path = tmp_path / "x.tpf.xz"
    try:
        path.write_bytes(compressor.compress(TPF.read_bytes()) + compressor.flush())
    except MemoryError:
        pytest.skip("not even a compressor gets as much")
    (damage,) = read(path)[1]
    assert "emory usage limit" in damage.message


CONTENT = archive(
    {
        f"a/{TPF.name}": TPF.read_bytes()[:3000],
        "moria-50kb.data": "".join(legacy.write_data([typical()])).encode(),
        "b/x.onionperf.analysis.json.xz": lzma.compress(b"{}"),
    }
)


@given(
    st.sampled_from(sorted(COMPRESSORS)),
    st.lists(st.tuples(st.integers(0, len(CONTENT)), st.binary(max_size=3)), max_size=4),
    st.booleans(),
)
def test_whatever_is_in_it(ending: str, changes: list[tuple[int, bytes]], before: bool) -> None:
    """Bytes that are changed anywhere give records and reports, never an error."""
    content = CONTENT if before else COMPRESSORS[ending](CONTENT)
    for place, new in changes:
        start = place % len(content)
        content = content[:start] + new + content[start + len(new) :]
    with TemporaryDirectory() as directory:
        path = Path(directory, f"x.tar{ending}")
        path.write_bytes(COMPRESSORS[ending](content) if before else content)
        for record in sniff.read_path(path):
            assert str(record)


LINE = TPF.read_text().splitlines()[1]


@given(st.integers(0, len(LINE) - 1), st.text(max_size=3))
def test_any_line_costs_itself(place: int, new: str) -> None:
    """Whatever stands in a line of .tpf or .mergedata, the next one is read."""
    run = typical()
    good = LINE
    bad = LINE[:place] + new + LINE[place + len(new) :]
    found = list(torperf.read(["@type torperf 1.1", bad, good]))
    assert isinstance(found[-1], Measurement)
    (merged,) = legacy_merge.write_merged([run])
    place %= len(merged)
    bad = merged[:place] + new + merged[place + len(new) + 1 :]
    assert isinstance(list(legacy_merge.read_merged([bad, merged], "moria", 51200))[-1], Measurement)
