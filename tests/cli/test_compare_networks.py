"""Comparisons over several networks, as far as the processes that measure are concerned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from perfd.analysis.blocks import Block
from perfd.cli import compare_networks
from perfd.cli.comparing import Showing
from perfd.cli.trial import Trial
from perfd.comparison.conclusion import Conclusion, Design, TooLittleError, conclude
from perfd.comparison.metrics import Samples
from perfd.config.values import Arm


def one(seed: int) -> Conclusion:
    """That of one network."""
    chance = Random(seed)
    blocks = [
        Block(
            [chance.lognormvariate(0, 0.05) for _ in range(6)], [chance.lognormvariate(0.1, 0.05) for _ in range(6)]
        )
        for _ in range(10)
    ]
    outcomes = [Block([1.0] * 6, [1.0] * 6) for _ in blocks]
    design = Design(a="plain", b="other", primary="complete", margin=0.0, seed=seed, text="blocks of 6 + 6")
    return conclude(design, Samples({"complete": blocks}, outcomes))


def comparison(tmp_path: Path, count: int) -> compare_networks.NetworksComparison:
    trial = Trial(
        a=Arm.parse("plain="),
        b=Arm.parse("other="),
        options={"size": "1 KiB"},
        network="testnet",
        links={"relays": "8"},
        using={},
        until_decided=False,
        effect=0.03,
        blocks=10,
        block_size=None,
        seed=1,
    )
    path = tmp_path / "perfd.conf"
    path.write_text("[perfd]\nsource = lab\n")
    return compare_networks.NetworksComparison(path, trial, Showing("complete", 0.0, None, None), count, None)


def test_one_that_could_not_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were measured are put together, and the other is told; with fewer than two nothing is said."""
    found: list[Any] = [one(1), "the private network does not start", one(3)]
    over = comparison(tmp_path, 3)
    monkeypatch.setattr(over, "_measured", lambda _: found.pop(0))
    said = over.run()
    assert [each.name for each in said.networks] == ["seed 1", "seed 3"]
    assert "seed 2: the private network does not start" in said.warnings
    assert "1 of 3 networks were not measured to the end" in said.warnings
    found[:] = [one(1), "full disk", "full disk"]
    over = comparison(tmp_path, 3)
    monkeypatch.setattr(over, "_measured", lambda _: found.pop(0))
    with pytest.raises(
        TooLittleError, match="1 networks were measured, and at least 2 are needed: seed 2: full disk"
    ):
        over.run()


SLOW = """
import sys, time
sys.stdin.buffer.read()
print("begun", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal ends the process that measures, and what was measured whole is shown, without a verdict."""
    over = comparison(tmp_path, 4)
    measured = over._measured
    done = [one(1), one(2)]

    def measure(trial: Trial) -> Any:
        if done:
            return done.pop(0)
        monkeypatch.setattr(compare_networks, "module_command", lambda _: [sys.executable, "-c", SLOW])
        subprocess.Popen(["sh", "-c", f"sleep 1; kill -TERM {os.getpid()}"])
        return measured(trial)

    monkeypatch.setattr(over, "_measured", measure)
    before = signal.getsignal(signal.SIGTERM)
    said = over.run()
    assert said.verdict == "interrupted"
    assert [each.name for each in said.networks] == ["seed 1", "seed 2"]
    assert "2 of 4 networks were not measured to the end" in said.warnings
    assert signal.getsignal(signal.SIGTERM) is before
