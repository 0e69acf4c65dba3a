"""Torperf's .tpf files: reading, writing, and the rules that others enforce."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.formats import torperf, torperf_rules
from perfd.formats.errors import Damage, FormatError
from perfd.formats.torperf_line import CIRCUIT, MAX_PAIRS, REQUIRED, LineParser, format_line, parse
from perfd.record import Measurement, Outcome
from tests.support.format_strategies import runs
from tests.support.places import DATA, SHARED
from tests.support.strategies import measurements, typical

FILES = ("torperf-51200-2016-10-02.tpf", "op-nl-1048576-2017-04-11.tpf")

SMALL = Measurement(
    start=1475366401.234567,
    id="abc",
    source="example",
    experiment="download-50k",
    filesize=51200,
    outcome=Outcome.FAILED,
)
LINE = (
    "CONNECT=2.0 DATACOMPLETE=9.25 DATAREQUEST=6.0 DATARESPONSE=7.0 DIDTIMEOUT=0 FILESIZE=50 NEGOTIATE=3.0 "
    "READBYTES=60 REQUEST=4.0 RESPONSE=5.0 SOCKET=1.5 SOURCE=moria START=1.25 WRITEBYTES=10"
)


def pairs(line: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in line.split(" "))


def plain(value: str) -> str | float:
    """A number as such: 0.8 is written in several ways."""
    return float(value) if value.replace(".", "", 1).isdigit() else value


def read_text(text: str) -> list[Measurement | Damage]:
    return list(torperf.read(text.splitlines(keepends=True), "x.tpf"))


def read_file(path: Path) -> list[Measurement | Damage]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        return list(torperf.read(lines, path.name))


# Real files


def test_torperf_file() -> None:
    """A result of Torperf's own is read completely."""
    first = read_file(DATA / FILES[0])[0]
    assert isinstance(first, Measurement)
    assert first == Measurement(
        start=1475366401.23,
        socket=1475366401.23,
        connect=1475366401.23,
        negotiate=1475366401.23,
        request=1475366401.23,
        response=1475366401.82,
        datarequest=1475366401.82,
        dataresponse=1475366402.35,
        datacomplete=1475366403.10,
        dataperc={
            10: 1475366402.47,
            20: 1475366402.58,
            30: 1475366402.74,
            40: 1475366402.75,
            50: 1475366402.75,
            60: 1475366402.85,
            70: 1475366402.86,
            80: 1475366402.98,
            90: 1475366403.08,
        },
        id=first.id,
        source="torperf",
        experiment="torperf-51200",
        server="public",
        filesize=51200,
        outcome=Outcome.OK,
        writebytes=75,
        readbytes=51493,
        used_by=9619,
        used_at=1475366403.10,
        circ_id=6019,
        launch=1475366102.29,
        path=(
            "$C799F7DF9CD90979666B7E22682F2E2D387A60C1",
            "$DB0DBCA8F605D61B806571C81BA71E146062B741",
            "$F65E0196C94DFFF48AFBF2F5F9E3E19AAE583FD0",
        ),
        buildtimes=(0.767693, 1.006167, 1.411854),
        timeout=1500,
        quantile=0.8,
        guard="$C799F7DF9CD90979666B7E22682F2E2D387A60C1",
    )


def test_onionperf_file() -> None:
    """A result of OnionPerf's, with CRLF and the keys of 1.1."""
    first = read_file(DATA / FILES[1])[0]
    assert isinstance(first, Measurement)
    assert first.server == "onion"
    assert first.endpointlocal == "localhost:127.0.0.1:48934"
    assert first.endpointremote == "5klxwn5wiwnd4xkm.onion:0.0.0.0:80"
    assert first.hostnameremote == "op-nl"
    assert first.sourceaddress is None
    assert first.dataperc[0] == 1491891873.58
    assert first.dataperc[100] == first.datacomplete == 1491891877.51
    assert len(first.dataperc) == 11


@pytest.mark.parametrize(("directory", "counts"), [(DATA, (3, 2)), (SHARED, (287, 4))])
def test_all_of_the_files(directory: Path, counts: tuple[int, int]) -> None:
    """Every line of the real files is read, and comes back after writing."""
    if not directory.is_dir():
        pytest.skip("the shared data is not here")
    for name, count in zip(FILES, counts, strict=True):
        found = read_file(directory / name)
        assert len(found) == count
        read = [m for m in found if isinstance(m, Measurement)]
        assert read == found
        assert len({m.id for m in read}) == count
        assert read_text("".join(torperf.write(read, 6))) == read
        text = "".join(torperf.write(read))
        torperf_rules.check_file(name, text)
        assert {torperf.filename(m) for m in read} == {name}
        again = read_text(text)
        assert "".join(torperf.write(m for m in again if isinstance(m, Measurement))) == text
        for before, after in zip((directory / name).read_text().splitlines(), text.splitlines(), strict=True):
            if before.startswith("@"):
                continue
            old, new = pairs(before), pairs(after)
            del old["BUILDTIMES"]  # more decimals than ours
            assert {key: plain(new[key]) for key in old} == {key: plain(value) for key, value in old.items()}


# Writing


def test_missing_times_of_required_keys_only_are_zero() -> None:
    """A failure has all required keys, with 0.0 for what was not reached, and nothing else that is unknown."""
    assert format_line(SMALL) == (
        "CONNECT=0.0 DATACOMPLETE=0.0 DATAREQUEST=0.0 DATARESPONSE=0.0 DIDTIMEOUT=0 ENDPOINTLOCAL=NULL:0.0.0.0:0 "
        "ENDPOINTPROXY=NULL:0.0.0.0:0 ENDPOINTREMOTE=NULL:0.0.0.0:0 EXPERIMENT=download-50k FILESIZE=51200 "
        "HOSTNAMELOCAL=(null) HOSTNAMEREMOTE=(null) ID=abc NEGOTIATE=0.0 OUTCOME=failed READBYTES=0 REQUEST=0.0 "
        "RESPONSE=0.0 SOCKET=0.0 SOURCE=example SOURCEADDRESS=unknown START=1475366401.23 TYPE=download "
        "WRITEBYTES=0"
    )


def test_all_that_perfd_knows() -> None:
    """Our own fields are further keys in upper case; times have two decimals, or three, or six."""
    line = format_line(typical())
    torperf_rules.result(line)
    written = pairs(line)
    for key, value in {
        "EXPERIMENT": "download-50k",
        "TOR": "default",
        "TORVERSION": "0.4.9.11",
        "GUARD": "$" + "A" * 40,
        "CONFLUX": "1",
        "CONFLUX_CIRC_IDS": "101,102",
        "SERVERREQUEST": "1700000000.58",
        "BUILDTIMES": "0.10,0.20,0.30",
        "QUANTILE": "0.8",
        "START": "1700000000.01",
        "DATAPERC50": "1700000000.99",
        "PARTIAL51200": "1700000001.24",
    }.items():
        assert written[key] == value
    assert list(written) == sorted(written)
    assert pairs(format_line(typical(), 3))["SERVERREQUEST"] == "1700000000.579"
    assert pairs(format_line(typical(), 6))["SERVERREQUEST"] == "1700000000.579468"
    with pytest.raises(ValueError, match="decimals"):
        format_line(typical(), 4)


@pytest.mark.parametrize("missing", ["path", "buildtimes"])
def test_circuit_is_written_whole_or_not_at_all(missing: str) -> None:
    """Without a path, or without build times, there is no circuit in the line."""
    written = pairs(format_line(typical(**{missing: None})))
    assert not written.keys() & set(CIRCUIT)
    assert set(CIRCUIT) <= pairs(format_line(typical())).keys()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_didtimeout_is_for_errors(outcome: Outcome) -> None:
    """Every run that ended with an error says DIDTIMEOUT=1, as OnionPerf does; OUTCOME says what it was."""
    written = pairs(format_line(attrs.evolve(SMALL, outcome=outcome, errorcode="TOR/TIMEOUT")))
    assert written["DIDTIMEOUT"] == ("0" if outcome is Outcome.OK else "1")
    assert written["ERRORCODE"] == "TOR/TIMEOUT"
    assert written["OUTCOME"] == outcome.value


def test_values_are_encoded() -> None:
    """No value holds a space or an equals sign; texts that look like numbers stay texts."""
    extra = {"A": "5", "B": 5, "C": 1.5, "D": "1.5", "E": "-", "F": "", "key =": "x"}
    run = attrs.evolve(SMALL, reason="a = 100 %, Zoë\r\n", extra=extra)
    written = pairs(format_line(run))
    assert written["REASON"] == "a%20%3D%20100%20%25,%20Zo%C3%AB%0D%0A"
    assert (written["A"], written["B"], written["C"], written["D"]) == ("%35", "5", "1.5", "%31.5")
    assert "F" not in written
    read = parse(format_line(run, 6))
    assert read.reason == run.reason
    assert read.extra == {key: value for key, value in extra.items() if value != ""}


@pytest.mark.parametrize("key", ["START", "PATH", "DIDTIMEOUT", "DATAPERC5", "PARTIAL9", "REASON", ""])
def test_extra_must_not_take_the_formats_keys(key: str) -> None:
    """An experiment's value cannot pass for one of the format's."""
    with pytest.raises(FormatError, match="taken"):
        format_line(attrs.evolve(SMALL, extra={key: "x"}))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"filesize": 2**31}, "FILESIZE"),
        ({"readbytes": 2**31}, "READBYTES"),
        ({"used_by": 2**31}, "USED_BY"),
        ({"writebytes": -1}, "WRITEBYTES"),
        ({"socket": -1.0}, "SOCKET"),
        ({"socket": float("nan")}, "SOCKET"),
        ({"cc_rtt": float("inf")}, "CC_RTT"),
        ({"path": ("$abc",), "buildtimes": (0.1,)}, "PATH"),
    ],
)
def test_what_the_format_cannot_hold(changes: dict[str, object], key: str) -> None:
    """Values beyond the format's limits are refused with their key, not written."""
    with pytest.raises(FormatError) as error:
        format_line(attrs.evolve(SMALL, **changes))
    assert error.value.key == key


def test_skipped_slots_are_left_out() -> None:
    """Nothing was measured in them."""
    skipped = attrs.evolve(SMALL, outcome=Outcome.SKIPPED)
    assert list(torperf.write([skipped, SMALL])) == [f"@type torperf 1.1\n{format_line(SMALL)}\n"]


def test_files() -> None:
    """A file is of one source, one size and one UTC date of START."""
    midnight = 1475366400.0
    late, early = attrs.evolve(SMALL, start=midnight + 9.0), attrs.evolve(SMALL, start=midnight)
    before = attrs.evolve(SMALL, start=midnight - 0.001)
    large = attrs.evolve(SMALL, filesize=5242880)
    files: dict[str, list[Measurement]] = {}
    for run in (early, large, before, late):
        files.setdefault(torperf.filename(run), []).append(run)
    assert files == {
        "example-51200-2016-10-01.tpf": [before],
        "example-51200-2016-10-02.tpf": [early, late],
        "example-5242880-2016-10-02.tpf": [large],
    }
    for decimals in (2, 3, 6):
        for name, found in files.items():
            torperf_rules.check_file(name, "".join(torperf.write(found, decimals)))
    assert "START=1475366399.99 " in format_line(before)


@pytest.mark.parametrize("source", ["", "a.example", "a b", "a/b", "ä"])
def test_source_must_be_a_host_label(source: str) -> None:
    """CollecTor compares it with the first label of the host's name."""
    with pytest.raises(FormatError, match="cannot be the source of published files; use the first label"):
        torperf.filename(attrs.evolve(SMALL, source=source))


@given(runs())
def test_round_trip(run: Measurement) -> None:
    """With six decimals nothing is lost, and the line follows all rules."""
    line = format_line(run, 6)
    torperf_rules.result(line)
    assert parse(line) == run


@given(measurements(), st.sampled_from([2, 3, 6]))
def test_whatever_is_written_follows_the_rules(run: Measurement, decimals: int) -> None:
    """Any measurement at all is either refused or written so that metrics-lib takes it and we read it."""
    try:
        text = "".join(torperf.write([run], decimals))
    except FormatError:
        return
    if run.outcome is not Outcome.SKIPPED:
        torperf_rules.check(text)
        if float(pairs(text.splitlines()[1])["START"]):
            (read,) = read_text(text)
            assert isinstance(read, Measurement)
            assert (read.filesize, read.outcome, read.reason) == (run.filesize, run.outcome, run.reason or None)


# Reading


def test_zero_is_none() -> None:
    """A time of 0 is a missing one, in the deciles too."""
    run = parse(LINE.replace("RESPONSE=5.0", "RESPONSE=0.0") + " DATAPERC10=0.0 DATAPERC20=8.5 PARTIAL10=0.00")
    assert run.response is None
    assert run.dataperc == {20: 8.5}
    assert run.partial == {}


def test_unknown_keys_are_kept() -> None:
    """They are values of the experiment's type, and come back when written."""
    run = parse(LINE + " DATAPERC101=1.5 DATAPERCx=y GOT_INTROCIRC=3.25 PARTIAL05=1.0 START_RENDCIRC=1475366401.50")
    assert run.extra == {
        "DATAPERC101": 1.5,
        "DATAPERCx": "y",
        "GOT_INTROCIRC": 3.25,
        "PARTIAL05": 1.0,
        "START_RENDCIRC": 1475366401.5,
    }
    assert parse(format_line(run, 6)) == run


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("SOURCE=moria ", "", "SOURCE"),
        ("READBYTES=60 ", "", "READBYTES"),
        ("START=1.25", "START=1", "START"),
        ("START=1.25", "START=1.", "START"),
        ("START=1.25", "START=-1.25", "START"),
        ("START=1.25", "START=1_0.25", "START"),
        ("START=1.25", "START=1.25e3", "START"),
        ("START=1.25", "START=nan", "START"),
        ("START=1.25", "START=\u0661.5", "START"),
        ("START=1.25", "START=1,25", "START"),
        ("START=1.25", "START=0.0", "START"),
        ("START=1.25", "START=1.25 START=1.25", "START"),
        ("START=1.25", f"START={'9' * 400}.0", None),
        ("START=1.25", "START=1.25=1", None),
        ("START=1.25", "START", None),
        ("START=1.25", "=1.25", None),
        ("START=1.25", "SOURCEADDRESS= START=1.25", "SOURCEADDRESS"),
        ("START=1.25", " START=1.25", None),
        ("FILESIZE=50", "FILESIZE=x", "FILESIZE"),
        ("FILESIZE=50", "FILESIZE=5.0", "FILESIZE"),
        ("FILESIZE=50", f"FILESIZE={'9' * 19}", "FILESIZE"),
        ("DIDTIMEOUT=0", "DIDTIMEOUT=2", "DIDTIMEOUT"),
        ("DIDTIMEOUT=0", "DATAPERC10=x", "DATAPERC10"),
        ("DIDTIMEOUT=0", "PARTIAL10=x", "PARTIAL10"),
        ("DIDTIMEOUT=0", "PATH=$ABC", "PATH"),
        ("DIDTIMEOUT=0", "BUILDTIMES=1,2", "BUILDTIMES"),
        ("DIDTIMEOUT=0", "QUANTILE=x", "QUANTILE"),
        ("DIDTIMEOUT=0", "CONFLUX=yes", "CONFLUX"),
        ("DIDTIMEOUT=0", "OUTCOME=great", "OUTCOME"),
        ("moria", "mor\udce9ia", None),
        ("moria", "m" * 270000, None),
        (LINE, "", None),
        (LINE, " ".join(f"K{n}=v" for n in range(MAX_PAIRS + 1)), None),
    ],
)
def test_damaged_lines(old: str, new: str, key: str | None) -> None:
    """Each breach of the format is an error that names the key; the lines around it are read."""
    damaged = LINE.replace(old, new, 1)
    with pytest.raises(FormatError) as error:
        parse(damaged)
    assert error.value.key == key
    found = read_text(f"@type torperf 1.1\n{LINE}\n{damaged}\n{LINE}\n")
    assert [type(item) for item in found] == [Measurement, Damage, Measurement]
    assert found[1] == Damage("x.tpf", 3, error.value.message)
    assert str(found[1]).startswith("x.tpf:3: ")


def test_annotations() -> None:
    """All of 1.x is read; without an annotation the lines are read under protest; other types are passed over."""
    assert read_text(f"@type torperf 1.0\r\n{LINE}\r\n@type torperf 1.7\r\n{LINE}\r\n") == [parse(LINE)] * 2
    assert (
        read_text(f"@type torperf 1.0 \n{LINE}\n@type  torperf 1.1\t\r\n{LINE}\n") == [parse(LINE)] * 2
    )  # whatever spaces
    missing = read_text(f"{LINE}\n{LINE}\n")
    assert missing == [Damage("x.tpf", 1, "the file does not begin with @type torperf 1.1"), *[parse(LINE)] * 2]
    other = read_text(f"@type torperf 2.0\n{LINE}\n@type torperf 1.1\n{LINE}\n@type server 1.0\n{LINE}\n")
    assert [item.line if isinstance(item, Damage) else None for item in other] == [1, None, 5]


def test_alternating_shapes() -> None:
    """A line does not inherit anything from the one before, whichever keys it had."""
    parser = LineParser()
    full, short = format_line(typical(), 6), LINE
    for _ in range(3):
        assert parser(full) == typical()
        assert parser(short) == parse(short)


def test_ids_of_imported_lines() -> None:
    """The same run has the same id, whatever else its line tells; another run has another."""
    first = parse(LINE)
    assert len(first.id) == 32
    assert parse(LINE + " TIMEOUT=1500 PARTIAL10=3.5").id == first.id
    assert parse(LINE.replace("START=1.25", "START=1.250000")).id == first.id
    for old, new in (("START=1.25", "START=1.26"), ("FILESIZE=50", "FILESIZE=51"), ("moria", "siv")):
        assert parse(LINE.replace(old, new)).id != first.id
    assert parse(LINE + " ENDPOINTLOCAL=localhost:127.0.0.1:5").id != first.id
    assert parse(LINE + " ENDPOINTLOCAL=NULL:0.0.0.0:0").id == first.id


@pytest.mark.parametrize(
    ("line", "outcome", "datacomplete", "end"),
    [
        (LINE, Outcome.OK, 9.25, None),
        (LINE.replace("READBYTES=60", "READBYTES=49"), Outcome.FAILED, 9.25, None),
        (LINE.replace("DIDTIMEOUT=0", "DIDTIMEOUT=1"), Outcome.TIMEOUT, None, 9.25),
        (LINE.replace("=9.25", "=0.0"), Outcome.FAILED, None, None),
        (LINE.replace("=9.25", "=0.0").replace("DIDTIMEOUT=0 ", ""), Outcome.TIMEOUT, None, None),
        (LINE.replace("DIDTIMEOUT=0", "DIDTIMEOUT=1 ERRORCODE=TGEN/READ"), Outcome.FAILED, None, 9.25),
        (LINE.replace("DIDTIMEOUT=0", "DIDTIMEOUT=1 ERRORCODE=TOR/TIMEOUT"), Outcome.FAILED, None, 9.25),
        (LINE.replace("DIDTIMEOUT=0", "DIDTIMEOUT=1 ERRORCODE=TGEN/STALLOUT/END"), Outcome.TIMEOUT, None, 9.25),
        (LINE.replace("=0 ", "=1 ERRORCODE=TGEN/TIMEOUT ").replace("=9.25", "=1.25"), Outcome.TIMEOUT, None, None),
    ],
)
def test_outcomes_of_imported_lines(
    line: str, outcome: Outcome, datacomplete: float | None, end: float | None
) -> None:
    """DIDTIMEOUT, ERRORCODE and DATACOMPLETE give the outcome; what did not complete has no time of completion."""
    run = parse(line)
    assert (run.outcome, run.datacomplete, run.end) == (outcome, datacomplete, end)


@pytest.mark.parametrize(
    ("remote", "server"),
    [
        ("abc.onion:0.0.0.0:80", "onion"),
        ("1.2.3.4:1.2.3.4:80", "public"),
        ("NULL:0.0.0.0:0", None),
        (None, "public"),
    ],
)
def test_server_of_imported_lines(remote: str | None, server: str | None) -> None:
    """The remote endpoint tells onion from public; the oldest files know public only."""
    assert parse(f"{LINE} ENDPOINTREMOTE={remote}" if remote else LINE).server == server


@given(st.text() | st.lists(st.sampled_from([*LINE.split(" "), "A=1", "=", "x", "START=", "\x00"])).map(" ".join))
def test_any_text(text: str) -> None:
    """No line whatever raises anything but FormatError."""
    try:
        parse(text)
    except FormatError:
        return
    assert pairs(text).keys() >= REQUIRED


# The rules that the tests check with


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SOURCE=moria ", ""),
        ("START=1.25", "START=1"),
        ("FILESIZE=50", f"FILESIZE={2**31}"),
        ("DIDTIMEOUT=0", "DIDTIMEOUT=true"),
        ("DIDTIMEOUT=0", "DIDTIMEOUT=0 DIDTIMEOUT=0"),
        ("DIDTIMEOUT=0 ", ""),
        ("DIDTIMEOUT=0", "DIDTIMEOUT="),
        ("WRITEBYTES=10", "WRITEBYTES=10 USED_BY=3"),
        ("WRITEBYTES=10", "WRITEBYTES=10\x0b"),
        ("NEGOTIATE", "PATH=$" + "A" * 40 + " NEGOTIATE"),
        ("NEGOTIATE", "NEGOTIATE=1.0 PATH=$" + "A" * 40 + " X"),
        ("DATACOMPLETE", "CIRC_ID=5 DATACOMPLETE"),
        ("DATAREQUEST", "DATAPERC10=5 DATAREQUEST"),
    ],
)
def test_rules_refuse(old: str, new: str) -> None:
    """The independent check is not a rubber stamp."""
    torperf_rules.check(f"@type torperf 1.1\n{LINE}\n")
    if new == "" and old.startswith("DID"):
        torperf_rules.result(LINE.replace(old, new))  # not required
        return
    with pytest.raises(FormatError):
        torperf_rules.check(f"@type torperf 1.1\n{LINE.replace(old, new, 1)}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        LINE,
        f"{LINE}\n",
        f"@type torperf 1.1\n{LINE}",
        f"@type torperf 1.1\n{LINE}\n{LINE}\n",
        f"@type torperf 1.1\n@type torperf 1.1\n{LINE}\n",
        f"@type torperf 1.1\n{LINE}\n\n",
        f"@type torperf 1.1\n{LINE}\n@type torperf 1.1\n",
    ],
)
def test_rules_of_files_refuse(text: str) -> None:
    """Every line has one annotation before it and an end."""
    with pytest.raises(FormatError):
        torperf_rules.check(text)


@pytest.mark.parametrize(
    "name", ["moria-50-1970-01-02.tpf", "moria-51-1970-01-01.tpf", "siv-50-1970-01-01.tpf", "moria-50.tpf"]
)
def test_rules_of_names_refuse(name: str) -> None:
    """A file's name agrees with what is in it."""
    text = f"@type torperf 1.1\n{LINE}\n"
    torperf_rules.check_file("moria-50-1970-01-01.tpf", text)
    with pytest.raises(FormatError):
        torperf_rules.check_file(name, text)
