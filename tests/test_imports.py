"""The design's import table: who may import what from perfd, checked in the source."""

import ast
from pathlib import Path

import pytest

from tests.support.places import CHECKOUT

PACKAGE = CHECKOUT / "perfd"

# A module, or all of a package, and what it may import besides its own package. "*" is everything.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "clock": set(),
    "units": set(),
    "record": {"clock"},
    "interfaces": {"record"},
    "config": {"units"},
    "socks": {"clock", "record", "wire"},
    "wire": {"record"},
    "client": {"clock", "record", "wire"},
    "tor": {"clock", "config", "interfaces", "processes", "record", "socks"},
    "experiments": {
        "browser",
        "client",
        "clock",
        "config",
        "interfaces",
        "proxy",
        "record",
        "socks",
        "tor",
        "units",
    },
    "proxy": {"clock", "interfaces", "record", "socks", "tor", "units", "wire"},
    "cli": "*",
    "daemon": {"clock", "config", "formats", "interfaces", "record", "store", "units", "variant"},
    "logfile": {"clock", "interfaces", "record"},
    "store": {"daemon", "interfaces", "record", "variant"},
    "browser": {"clock", "config", "formats", "processes", "proxy", "record", "store", "tor"},
    "formats": {"browser", "clock", "record"},
    "variant": {"record"},
    "instance": set(),
    "web": {"clock", "config", "formats", "interfaces", "logfile", "record", "store", "tor", "units", "wire"},
    "preflight": {"config", "instance", "store"},
    "laboratory": {
        "browser",
        "clock",
        "config",
        "experiments",
        "instance",
        "interfaces",
        "proxy",
        "record",
        "tor",
        "units",
        "web",
    },
    "service": "*",
    "processes": set(),
}  # type: ignore[dict-item]


def imported(path: Path) -> set[str]:
    """The top-level modules of perfd that the file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{a.name}" for a in node.names] if node.module == "perfd" else [node.module or ""]
            )
        found |= {name.split(".")[1] for name in names if name.startswith("perfd.") and name != "perfd.__version__"}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_design(path: Path) -> None:
    """No module imports what the table does not allow it."""
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = ALLOWED[top]
    if allowed != "*":
        assert imported(path) - {top} <= allowed
