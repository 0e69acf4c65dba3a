"""``perfd results``: the table, the summary, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from perfd.cli.results import quartiles
from perfd.record import Outcome
from tests.support.stored import Stored
from tests.support.strategies import typical


class ResultsTests(SynchronousTestCase):
    """What the command prints."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()))

    def results(self, *arguments: str) -> str:
        code, out, err = self.instance.perfd("results", *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def test_plain_table(self) -> None:
        """Where there is no terminal: columns, without colours or frames, failures in words."""
        self.instance.add(
            [
                typical(0),
                typical(1, outcome=Outcome.FAILED, errorcode="TOR/END/MISC", reason="misc", datacomplete=None),
                typical(2, experiment="other"),
            ]
        )
        out = self.results()
        self.assertNotIn("\x1b", out)
        rows = [" ".join(line.split()) for line in out.splitlines()]
        self.assertIn("2023-11-14 22:13:20 download-50k 50 KiB default public ok 0.723 s 1.235 s", rows)
        self.assertIn(
            "2023-11-14 22:18:20 download-50k 50 KiB default public failed 0.723 s TOR/END/MISC misc", rows
        )
        summary = "download-50k 2 1 0.723 s 0.723 to 0.723 s 1.235 s 1.235 to 1.235 s 1 TOR/END/MISC"
        self.assertIn(summary, rows)

    def test_json(self) -> None:
        """The same with all fields, for programs."""
        self.instance.add([typical(0), typical(1, outcome=Outcome.TIMEOUT, errorcode="PERFD/STALL")])
        found = json.loads(self.results("--json", "--limit", "1"))
        self.assertEqual(found["results"], [json.loads(json.dumps(self.instance.measurements()[1].as_dict()))])
        (summary,) = found["experiments"]
        self.assertEqual(summary["outcomes"], {"ok": 1, "timeout": 1})
        self.assertEqual((summary["count"], summary["ok"]), (2, 1))
        self.assertEqual(summary["errors"], {"PERFD/STALL": 1})
        self.assertEqual(summary["complete"], [1.234567, 1.234567, 1.234567])

    def test_page_loads(self) -> None:
        """Their own times have a table, and are in the JSON; they count from START, and of successes only."""
        pages = [
            typical(
                n, experiment="page", type="pageload", filesize=0, extra={"LOAD": at, "FIRSTCONTENTFULPAINT": "x"}
            )
            for n in range(3)
            for at in [typical(n).start + n + 1.5]
        ]
        failed = typical(3, experiment="page", type="pageload", outcome=Outcome.FAILED, extra={"LOAD": 1.0})
        none = typical(4, experiment="worse", type="pageload", outcome=Outcome.FAILED)
        self.instance.add([*pages, failed, none, typical(5, extra={"LOAD": 5.0})])
        rows = [" ".join(line.split()) for line in self.results().splitlines()]
        table = rows[rows.index("Page loads since 2023-11-13 22:38:20: medians of the successes") + 2 :]
        self.assertEqual(table[:3], ["page 3 2.500 s 2.000 to 3.000 s", "worse 0", ""])
        download, page, worse = json.loads(self.results("--json"))["experiments"]
        self.assertNotIn("load", download)
        times = ("first_contentful_paint", "load", "fully_loaded")
        self.assertEqual([page[key] for key in times], [None, [2.0, 2.5, 3.0], None])
        self.assertEqual([worse[key] for key in times], [None] * 3)

    def test_variants(self) -> None:
        """What was measured in different ways has rows of its own, named by what differs."""
        slow = typical(0).start + 9
        self.instance.add(
            [
                typical(0, tor="none"),
                typical(0, id="1", extra={"OPTIMISTIC": 0}, datacomplete=slow),
                typical(0, id="2", extra={"OPTIMISTIC": 1}, outcome=Outcome.FAILED),
                typical(0, id="3", experiment="other", extra={"OPTIMISTIC": 1}),
            ]
        )
        rows = [" ".join(line.split()) for line in self.results().splitlines()]
        summary = [row.split()[: row.split().index("0.723")] if "0.723" in row else row.split() for row in rows]
        start = next(n for n, row in enumerate(rows) if row.startswith("All measurements"))
        self.assertEqual(
            [" ".join(row) for row in summary[start + 2 : start + 6]],
            [
                "download-50k [default OPTIMISTIC=0] 1 1",
                "download-50k [default OPTIMISTIC=1] 1 0 1 failed",
                "download-50k [none -] 1 1",
                "other 1 1",
            ],
        )
        found = json.loads(self.results("--json"))["experiments"]
        self.assertEqual(
            [(each["tor"], each["server"], each["browser"], each["optimistic"], each["ok"]) for each in found],
            [
                ("default", "public", None, 0, 1),
                ("default", "public", None, 1, 0),
                ("none", "public", None, None, 1),
                ("default", "public", None, 1, 1),
            ],
        )
        self.assertEqual(found[0]["complete"], [9.0] * 3)

    def test_highlights(self) -> None:
        """The list has the key figures of each type, times from START."""
        extras: dict[str, dict[str, Any]] = {
            "download": {"OPTIMISTIC": 1, "JAIN": 0.98, "OTHER": 1, "HELDUP": 0.31},
            "rtt": {"RTTIDLEMEDIAN": 0.05, "RTTLOADMEDIAN": 0.07},
            "pageload": {"BROWSER": "cold", "LOAD": typical(2).start + 1.5},
        }
        self.instance.add([typical(n, type=kind, extra=extras[kind]) for n, kind in enumerate(extras)])
        out = self.results()
        for shown in (
            "OPTIMISTIC=1 JAIN=0.98 HELDUP=0.31\n",
            "RTTIDLEMEDIAN=0.05 RTTLOADMEDIAN=0.07\n",
            "BROWSER=cold LOAD=1.500s\n",
        ):
            self.assertIn(shown, out)

    def test_the_last_day(self) -> None:
        """Without --since it is the day before the latest measurement; with it, all since then."""
        self.instance.add([typical(0), typical(1000), typical(1001)])
        self.assertEqual(json.loads(self.results("--json"))["experiments"][0]["count"], 2)
        self.assertEqual(len(json.loads(self.results("--json"))["results"]), 2)
        found = json.loads(self.results("--json", "--since", "2023-01-01"))
        self.assertEqual((found["experiments"][0]["count"], len(found["results"])), (3, 3))

    def test_filters(self) -> None:
        """The summary is of what was asked for."""
        self.instance.add([typical(0), typical(1, experiment="x"), typical(2, outcome=Outcome.FAILED)])
        self.assertEqual(len(json.loads(self.results("--json", "--experiment", "x"))["results"]), 1)
        found = json.loads(self.results("--json", "--outcome", "failed"))["experiments"]
        self.assertEqual([(e["count"], e["ok"], e["first_byte"]) for e in found], [(1, 0, None)])

    def test_nothing(self) -> None:
        """An empty database and an empty selection say so; a missing database is an error."""
        code, _, err = self.instance.perfd("results")
        self.assertEqual(code, 1)
        self.assertIn("there is no database", err)
        self.instance.add()
        self.assertEqual(self.results(), "there are no such measurements\n")
        self.assertEqual(json.loads(self.results("--json"))["results"], [])

    def test_wrong_arguments(self) -> None:
        """They are refused with what would be right."""
        for arguments in (["--since", "someday"], ["--limit", "0"], ["--outcome", "fine"]):
            with self.assertRaises(SystemExit) as ended:
                self.instance.perfd("results", *arguments)
            self.assertEqual(ended.exception.code, 2)

    def test_quartiles(self) -> None:
        """Linear interpolation, as SQL's PERCENTILE_CONT."""
        self.assertEqual(quartiles([1.0, 2.0, 3.0, 4.0]), [1.75, 2.5, 3.25])
        self.assertEqual(quartiles([1.0]), [1.0, 1.0, 1.0])
        self.assertIsNone(quartiles([]))
