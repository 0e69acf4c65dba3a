"""What tells the variants of an experiment apart is said once: by the fields of ``Variant``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from perfd.variant import COLUMNS, Variant, names
from tests.support.places import CHECKOUT
from tests.support.strategies import typical


def test_of_records() -> None:
    """Attributes of the record and keys of its extra; what is no flag is none."""
    m = typical(tor="a", server="onion", extra={"BROWSER": 5, "OPTIMISTIC": 1})
    assert Variant.of(m) == Variant("a", "onion", "5", 1)
    assert Variant.of(typical(tor=None, server=None, extra={"OPTIMISTIC": "x"})) == Variant(None, None)
    assert COLUMNS == ("tor", "server", "browser", "optimistic", "url")


def test_names() -> None:
    """Only that in which they differ; 0 is something."""
    pair = Variant("a", "public", None, 0), Variant("a", "public", None, 1)
    assert list(names("x", pair).values()) == ["x [OPTIMISTIC=0]", "x [OPTIMISTIC=1]"]
    assert list(names("x", [Variant("a", None), Variant("b", "onion")]).values()) == ["x [a -]", "x [b onion]"]


def test_a_further_field(tmp_path: Path) -> None:
    """A new field tells variants apart in the database, metrics, health, status, summaries and the API's schema."""
    command = [sys.executable, "-m", "tests.support.wider_variant", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["histories"] == [0, 1]
    for page, outcome in (("light", "ok"), ("heavy", "failed")):
        assert f'outcome="{outcome}",page="{page}",server="public",tor="default",url=""}} 1.0' in found["metrics"]
    assert found["health"] == [["light", 0], ["heavy", 1]]
    assert [line.split(":")[0] for line in found["status"]] == ["download-50k [light]", "download-50k [heavy]"]
    assert found["summary"] == "light"
    assert '"page": {"type": ["string", "null"], "description": "of page loads"}' in found["schema"]
