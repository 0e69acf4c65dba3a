"""How to get what an extra adds depends on how Perfd was installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.extras import OF_DEBIAN, OWN, how_to_get

VENV = Path("/home/me/venv")


@pytest.mark.parametrize(
    ("extra", "package", "prefix", "expected"),
    [
        ("plots", VENV / "lib/python3.13/site-packages/perfd", VENV, "pip install 'perfd[plots]'"),
        ("plots", OF_DEBIAN / "perfd", Path("/usr"), "apt install python3-matplotlib"),
        ("browser", OF_DEBIAN / "perfd", Path("/usr"), "apt install python3-pil"),
        ("parquet", OF_DEBIAN / "perfd", Path("/usr"), "pipx install '.[parquet]'"),
        ("plots", OWN / "lib/python3.11/site-packages/perfd", OWN, "pipx install '.[plots]'"),
    ],
)
def test_how_to_get(extra: str, package: Path, prefix: Path, expected: str) -> None:
    """pip where it works, Debian's package where there is one, and else pipx, beside."""
    found = how_to_get(extra, package, prefix)
    assert expected in found
    assert ("pip install" in found) == (prefix == VENV)
