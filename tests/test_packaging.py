"""A wheel, and a wheel made of the sdist, installed into a new environment: everything is there and works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import attrs
import pytest

from perfd.config import parse_config
from tests.support.instance import free_port
from tests.support.places import CHECKOUT

SHARE = (
    *("share/perfd/perfd.tac", "share/perfd/perfd.service", "share/perfd/perfd.conf"),
    *("share/doc/perfd/README.md", "share/doc/perfd/LICENSE", "share/doc/perfd/docs/records.md"),
    *(
        "share/doc/perfd/docs/terminal.png",
        "share/perfd/prometheus/perfd.rules.yml",
        "share/perfd/grafana/fleet.json",
    ),
)
CARRIED = ("debian", "perfd", "twisted", "docs", "init", "bench", "tests")


@attrs.frozen
class Environment:
    """A virtual environment into which Perfd was installed; its dependencies are those of the tests."""

    directory: Path

    def run(self, *command: str, cwd: Path, code: int = 0) -> str:
        """What the command writes on standard output and error."""
        program = self.directory / "bin" / command[0]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [program, *command[1:]],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def built(source: Path, kind: str, into: Path) -> Path:
    """The wheel or sdist of a source tree."""
    subprocess.run(
        [sys.executable, "setup.py", "-q", kind, "--dist-dir", str(into)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Perfd as it is installed from its wheel, which was built in the checkout or in the unpacked sdist."""
    place = tmp_path_factory.mktemp(request.param)
    source = place / "source"
    for name in CARRIED:
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in CHECKOUT.iterdir():
        if file.is_file():
            shutil.copy(file, source)
    if request.param == "sdist":
        with tarfile.open(built(source, "sdist", place / "sdist")) as archive:
            archive.extractall(place / "unpacked", filter="data")
        (source,) = (place / "unpacked").iterdir()
    wheel = built(source, "bdist_wheel", place / "wheel")
    directory = place / "venv"
    venv.create(directory, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True)
    # The tests' own Perfd does not come along with the dependencies: .pth files are not read in a plain path.
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Environment(directory)


def test_files(environment: Environment, tmp_path: Path) -> None:
    """What belongs beside the package is there, and the package's own files are."""
    assert [name for name in SHARE if not (environment.directory / name).is_file()] == []
    code = "import perfd, perfd.socks; from perfd.logfile import parse; print(perfd.__file__)"
    assert environment.run("python", "-c", code, cwd=tmp_path).startswith(str(environment.directory))


def test_command(environment: Environment, tmp_path: Path) -> None:
    """The command, an instance and its control script, and the daemon from start to stop."""
    environment.run("perfd", "init", "here", cwd=tmp_path)
    instance = tmp_path / "here"
    config = instance / "perfd.conf"
    text = config.read_text(encoding="utf-8").replace("network = testnet", "network = socks")
    config.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}"), encoding="utf-8")
    control = f"{instance}/perfd"
    assert "no mistakes" in environment.run("perfd", "check", "--config", str(config), cwd=tmp_path)
    try:
        environment.run(control, "start", cwd=tmp_path)
        assert "running" in environment.run(control, "status", cwd=tmp_path)
    finally:
        environment.run(control, "stop", cwd=tmp_path)
    assert "was started" in (instance / "perfd.log").read_text(encoding="utf-8")


def test_twistd(environment: Environment, tmp_path: Path) -> None:
    """twistd knows the plugin, and the application file makes the same service."""
    code = "import sys; from twisted.scripts.twistd import run; sys.argv = ['twistd', '--help']; run()"
    assert re.search(r"^\s+perfd ", environment.run("python", "-c", code, cwd=tmp_path), re.MULTILINE)
    shutil.copy(environment.directory / "share/perfd/perfd.conf", tmp_path)
    shutil.copy(environment.directory / "share/perfd/perfd.tac", tmp_path)
    code = "import runpy; print(runpy.run_path('perfd.tac')['application'])"
    assert "Componentized" in environment.run("python", "-c", code, cwd=tmp_path)


def test_children(environment: Environment, tmp_path: Path) -> None:
    """The modules that the daemon runs as child processes are found by their names."""
    for module in ("perfd.daemon.upkeep.work", "perfd.browser.files.child", "perfd.browser.selenium_child"):
        code = f"from importlib.util import find_spec; print(find_spec('{module}').origin)"
        assert environment.run("python", "-c", code, cwd=tmp_path).startswith(str(environment.directory))


def test_debian_version() -> None:
    """The Debian package has the version of setup.py."""
    changelog = (CHECKOUT / "debian" / "changelog").read_text(encoding="utf-8")
    source = (CHECKOUT / "setup.py").read_text(encoding="utf-8")
    assert re.findall(r"^perfd \((.*)\)", changelog)[:1] == re.findall(r'version="(.*)"', source)


@pytest.mark.parametrize("unit", ["perfd.service", "perfd@.service"])
def test_debian_units(unit: str, tmp_path: Path) -> None:
    """The package's units run its command where its configuration is, and are as closed as Perfd's own."""
    original = CHECKOUT / "init" / "perfd.service"
    subprocess.run([CHECKOUT / "debian" / "units", original, tmp_path], check=True)
    made = (tmp_path / unit).read_text(encoding="utf-8")
    name = "-%i" if "@" in unit else ""
    for line in (
        "ExecStart=/usr/bin/perfd run",
        f"WorkingDirectory=/var/lib/perfd{name}",
        f"ReadWritePaths=/var/lib/perfd{name}",
    ):
        assert f"\n{line}\n" in made
    kept = [
        line for line in original.read_text(encoding="utf-8").splitlines() if "perfd" not in line.lower() and line
    ]
    assert [line for line in kept if line not in made and not line.startswith(("#", "Documentation"))] == []


def test_debian_config(tmp_path: Path) -> None:
    """The package's perfd.conf has no mistakes, and names the package's user."""
    done = subprocess.run(
        [CHECKOUT / "debian" / "instance-config", CHECKOUT / "perfd.conf"],
        check=True,
        capture_output=True,
        text=True,
    )
    config = parse_config(done.stdout, tmp_path / "perfd.conf")
    assert (config.user, config.group) == ("perfd", "perfd")
