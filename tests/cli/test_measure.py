"""``perfd measure`` over the embedded SOCKS server: every type of experiment, and what the command refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from perfd.cli.command import main
from perfd.cli.measure import MeasureOptions, _may_be_kept
from perfd.config import parse_config
from tests.support.instance import SOCKS_CONFIG, TestInstance

RTT = ("-o", "rate=50", "-o", "duration=200ms")

PAIRED = """
[experiment:paired]
size = 20 KiB
optimistic = both
tor = default, none
interval = 1 h
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> TestInstance:
    """An instance without a daemon."""
    return TestInstance(tmp_path_factory.mktemp("measure"), SOCKS_CONFIG + PAIRED)


def measured(instance: TestInstance, *arguments: str) -> list[dict[str, Any]]:
    """What is printed as JSON; all of it went well."""
    done = instance.perfd("measure", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["outcome"] for each in found} == {"ok"}
    return found


def test_series(instance: TestInstance) -> None:
    """The requests and then the series itself."""
    options = ("--type", "series", "--size", "10KiB", "-o", "requests=4", "-o", "groups = 2", "--count", "1")
    *requests, series = measured(instance, *options)
    assert [each["type"] for each in requests] == ["request"] * 4
    assert [each["extra"]["GROUP"] for each in requests] == [0, 1, 0, 1]
    assert [each["id"] for each in requests] == [f"{series['id']}-{n:04}" for n in range(4)]
    assert (series["type"], series["payloadbytes"], series["extra"]["REQUESTSOK"]) == ("series", 40960, 4)
    assert (series["experiment"], series["network"]) == ("measure", "socks")


def test_keep_is_offered(tmp_path: Path) -> None:
    """Where a network was started for a measurement alone; not where it is kept, or somebody else's."""
    wanted = MeasureOptions(experiment=None, options={}, count=1, network=None)
    config = attrs.evolve(parse_config("", tmp_path / "perfd.conf"), testnet=tmp_path / "testnet")
    (tmp_path / "testnet").mkdir()
    assert _may_be_kept(config, wanted)
    assert not _may_be_kept(config, attrs.evolve(wanted, keep="10 min"))
    assert not _may_be_kept(attrs.evolve(config, testnet=tmp_path / "other"), wanted)
    assert not _may_be_kept(attrs.evolve(config, network="socks"), wanted)
    (tmp_path / "testnet" / "keep").write_text("600.0")
    assert not _may_be_kept(config, wanted)


def test_csv(instance: TestInstance) -> None:
    """The columns of `perfd export`, once, and a row for each."""
    done = instance.perfd("measure", "--csv", "--size", "10KiB", "--count", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["outcome"], row["filesize"]) for row in rows] == [("ok", "10240")] * 2


def test_staggered_series(instance: TestInstance) -> None:
    """As a table, where nobody watches plain lines."""
    options = ("-o", "requests=3", "-o", "stagger=50 ms", "--count", "1")
    done = instance.perfd("measure", "--type", "series", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert "REQUESTSOK=3" in rows[-2]
    assert [row[1] for row in rows[2:5]] == ["ok"] * 3
    assert rows[-1][:3] == ["median", "3/3", "ok"]


def test_rtt(instance: TestInstance) -> None:
    """Round-trip times of both phases."""
    options = ("-o", "rate=50", "-o", "duration=400ms", "--size", "1MiB", "--count", "2")
    for each in measured(instance, "--type", "rtt", *options):
        extra = each["extra"]
        assert (each["type"], each["status"], extra["RATE"]) == ("rtt", 101, 50.0)
        assert extra["RTTIDLECOUNT"] > 0
        assert 0 < extra["RTTIDLEMIN"] <= extra["RTTIDLEMEDIAN"] <= extra["RTTIDLEMAX"]
        assert len(extra["RTTIDLEMS"].split(",")) == extra["RTTIDLECOUNT"]
        assert extra["LOADBYTES"] > 0


def test_parallel(instance: TestInstance) -> None:
    """Streams at once."""
    for each in measured(instance, "-o", "parallel=3", "--size", "200KiB", "--count", "2"):
        assert each["payloadbytes"] == 3 * 204800
        assert each["extra"]["STREAMSOK"] == 3
        assert each["extra"]["STREAMBYTES"] == "204800,204800,204800"
        assert 1 / 3 <= each["extra"]["JAIN"] <= 1
        assert each["servercomplete"] is not None


def test_pairs(instance: TestInstance) -> None:
    """An experiment of perfd.conf with other options: pairs, over the proxy and without Tor."""
    options = ("--experiment", "paired", "--size", "30KiB", "--count", "2")
    found = measured(instance, *options)
    assert [each["tor"] for each in found] == ["default", "default", "none"] * 2
    assert [each["extra"].get("OPTIMISTIC") for each in found] == [0, 1, None, 1, 0, None]
    assert len({each["extra"]["PAIR"] for each in found if each["tor"] == "default"}) == 2
    for each in found:
        assert (each["experiment"], each["payloadbytes"]) == ("paired", 30720)
        if each["tor"] == "none":
            assert (each["request"], each["response"], each["endpointproxy"]) == (None, None, None)
        elif each["extra"]["OPTIMISTIC"]:
            assert each["request"] <= each["datarequest"] <= each["response"] <= each["dataresponse"]
        else:
            assert each["request"] <= each["response"] <= each["datarequest"] <= each["dataresponse"]


def test_direct_baseline(instance: TestInstance) -> None:
    """Types without Tor."""
    for kind, options in (("series", ("-o", "requests=2")), ("rtt", RTT)):
        found = measured(instance, "--type", kind, "--tor", "none", "--size", "10KiB", "--count", "1", *options)
        assert found[-1]["type"] == kind
        assert {(each["tor"], each["torversion"], each["circ_id"]) for each in found} == {("none", None, None)}
        assert found[0]["start"] <= found[0]["socket"] <= found[0]["connect"] <= found[0]["datarequest"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-o", "colour=red"), "perfd: on the command line: colour: unknown option"),
        (("--type", "rtt", "-o", "parallel=3"), "parallel: only used with type = download"),
        (("--type", "dwonload"), "type: 'dwonload' is not one of download"),
        (("--experiment", "slow"), "no experiment is named 'slow'; there is fast, paired"),
        (("--tor", "alpha"), "tor: no tor is named 'alpha'; there is default, none"),
        (("--server", "onion"), "there are no onion services with network = socks"),
        (("-o", "colour"), "'colour' is not OPTION=VALUE"),
        (("-o", "=red"), "'=red' is not OPTION=VALUE"),
        (("--count", "0"), "'0' is not a number from 1"),
    ],
)
def test_refused(
    instance: TestInstance, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    """Nothing is started, and it is said what is wrong."""
    try:
        code: Any = main(["measure", "--config", str(instance.directory), *arguments])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code != 0, out) == (True, "")
    assert expected in err
