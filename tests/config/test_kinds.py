"""A kind of experiment is one record: whatever asks about kinds knows a new one from that alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.config import ConfigError, parse_config
from perfd.config.extensions import extensions
from perfd.config.kinds import KINDS, OTHER, REQUEST, RTT, kind_of, kinds
from perfd.daemon.metrics import Metrics
from perfd.experiments.highlights import highlights
from perfd.experiments.types import MAKERS
from perfd.variant import Variant
from tests.support.example_kind import install_example, look_again, write_example
from tests.support.instance import SOCKS_CONFIG, TestInstance
from tests.support.places import CHECKOUT
from tests.support.strategies import typical

CONFIG = "[experiment:a]\ntype = revisit\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the package of docs/extending.md is installed in."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    assert write_example(source) == ["pyproject.toml", "perfd_revisit.py"]
    install_example(source, site)
    return site


@pytest.fixture
def example(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Perfd finds the package meanwhile."""
    monkeypatch.syspath_prepend(site)
    look_again()
    yield
    monkeypatch.undo()
    look_again()


def broken(directory: Path, value: str) -> None:
    """A package whose entry points cannot be used."""
    (directory / "broken_kind.py").write_text("from perfd.extending import *\nEXTENSION = Kind\n")
    info = directory / "broken_kind-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-kind\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[perfd.experiments]\nbroken = {value}\ndownload = {value}\n")


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
    assert (default.type, default.size, dict(default.options)) == ("revisit", 51200, {"pause": 1.0})
    (other,) = parse_config(f"{CONFIG}pause = 3 s\nsize = 2 KiB", Path("perfd.conf")).experiments
    assert (other.size, dict(other.options)) == (2048, {"pause": 3.0})
    with pytest.raises(ConfigError, match=r"pause: only used with type = .* or revisit"):
        parse_config("[experiment:a]\ntype = upload\npause = 3 s\n", Path("perfd.conf"))


@pytest.mark.usefixtures("example")
def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd check` has its mistakes with all others."""
    (tmp_path / "perfd.conf").write_text(f"{CONFIG}pause = 8 min\noffset = 1 h\n")
    assert main(["check", "--config", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "[experiment:a] pause: must be shorter than the timeout" in err
    assert "[experiment:a] offset: must be smaller" in err


@pytest.mark.usefixtures("example")
def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd measure --help` explains it and its options."""
    with pytest.raises(SystemExit):
        main(["measure", "--help"])
    out = capsys.readouterr().out
    assert "revisit (default" in " ".join(out.split())
    assert f"revisit: {kinds()['revisit'].doc} size=50 KiB " in " ".join(out.split())
    assert "    pause=1 s                seconds between the two" in out


@pytest.mark.usefixtures("example")
def test_tables_and_metrics() -> None:
    """Tables show its highlights, and it has metrics."""
    m = typical(1, type="revisit", extra={"FIRSTBYTESAVED": 0.25, "COLOUR": "red"})
    assert highlights(m) == ["FIRSTBYTESAVED=0.25"]
    metrics = Metrics("test", "0", lambda: 0)
    metrics.watch("a", "revisit", [Variant("default", "public")])
    assert b'perfd_measurements_total{browser="",experiment="a"' in metrics.exposition()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:EXTENSION", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("broken_kind:EXTENSION", "TypeError: broken_kind:EXTENSION is no Extension"),
        ("perfd_revisit:EXTENSION", "ValueError: the kind of perfd_revisit:EXTENSION has the name 'revisit'"),
    ],
)
@pytest.mark.usefixtures("example")
def test_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, why: str) -> None:
    """What cannot be used is told where it is asked for; Perfd's own kinds are never another's."""
    broken(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    look_again()
    assert set(extensions().broken) == {"broken", "download"}
    assert (kinds()["download"], "revisit" in kinds()) == (KINDS["download"], True)
    with pytest.raises(ConfigError) as raised:
        parse_config("[experiment:a]\ntype = broken", Path("perfd.conf"))
    assert f"type: the package broken-kind cannot be used: {why}" in str(raised.value)
    assert parse_config("[experiment:a]\ntype = download", Path("perfd.conf")).experiments


def test_measured(site: Path, tmp_path: Path) -> None:
    """The package is measured with over a SOCKS proxy, and Perfd does not know the kind without it."""
    TestInstance(tmp_path, SOCKS_CONFIG)

    def perfd(*arguments: str, path: Path = site) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "perfd", *arguments, "--config", str(tmp_path)],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{CHECKOUT}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    measure = ("measure", "--type", "revisit", "-o", "pause=0.1 s", "--count", "2")
    done = perfd(*measure, "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(m["type"], m["outcome"], m["payloadbytes"]) for m in records] == [("revisit", "ok", 51200)] * 2
    assert all(abs(m["extra"]["FIRSTBYTESAVED"]) < 1 for m in records)
    shown = perfd(*measure)
    assert "2 x revisit 50 KiB over default" in shown.stdout
    assert "FIRSTBYTESAVED=" in shown.stdout
    refused = perfd(*measure, "-o", "pause=2 min")
    assert "pause: must be shorter than the timeout" in refused.stderr
    assert "'revisit' is not one of download, " in perfd(*measure, path=CHECKOUT).stderr
