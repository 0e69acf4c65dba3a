"""A campaign in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaign.run import main


@pytest.mark.long
def test_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three faults, a kill among them, without a tor: it recovers from each, and nothing is violated."""
    results = tmp_path / "results.json"
    code = main(["--faults", "3", "--seed", "286", "--networks", "socks", "--results", str(results)])
    said = capsys.readouterr().out
    assert code == 0, said
    written = json.loads(results.read_text())
    assert (written["instances"], len(written["injected"]), written["violations"]) == (1, 3, [])
    assert "| all | 3 | 3 |" in said
