"""Options of ``[tor:NAME]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import ConfigError, parse_config


def test_conflux_ux() -> None:
    """It is a line of torrc, and only where it is asked for."""
    text = "[tor:a]\nconflux-ux = latency\n[tor:b]\n[experiment:e]\ntor = a, b\n"
    lines = {tor.name: tor.torrc_lines for tor in parse_config(text, Path("perfd.conf")).tors}
    assert lines["a"] == ("ConfluxClientUX latency",)
    assert lines["b"] == ()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("conflux-ux = fast", "conflux-ux: 'fast' is not one of throughput, latency"),
        ("control = 127.0.0.1:9051\nconflux-ux = latency", "conflux-ux: not used with control"),
    ],
)
def test_conflux_ux_problems(options: str, problem: str) -> None:
    """Another word than tor knows, and a tor that was launched by somebody else."""
    with pytest.raises(ConfigError, match=problem):
        parse_config(f"[tor:a]\n{options}\n[experiment:e]\ntor = a\n", Path("perfd.conf"))
