"""The table of the formats that are written: a row is all that a further one needs."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

from perfd.daemon.upkeep.archive import Archive
from perfd.formats import outputs, values
from perfd.formats.errors import FormatError
from perfd.formats.names import FORMATS
from perfd.formats.outputs import Lines, Output
from perfd.record import Measurement, Outcome
from perfd.store.reader import StoreReader
from perfd.web.results.openapi import document
from perfd.web.site import describe_site
from tests.support.results import ResultsCase
from tests.support.stored import Stored
from tests.support.strategies import typical

DAY = 86400.0


def tsv_line(measurement: Measurement, decimals: int) -> str:
    """Start and payload, with a tab between them. There are no payloads of 7 bytes here."""
    if measurement.filesize == 7:
        raise FormatError("7 is an unlucky number", key="FILESIZE")
    return f"{values.encode_time(measurement.start, decimals)}\t{measurement.payloadbytes}\n"


TSV = Output(
    name="tsv",
    suffix=".tsv",
    media_type="text/tab-separated-values",
    doc="a table of two columns",
    writer=Lines(tsv_line, "START\tPAYLOADBYTES\n", lambda m: f"{m.source}-{values.utc_date(m.start)}.tsv"),
    plain=True,
    archived=True,
)

RUNS = [typical(0), typical(1, outcome=Outcome.SKIPPED), typical(2, filesize=7), typical(300)]
HEADER, FIRST, LAST = "START\tPAYLOADBYTES\n", "1700000000.012345\t51200\n", "1700090000.012345\t51200\n"


class InventedFormatTests(ResultsCase):
    """A format that exists in this module only, and in a row."""

    def setUp(self) -> None:
        named = mock.patch.dict(FORMATS, {TSV.name: TSV.doc})
        named.start()
        self.addCleanup(named.stop)
        patch = mock.patch.object(outputs, "OUTPUTS", (*outputs.OUTPUTS, TSV))
        patch.start()
        self.addCleanup(patch.stop)
        super().setUp()
        self.instance = Stored(Path(self.mktemp()))
        self.instance.add(RUNS)

    def test_command(self) -> None:
        """``perfd export`` takes it: to standard output, into a file, and divided into a directory."""
        code, out, err = self.instance.perfd("export", "--format", "tsv")
        self.assertEqual((code, out), (1, HEADER + FIRST + LAST))
        self.assertIn("cannot be written: FILESIZE: 7 is an unlucky number", err)
        file, directory = self.instance.directory / "all.tsv", self.instance.directory / "out"
        self.instance.perfd("export", "--format", "tsv", "--output", file)
        self.assertEqual(file.read_text(), HEADER + FIRST + LAST)
        self.instance.perfd("export", "--format", "tsv", "--output", f"{directory}/")
        found = {path.name: path.read_text() for path in directory.iterdir()}
        expected = {"example-2023-11-14.tsv": HEADER + FIRST, "example-2023-11-15.tsv": HEADER + LAST}
        self.assertEqual(found, expected)

    def test_http(self) -> None:
        """It has an address and a media type, with the filters of the others."""
        self.fill(*RUNS)
        newest_first = b"START\tPAYLOADBYTES\n1700090000.01\t51200\n1700000000.01\t51200\n"
        self.assertEqual(self.body("/results.tsv"), newest_first)
        self.assertEqual(self.body("/results", f"Accept: {TSV.media_type}"), newest_first)
        self.assertEqual(self.body("/results.tsv?until=2023-11-15").count(b"\n"), 2)
        self.assertEqual(self.body(f"/results/{RUNS[0].id}", f"Accept: {TSV.media_type}"), newest_first[-20:])
        paths = document(describe_site(self.children()))["paths"]
        self.assertIn(TSV.media_type, paths["/results.tsv"]["get"]["responses"]["200"]["content"])
        self.assertIn(TSV.media_type, paths["/results"]["get"]["responses"]["200"]["content"])

    def test_archive(self) -> None:
        """A row that is archived is published too."""
        directory = self.instance.directory / "archive"
        said: list[str] = []
        with StoreReader(self.instance.database) as reader:
            Archive(directory, "example", said.append).publish(reader, typical(0).start + DAY)
        self.assertEqual((directory / "example-2023-11-14.tsv").read_text(), HEADER + FIRST[:14] + "\t51200\n")
        self.assertIn(f"{RUNS[2].id} cannot be published: FILESIZE: 7 is an unlucky number", said)


def test_rows() -> None:
    """Names and suffixes are unique, and each row says what it is."""
    for name in ("name", "suffix", "doc"):
        assert len({getattr(row, name) for row in outputs.OUTPUTS}) == len(outputs.OUTPUTS)
    assert {row.name: row.doc for row in outputs.OUTPUTS} == FORMATS
    for row in outputs.OUTPUTS:
        assert re.fullmatch(r"\.[a-z.]+", row.suffix)
        assert re.fullmatch(r"[a-z]+/[a-z.-]+", row.media_type)
        assert outputs.named(row.name) is row
