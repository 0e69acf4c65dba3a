"""``perfd compare`` with arms that are measured at once, over the embedded SOCKS server."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.instance import SOCKS_CONFIG, TestInstance, running, wait_for

ARMS = ("--arm", "plain=", "--arm", "same=", "--size", "20KiB", "--seed", "7", "--block-size", "4")


ARM_NAMES = ("plain", "same")

TESTNET = ("--arm", "a=", "--arm", "b=", "--network", "testnet")


def took(row: dict[str, Any]) -> float:
    """Seconds from the start to the last byte."""
    return float((row["datacomplete"] or math.inf) - row["start"])


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> TestInstance:
    """An instance without a daemon."""
    return TestInstance(tmp_path_factory.mktemp("compare"), SOCKS_CONFIG)


def test_injected(instance: TestInstance, tmp_path: Path) -> None:
    """B is slowed down to twice the time, which is found; its records say which arm and block they are of."""
    records = tmp_path / "records.jsonl"
    options = ("--inject", "100%", "--blocks", "10", "--until-decided", "--margin", "10%", "--json")
    done = instance.perfd("compare", *ARMS, *options, "--records", str(records))
    # What is concluded depends on how busy the machine is; that B is slowed down does not, see below.
    assert done.returncode in (0, 3, 4), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["design"]["seed"], found["design"]["looks"]) == (7, 5)
    assert found["blocks"] == 2 * found["design"]["look"]
    assert "pilot: 6 blocks and one to warm up took" in done.stderr
    assert "same is slowed down by" in done.stderr
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    assert {row["arm"] for row in rows} == {"plain", "same"}
    assert len(rows) == 8 * (7 + found["blocks"])
    assert sorted({row["block"] for row in rows}) == list(range(-7, found["blocks"]))
    fastest = {arm: min(took(row) for row in rows if row["arm"] == arm and row["block"] >= 0) for arm in ARM_NAMES}
    delay = float(re.findall(r"slowed down by ([0-9.]+) ms", done.stderr)[0]) / 1e3
    assert fastest["same"] - fastest["plain"] > delay / 2


def test_all_blocks(instance: TestInstance) -> None:
    """Without looks all blocks are measured, and the sentence comes first."""
    done = instance.perfd("compare", *ARMS, "--blocks", "5", "--margin", "200%")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 blocks; 0 is" in done.stdout.splitlines()[0]
    assert "blocks of 4 + 4 runs in random order" in done.stdout


def test_interrupted(instance: TestInstance, tmp_path: Path) -> None:
    """What was measured is shown, but neither the sentence nor the exit code says anything about the margin."""
    records = tmp_path / "records.jsonl"
    command = [sys.executable, "-P", "-m", "perfd", "compare", *ARMS, "--blocks", "5000", "--json"]
    with running(
        [*command, "--records", str(records)],
        cwd=instance.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: records.exists() and '"block": 8,' in records.read_text(), "some blocks")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert "interrupted; what was measured until now is shown" in err
    found = json.loads(out)
    assert (found["verdict"], found["design"]["interrupted"]) == ("interrupted", True)
    assert "it was interrupted, so that nothing is said about the margin of 0 %" in found["sentence"]
    assert found["blocks"] >= 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--arm", "a=tor=alpha", "--arm", "b=tor=beta"), 1, "has tors of its own"),
        (("--arm", "a=ConfluxEnabled 0", "--arm", "b="), 1, "no tor with network = socks"),
        (("--arm", "a=", "--arm", "b=nonsense=1"), 1, "unknown option"),
        (("--arm", "a="), 2, "two of --arm"),
        (("--arm", "a=", "--arm", "b=", "--delay", "5ms"), 1, "--delay is for network = testnet, not socks"),
        ((*TESTNET, "--delay", "soon"), 1, "delay: 'soon'"),
        ((*TESTNET, "--relays", "3"), 1, "relays: must be 4 to 50"),
        ((*TESTNET, "--delay", "5ms", "--jitter", "9ms"), 1, "jitter: must not be more than delay"),
        ((*TESTNET, "--loss", "1%", "--links", "proxy"), 1, "loss: needs links = netns"),
        ((*TESTNET, "--preset", "village"), 1, "preset: 'village'"),
        (("--arm", "a=", "--arm", "b=", "--guard", "A" * 40), 2, "--guard is for stored measurements"),
        (("--arm", "a=", "--arm", "b", "--size", "1KiB"), 2, "is not NAME=OPTIONS"),
    ],
)
def test_refused(instance: TestInstance, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Mistakes are told before anything is started."""
    done = instance.perfd("compare", *arguments)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
