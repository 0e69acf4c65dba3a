"""``perfd compare`` with real tors on the private network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.instance import TestInstance, processes_in

pytestmark = pytest.mark.tor


@pytest.mark.long
def test_over_networks(tmp_path: Path) -> None:
    """Two networks with other seeds are made, one after the other, and are the units; nothing of them is left."""
    instance = TestInstance(tmp_path, "[perfd]\nsource = lab\n")
    done = instance.perfd(
        *("compare", "--arm", "plain=ConfluxEnabled 0", "--arm", "slow=ConfluxEnabled 0", "--size", "1KiB"),
        *("--networks", "2", "--relays", "8", "--network-seed", "5", "--delay", "1ms", "--blocks", "3"),
        *("--inject", "300%", "--json", "--records", "records.jsonl"),
        timeout=580,
    )
    assert done.returncode in (3, 4), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [each["name"] for each in found["networks"]] == ["seed 5", "seed 6"]
    assert all(each["blocks"] == 3 and each["effect"]["ratio"] > 1 for each in found["networks"])
    assert found["primary"]["ratio"] > 1
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert {row["links"].partition("seed=")[2] for row in rows} == {"5", "6"}
    assert not processes_in(tmp_path)


@pytest.mark.long
def test_injected_in_the_lab(tmp_path: Path) -> None:
    """Arms with other options of tor share data directories; B is slowed down as well, which is found."""
    instance = TestInstance(tmp_path, "[perfd]\nsource = lab\n")
    done = instance.perfd(
        *(
            "compare",
            "--arm",
            "plain=",
            "--arm",
            "noconflux=ConfluxEnabled 0",
            "--size",
            "50KiB",
            "--inject",
            "200%",
        ),
        *("--blocks", "5", "--block-size", "4", "--margin", "20%", "--until-decided", "--json"),
        *("--records", "records.jsonl"),
        timeout=400,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["primary"]["low"] > 0.2
    assert "LearnCircuitBuildTimeout 0 for both" in found["design"]["text"]
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    on_conflux = {
        arm: {bool(row["conflux"]) for row in rows if row["arm"] == arm} for arm in ("plain", "noconflux")
    }
    assert True in on_conflux["plain"]
    assert on_conflux["noconflux"] == {False}
    for arm in on_conflux:  # the directories were of both arms
        assert len({row["tor"] for row in rows if row["arm"] == arm}) == 4
