"""``perfd config``, and what ``perfd check`` sums up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.config import parse_config
from perfd.config.summary import disk, runs_a_day, summary
from perfd.instance import PROFILES, configuration

CONFIG = """\
[perfd]
source = here  # a comment
[server]
listen = 127.0.0.1:8081
[tor]
torrc =
    ConfluxEnabled 0
    Foo 1
[tor:b]
control = 127.0.0.1:9051
control-password = secret
[experiment:e]
interval = 1 h
tor = b
"""


@pytest.fixture
def settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], tuple[str, str]]:
    (tmp_path / "perfd.conf").write_text(CONFIG)
    assert main(["config", "--json", "--config", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    return {(s["section"], s["option"]): (s["value"], s["from"].rpartition("/")[2]) for s in found}


def test_config(settings: dict[tuple[str, str], tuple[str, str]]) -> None:
    """The value that counts, with its line, or that it is the default; a password is not shown."""
    assert settings["perfd", "source"] == ("here", "perfd.conf:2")
    assert settings["server", "listen"] == ("127.0.0.1:8081", "perfd.conf:4")
    assert settings["server", "public-address"] == ("127.0.0.1:8081", "default")
    assert settings["tor:b", "torrc"] == ("ConfluxEnabled 0 / Foo 1", "perfd.conf:6")
    assert settings["tor:b", "control-password"] == ("(not shown)", "perfd.conf:11")
    assert settings["experiment:e", "timeout"] == ("3595 s", "default")
    assert settings["experiment:e", "interval"] == ("1 h", "perfd.conf:13")
    assert ("perfd", "keep") not in settings


def test_config_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for each section."""
    (tmp_path / "perfd.conf").write_text(CONFIG)
    assert main(["config", "--config", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["[experiment:e]"] in rows
    assert ["keep-events", "30", "d", "default"] in rows


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are told as by check."""
    (tmp_path / "perfd.conf").write_text("[perfd]\nsourc = x\n")
    assert main(["config", "--config", str(tmp_path)]) == 1
    assert "did you mean 'source'" in capsys.readouterr().err


def test_summary() -> None:
    """What is measured, how much it is, and for whom."""
    config = parse_config(CONFIG.replace("tor = b", "tor = b, default\nsize = 1 MiB"), Path("perfd.conf"))
    assert runs_a_day(config.experiments[0]) == 48
    assert summary(config) == [
        "e: download of 1 MiB every 1 h over b, default",
        "a day: 48 runs, 48 MiB of payload, over 2 tors",
        f"disk: about {disk(config, 48, 2) / 2**20:.3g} MiB after a month",
        "server: 127.0.0.1:8081; random bytes for everybody, results over HTTP for everybody",
    ]
    assert disk(config, 48, 2) == 48 * (5120 + 3072) * 30 + (48 + 1000) * 1500 * 30


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles(profile: str) -> None:
    """Each is a perfd.conf without mistakes, but for the address that only the operator knows."""
    config = parse_config(configuration(profile).replace("#public-address", "public-address"), Path("perfd.conf"))
    assert config.experiments
    assert config.network == ("testnet" if profile in ("testnet", "lab") else "tor")
    assert summary(config)[-1].startswith("server: ")
