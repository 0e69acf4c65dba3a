"""``perfd results --series``, and where the requests of a series are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from perfd.record import Attach, Circuit, Hop, Measurement, Outcome, Stream
from tests.support.stored import Stored
from tests.support.strategies import typical

SERIES = "ab" * 16
START = typical(0).start


def request(number: int, **changes: Any) -> Measurement:
    """A request of the series; ``extra`` comes on top of what each has."""
    extra = {"SERIES": SERIES, "REQUESTNUMBER": number, "GROUP": number % 2, **changes.pop("extra", {})}
    return typical(number, id=f"{SERIES}-{number:04}", type="request", extra=extra, **changes)


def stream(number: int, *attaches: Attach) -> Stream:
    """The stream of a request."""
    values: dict[str, Any] = {"source": "example", "tor": "default", "status": "CLOSED", "new": START}
    return Stream(
        id=f"t-s{number}", stream_id=number, measurement=f"{SERIES}-{number:04}", attaches=attaches, **values
    )


def circuit(number: int, **changes: Any) -> Circuit:
    """A circuit of two hops."""
    path = (Hop("$" + "A" * 40, "alice"), Hop("$" + "B" * 40))
    values: dict[str, Any] = {"source": "example", "tor": "default", "status": "BUILT", "launch": START - 60.0}
    return Circuit(id=f"t-c{number}", circ_id=number, path=path, **values, **changes)


class SeriesTests(SynchronousTestCase):
    """What the command prints."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()))
        self.series = typical(
            0,
            id=SERIES,
            type="series",
            circ_id=None,
            extra={"REQUESTS": 4, "CIRCUITS": 2, "CIRCUITWAITMAX": 1.5, "FAILURES": "PERFD/STALL:1"},
        )
        self.requests = [
            request(0, circ_id=5, conflux_id="C" * 32, extra={"CIRCUITWAIT": 0.25}),
            request(1, circ_id=7, conflux_id=None, extra={"CIRCUITWAIT": 1.5, "ATTACHEDTO": "6,7"}),
            request(2, circ_id=8, conflux_id="C" * 32, extra={"ATTACHEDTO": 8}),
            request(
                3,
                circ_id=None,
                outcome=Outcome.TIMEOUT,
                errorcode="PERFD/STALL",
                reason="no news",
                datacomplete=None,
            ),
        ]
        self.others = [typical(9), typical(10, id=f"{SERIES}x-0000", type="request"), typical(11, id=f"{SERIES}-")]

    def fill(self, *, killed: bool = False) -> None:
        self.instance.add(
            [*([] if killed else [self.series]), *self.requests, *self.others],
            [circuit(5, conflux_id="C" * 32), circuit(6), circuit(7)],
            [
                stream(0, Attach(5, START + 0.25)),
                stream(1, Attach(6, START, START + 1, "END", "EXITPOLICY"), Attach(7, START + 1.5)),
            ],
        )

    def show(self, *arguments: str) -> str:
        code, out, err = self.instance.perfd("results", "--series", SERIES, *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def test_tables(self) -> None:
        """Requests, circuits with their requests and paths, totals."""
        self.fill()
        rows = [" ".join(line.split()) for line in self.show().splitlines()]
        self.assertEqual(rows[0], f"Series {SERIES} of download-50k, 2023-11-14 22:13:20 UTC, tor default, public")
        for expected in (
            "0 0 ok 0.250 s 5 no 0.723 s 1.235 s",
            "1 1 ok 1.500 s 6 (END/EXITPOLICY), 7 no 0.723 s 1.235 s",
            "2 0 ok 8 yes 0.723 s 1.235 s",
            "3 1 timeout 0.723 s PERFD/STALL no news",
            f"5 0 2023-11-14 22:12:20 {'C' * 32} ${'A' * 40}~alice ${'B' * 40}",
            f"6 1 2023-11-14 22:12:20 ${'A' * 40}~alice ${'B' * 40}",
            "requests 4",
            "circuits used 2",
            "longest wait for one 1.500000 s",
            "failures PERFD/STALL:1",
        ):
            self.assertIn(expected, rows)

    def test_json(self) -> None:
        """All of it for programs: the records with their streams, the circuits with their records."""
        self.fill()
        found = json.loads(self.show("--json"))
        self.assertEqual(found["series"], json.loads(json.dumps(self.series.as_dict())))
        self.assertEqual([each["id"] for each in found["requests"]], [m.id for m in self.requests])
        self.assertEqual([each["reused"] for each in found["requests"]], [False, False, True, None])
        self.assertEqual([len(each["streams"]) for each in found["requests"]], [1, 1, 0, 0])
        self.assertEqual(found["requests"][1]["streams"][0]["attaches"][0]["remote_reason"], "EXITPOLICY")
        self.assertEqual(
            [(c["circ_id"], c["requests"]) for c in found["circuits"]], [(5, [0]), (6, [1]), (7, [1]), (8, [2])]
        )
        self.assertEqual(found["circuits"][2]["path"], [f"${'A' * 40}~alice", f"${'B' * 40}"])
        self.assertEqual(
            (found["circuits"][0]["launch"], found["circuits"][0]["conflux_id"]), (START - 60.0, "C" * 32)
        )

    def test_living_circuit(self) -> None:
        """A circuit has a record when it has ended; until then those of the requests tell."""
        self.fill()
        use = json.loads(self.show("--json"))["circuits"][3]
        self.assertEqual((use["circ_id"], use["path"]), (8, list(self.requests[2].path or ())))
        self.assertEqual(use["launch"], self.requests[2].launch)

    def test_without_its_own_record(self) -> None:
        """Perfd was killed before the series was over: its requests are shown."""
        self.fill(killed=True)
        self.assertIn("6 (END/EXITPOLICY), 7", self.show())
        self.assertIsNone(json.loads(self.show("--json"))["series"])

    def test_unknown(self) -> None:
        """An id of nothing, and one of another type, are told apart from an empty series."""
        self.fill()
        for series in ("nothing", typical(9).id, "", "%", f"{SERIES}-0001"):
            code, out, err = self.instance.perfd("results", "--series", series)
            self.assertEqual((code, out), (1, ""))
            self.assertIn(f"no series has the id {series!r}", err)

    def test_left_out(self) -> None:
        """Lists and summaries have a series, and its requests only if they are asked for; exports have all."""
        self.fill()
        self.instance.add([typical(12, id="n", type="series")])

        def results(*arguments: str) -> list[str]:
            code, out, _ = self.instance.perfd("results", "--json", *arguments)
            self.assertEqual(code, 0)
            document = json.loads(out)
            self.assertEqual(sum(each["count"] for each in document["experiments"]), len(document["results"]))
            return [each["id"] for each in document["results"]]

        self.assertEqual(results(), ["n", self.others[2].id, self.others[0].id, SERIES])
        self.assertEqual(results("--type", "series"), ["n", SERIES])
        shown = f" ok          0.723 s   1.235 s  {SERIES} CIRCUITS=2 FAILURES=PERFD/STALL:1\n"
        self.assertIn(shown, self.instance.perfd("results")[1])
        self.assertEqual(len(results("--type", "request")), 5)
        _, out, _ = self.instance.perfd("export", "--format", "json")
        self.assertEqual(len(out.splitlines()), 9)
