"""The design's import table: who may import what from perfd, checked in the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "perfd"

PURE = {"clock", "record", "units"}
READERS = {*PURE, "interfaces"}

# A module, or all of a package, and what it may import besides its own package. "*" is everything.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "clock": set(),
    "units": set(),
    "record": {"clock"},
    "interfaces": {"record"},
    "values": {"units"},
    "config": {"units", "values"},
    "socks": {"arrival", "clock", "record"},
    "keystream": set(),
    "progress": {"record"},
    "http_response": {"record"},
    "arrival": set(),
    "delivery": set(),
    "fetch": {"arrival", "clock", "http_response", "progress", "record"},
    "upload_client": {"clock", "fetch", "http_response", "keystream", "progress", "record"},
    "tor": {"clock", "record", "values", "interfaces"},
    "echo": {"arrival", "clock", "delivery", "fetch", "record"},
    "experiments": {*READERS, "browser", "config", "echo", "fetch", "proxy", "socks", "tor", "upload_client"},
    "proxy": {*READERS, "delivery", "socks", "tor"},
    "proxy_command": "*",
    "schedule": {"clock", "record", "interfaces"},
    "sinks": {"record", "interfaces"},
    "logfile": {"record", "interfaces"},
    "logobserver": {"clock"},
    "store": {"record", "interfaces", "sinks", "variant"},
    "browser": {"clock", "config", "formats", "load_files", "proxy", "record", "tor"},
    "formats": {"clock", "record", "browser"},  # of browser its records only
    "variant": {"record"},
    "highlights": {"record"},
    "health": {*READERS, "variant"},
    "metrics": {*READERS, "variant"},
    "instance": set(),
    "load_files": set(),
    "web": {*READERS, "store", "formats", "keystream", "load_files", "logfile", "progress"},
    "terminal": set(),
    "arguments": {"instance"},
    "foreground": set(),
    "control": {"config", "instance", "values", "variant"},
    "preflight": {"config", "instance", "store", "values"},
    "servers": {"tor", "values", "web"},
    "laboratory": {
        *(*READERS, "browser", "config", "experiments", "instance", "proxy", "servers", "tor", "values", "web"),
    },
    "standalone": {"config", "instance", "preflight", "record", "terminal", "tor", "values"},
    "measure": "*",
    "testnet_command": {"foreground", "terminal", "tor"},
    "data_commands": "*",
    "days": {"formats", "record", "store"},
    "export": {"config", "days", "formats", "record", "store", "terminal"},
    "import_readers": {"formats", "record", "store"},
    "importing": {"config", "formats", "import_readers", "store", "terminal"},
    "archive": {"days", "formats", "record", "store"},
    "retention": {"store"},
    "daily": {"archive", "clock", "config", "days", "load_files", "retention", "store"},
    "results_command": {"config", "highlights", "record", "store", "terminal", "units", "variant"},
    "series_command": {"config", "record", "results_command", "store"},
    "cli": "*",
    "service": "*",
    "testing": "*",
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
