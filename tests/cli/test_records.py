"""``perfd circuits``, ``streams``, ``events``, ``show`` and ``logs``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from perfd.cli import logs, tor_records
from perfd.cli.tables import Display
from perfd.cli.times import parse_time
from perfd.logfile.line import render
from perfd.record import Outcome
from perfd.store.filters import CircuitFilter
from perfd.store.parameters import CIRCUITS
from tests.support.stored import Stored
from tests.support.strategies import typical
from tests.support.told import RELAYS, circuit, tell


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """An instance with some of each."""
    found = Stored(tmp_path)
    tell(found)
    return found


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def run(stored: Stored, *words: str) -> str:
    code, out, err = stored.perfd(*words)
    assert (code, err) == (0, "")
    return out


def test_circuits(stored: Stored) -> None:
    """The latest last, with the relays' nicknames; filters by purpose, reason and relay."""
    shown = rows(run(stored, "circuits"))
    assert shown[2] == "2023-11-14 22:13:27 default 7 CLOSED GENERAL 0.250 s 9.000 s relay0 relay1 relay2"
    assert shown[3] == "2023-11-14 22:13:28 default 8 FAILED GENERAL 0.250 s 9.000 s TIMEOUT"
    for words, ids in (
        (("--reason", "TIMEOUT"), [8]),
        (("--purpose", "HS_VANGUARDS"), [9]),
        (("--relay", RELAYS[1]), [7, 9]),
        (("-n", "1"), [9]),
        (("--until", "2023-11-14T22:13:28Z"), [7]),
    ):
        found = [json.loads(line) for line in run(stored, "circuits", "--json", *words).splitlines()]
        assert [each["circ_id"] for each in found] == ids, words
    assert run(stored, "circuits", "--reason", "NOTHING") == "there are no such circuits\n"


def test_streams(stored: Stored) -> None:
    """With the circuits that carried them, and why they ended."""
    shown = rows(run(stored, "streams"))
    assert shown[2].startswith("2023-11-14 22:13:21 default 1 CLOSED 192.0.2.1:80 7 1.000 s 0000")
    assert shown[3].endswith("END/MISC")
    found = run(stored, "streams", "--json", "--reason", "MISC")
    assert json.loads(found)["stream_id"] == 2


def test_events(stored: Stored) -> None:
    """In tor's own words."""
    assert rows(run(stored, "events", "--keyword", "GUARD"))[2:3] == [
        "2023-11-14 22:13:21 default GUARD ENTRY $A UP"
    ]


def test_follow(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """What is added meanwhile is shown in the order in which it came, though it began before the last one."""

    class EnoughError(Exception):
        pass

    late = [[circuit(3)], [], [circuit(4, purpose="X"), circuit(5)]]

    def sleep(seconds: float) -> None:
        if not late:
            raise EnoughError
        stored.add(circuits=late.pop(0))

    display = Display.of_terminal(plain=True)
    with pytest.raises(EnoughError):
        tor_records.show(
            stored.config, tor_records.CIRCUITS, CircuitFilter(purpose="GENERAL"), display, follow=True, sleep=sleep
        )
    shown = [row.split()[3] for row in rows(capsys.readouterr().out) if row.startswith("2023")]
    assert shown == ["7", "8", "3", "5"]


def test_before_the_start(tmp_path: Path) -> None:
    """A time before the run is no step of it."""
    m = typical(0)
    found = Stored(tmp_path)
    found.add([attrs.evolve(m, extra={**m.extra, "CONSENSUS": m.start - 15.463})])
    shown = rows(run(found, "show", "last"))
    assert "CONSENSUS 15.463 s before START" in shown
    assert not any("+-" in row for row in shown)


def test_show(stored: Stored) -> None:
    """The steps of both ends in their order, the circuit, tor's words, and all else."""
    text = run(stored, "show", typical(0).id)
    shown = rows(text)
    steps = [row.split()[3] for row in shown if re.match(r"[0-9.]+ s \+", row)]
    assert steps[:3] == ["START", "SOCKET", "CONNECT"]
    assert steps.index("DATAREQUEST") < steps.index("SERVERREQUEST") < steps.index("DATARESPONSE")
    assert "2 b 2 $" + "B" * 40 in shown or any(row.startswith("2 b ") for row in shown)
    assert "1.000 s 1 USER:NEW" in shown
    assert "FOO 5" in shown
    assert run(stored, "show", "failed").endswith("TOR/END/MISC: it went wrong\n")
    assert json.loads(run(stored, "show", "last", "--json"))["measurement"]["id"] == typical(1).id
    found = json.loads(run(stored, "show", typical(0).id, "--json"))
    assert (len(found["streams"]), found["circuits"][0]["circ_id"]) == (1, 7)
    code, _, err = stored.perfd("show", "nothing")
    assert code == 1
    assert "there is no measurement 'nothing'" in err


def line(n: int, **changes: object) -> str:
    m = typical(n, **changes)
    return f"2023-11-14 22:13:20+0000 [perfd.{m.experiment},default] {render(m)}\n"


def test_logs(stored: Stored) -> None:
    """A short line for each measurement; what is no measurement stays as it is."""
    (stored.directory / "perfd.log").write_text(
        "2023-11-14 22:13:19+0000 [-] something\x1b[2J else\n"
        + line(0)
        + line(1, experiment="other", outcome=Outcome.FAILED, errorcode="TOR/X", reason="broken", datacomplete=None)
    )
    assert run(stored, "logs").splitlines() == [
        "2023-11-14 22:13:19+0000 [-] something?[2J else",
        "2023-11-14 22:13:20  download-50k  default  50 KiB  ok  first byte 0.723 s  complete 1.235 s",
        "2023-11-14 22:18:20  other  default  50 KiB  failed  first byte 0.723 s  TOR/X: broken",
    ]
    assert run(stored, "logs", "-n", "1").count("\n") == 1
    assert run(stored, "logs", "--experiment", "other").count("\n") == 1
    found = [json.loads(each)["experiment"] for each in run(stored, "logs", "--json").splitlines()]
    assert found == ["download-50k", "other"]
    code, _, err = Stored(stored.directory / "none").perfd("logs")
    assert (code, "No such file" in err) == (1, True)


def test_logs_follow(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that come in pieces, and those of the file that takes the place of a rotated one."""
    path = stored.directory / "perfd.log"
    path.write_text(line(0))
    first, second = line(1)[:40], line(1)[40:]
    steps: list[Callable[[], object]] = [
        lambda: path.open("a").write(first),
        lambda: path.open("a").write(second),
        lambda: (path.open("a").write(line(2)), path.rename(path.with_name("perfd.log.2023"))),
        lambda: path.write_text(line(3)),
    ]

    class EnoughError(Exception):
        pass

    def sleep(seconds: float) -> None:
        if not steps:
            raise EnoughError
        steps.pop(0)()

    with pytest.raises(EnoughError):
        logs.show_logs(path, 20, None, Display.of_terminal(plain=True), follow=True, sleep=sleep)
    shown = [row[:19] for row in capsys.readouterr().out.splitlines()]
    assert shown == [f"2023-11-14 22:{13 + 5 * n}:20" for n in range(4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", 1_700_000_000 - 3600),
        ("90 min", 1_700_000_000 - 5400),
        ("today", 1_699_920_000),
        ("Yesterday", 1_699_833_600),
        ("2023-11", 1_698_796_800),
        ("now", 1_700_000_000),
        ("2023-11-14", 1_699_920_000),
        ("1700000000", 1_700_000_000),
    ],
)
def test_times(text: str, expected: float) -> None:
    """As people give them."""
    (since,) = [each for each in CIRCUITS if each.name == "since"]
    assert parse_time(text, 1_700_000_000.0, since.read) == expected


@pytest.mark.parametrize("text", ["2023-13", "1 x", "someday", "", "1h 5min x"])
def test_no_times(text: str) -> None:
    """What is none says what would be one."""
    (since,) = [each for each in CIRCUITS if each.name == "since"]
    with pytest.raises(ValueError, match=r"1h, yesterday or 2026-11|is no time"):
        parse_time(text, 1_700_000_000.0, since.read)


def test_csv(stored: Stored) -> None:
    """Each command that has --json also has --csv: one heading, one line a record, nothing but that."""
    for words, count, columns in (
        (("circuits",), 3, {"circ_id", "path"}),
        (("streams",), 2, {"stream_id", "attaches"}),
        (("events",), 2, {"keyword", "text"}),
        (("results",), 2, {"id", "first_byte_s", "errorcode"}),
        (("show", typical(0).id), 1, {"id", "first_byte_s"}),
        (("analyze",), 1, {"name", "outcomes_ok"}),
        (("config",), None, {"section", "option", "value", "from"}),
    ):
        found = list(csv.DictReader(io.StringIO(run(stored, *words, "--csv"))))
        assert count in (None, len(found)), words
        assert columns <= set(found[0]), words
    (first, *_) = csv.DictReader(io.StringIO(run(stored, "circuits", "--csv")))
    assert json.loads(first["path"])[0]["nickname"] == "relay0"
    assert stored.perfd("circuits", "--csv", "--reason", "NOTHING")[1].count("\n") == 1
