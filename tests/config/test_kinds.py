"""A kind of experiment is one record: whatever asks about kinds knows a new one from that alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.config import ConfigError, parse_config
from perfd.config.kinds import KINDS, OTHER, REQUEST, RTT, kind_of
from perfd.daemon.metrics import Metrics
from perfd.experiments.highlights import highlights
from perfd.experiments.types import MAKERS
from perfd.variant import Variant
from tests.support.example_kind import EXAMPLE, with_example, without_example
from tests.support.instance import SOCKS_CONFIG, TestInstance
from tests.support.places import CHECKOUT
from tests.support.strategies import typical

CONFIG = "[server]\nmax-connections = 7\n[experiment:a]\ntype = example\n"


@pytest.fixture
def example() -> Iterator[None]:
    """Perfd knows the kind ``example`` meanwhile."""
    with_example()
    yield
    without_example()


def test_kinds_of_records() -> None:
    """Records are of a kind of perfd.conf, or of a part of one, or of what others have measured."""
    assert (kind_of("rtt"), kind_of("request"), kind_of("telepathy")) == (RTT, REQUEST, OTHER)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_records_of_kinds(kind: object) -> None:
    """Defaults can be read, and each kind is run by something; pages are loaded where there is a browser."""
    for option in getattr(kind, "options", ()):
        assert option.default is None or option.read(option.default) is not None
        assert option.attribute.isidentifier()
    name = getattr(kind, "name", "")
    (experiment,) = parse_config(f"[experiment:a]\ntype = {name}", Path("perfd.conf")).experiments
    assert (name in MAKERS) != bool(experiment.browsers)


@pytest.mark.usefixtures("example")
def test_config() -> None:
    """Its options are read, with their defaults, and refused for other kinds."""
    (default,) = parse_config(CONFIG, Path("perfd.conf")).experiments
    assert (default.type, default.size, dict(default.options)) == ("example", 1024, {"times": 2})
    (other,) = parse_config(f"{CONFIG}times = 3\nsize = 2 KiB", Path("perfd.conf")).experiments
    assert (other.size, dict(other.options)) == (2048, {"times": 3})
    with pytest.raises(ConfigError, match="times: only used with type = example"):
        parse_config("[experiment:a]\ntimes = 3", Path("perfd.conf"))


@pytest.mark.usefixtures("example")
def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd check` has its mistakes with all others."""
    (tmp_path / "perfd.conf").write_text(f"{CONFIG}times = 8\noffset = 1 h\n")
    assert main(["check", "--config", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "[experiment:a] times: too often" in err
    assert "[experiment:a] offset: must be smaller" in err


@pytest.mark.usefixtures("example")
def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd measure --help` explains it and its options."""
    with pytest.raises(SystemExit):
        main(["measure", "--help"])
    out = capsys.readouterr().out
    assert "pageload, example (default" in " ".join(out.split())
    assert "  example: the same download again and again\n    size=1 KiB " in out
    assert "    times=2                  how often" in out


@pytest.mark.usefixtures("example")
def test_tables_and_metrics() -> None:
    """Tables show its highlights, and its durations are counted if they say anything."""
    m = typical(1, type="example", extra={"TIMES": 3, "COLOUR": "red"})
    assert highlights(m) == ["TIMES=3"]
    metrics = Metrics("test", "0", lambda: 0)
    metrics.watch("a", "example", [Variant("default", "public")])
    assert b'perfd_complete_seconds_count{browser="",experiment="a"' in metrics.exposition()


def test_laboratory(tmp_path: Path) -> None:
    """It is measured over a SOCKS proxy by what its row names, and refused like any other."""
    TestInstance(tmp_path, SOCKS_CONFIG)
    assert EXAMPLE.name not in KINDS

    def perfd(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "tests.support.example_kind",
            *arguments,
            "--config",
            str(tmp_path),
        ]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)

    done = perfd("measure", "--type", "example", "-o", "times=3", "--count", "2", "--json")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        m = json.loads(line)
        assert (m["type"], m["outcome"], m["payloadbytes"], m["extra"]["TIMES"]) == ("example", "ok", 1024, 3)
    assert len(done.stdout.splitlines()) == 2
    shown = perfd("measure", "--type", "example", "--count", "1")
    assert "1 x example 1 KiB over default" in shown.stdout
    assert "TIMES=2" in shown.stdout
    refused = perfd("measure", "--type", "example", "-o", "times=0")
    assert "times: must be greater than 0" in refused.stderr
