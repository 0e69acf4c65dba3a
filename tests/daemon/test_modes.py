"""Who may read what the daemon made before ``results`` was changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perfd.config import load_config
from perfd.daemon.modes import close_to_others

CONFIG = "[server]\nresults = {results}\n[experiment:a]\n"
MADE = ("perfd.log", "perfd.log.2026-11-01", "perfd.lock", "perfd.sqlite", "perfd.sqlite-wal", "perfd.sqlite-shm")


@pytest.mark.parametrize(("results", "mode"), [("all", 0o644), ("local", 0o640), ("none", 0o640)])
def test_files_of_before(tmp_path: Path, results: str, mode: int) -> None:
    """They are closed to others where results are not for all; the operator's own files stay as they are."""
    (tmp_path / "perfd.conf").write_text(CONFIG.format(results=results))
    for name in (*MADE, "perfd.conf", "notes"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    for name in ("har", "archive"):
        (tmp_path / name).mkdir(mode=0o755)
    close_to_others(load_config(tmp_path))
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in MADE} == {mode}
    of_directories = {(tmp_path / name).stat().st_mode & 0o777 for name in ("har", "archive")}
    assert of_directories == {0o755 if results == "all" else 0o750}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("perfd.conf", "notes")} == {0o644}


def test_links(tmp_path: Path) -> None:
    """What a link in their place leads to is not touched."""
    (tmp_path / "perfd.conf").write_text(CONFIG.format(results="none"))
    other = tmp_path / "other"
    other.touch()
    other.chmod(0o666)
    (tmp_path / "perfd.log").symlink_to(other)
    os.symlink(tmp_path / "nowhere", tmp_path / "perfd.sqlite")
    close_to_others(load_config(tmp_path))
    assert other.stat().st_mode & 0o777 == 0o666
