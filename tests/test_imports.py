"""The design's import table: which room of perfd/ may import from which, checked in the source.

A room is a package, or a module at the root. Within a room everything may import everything, as long as no circle
comes of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.places import CHECKOUT

PACKAGE = CHECKOUT / "perfd"

# A room, and the rooms that it may import from. "*" is everything.
ALLOWED: dict[str, set[str] | str] = {
    "": set(),
    "__main__": {"cli"},
    "analysis": set(),
    "browser": {"clock", "config", "extras", "processes", "reactor", "record", "tor"},
    "browser.files": {"browser", "extras", "processes", "proxy", "reactor", "record", "store", "whole"},
    "charts": {"analysis", "extras", "processes"},
    "cli": "*",
    "client": {"clock", "record", "wire"},
    "clock": set(),
    "comparison": {
        "analysis",
        "charts",
        "clock",
        "config",
        "experiments",
        "interfaces",
        "processes",
        "reactor",
        "record",
        "socks",
        "tor",
        "units",
    },
    "config": {"units"},
    "daemon": {
        "clock",
        "config",
        "instance",
        "interfaces",
        "logfile",
        "pages",
        "reactor",
        "record",
        "store",
        "tor.events",
        "units",
        "variant",
    },
    "daemon.upkeep": {
        "clock",
        "config",
        "formats",
        "processes",
        "reactor",
        "record",
        "store",
        "summaries",
        "whole",
    },
    "descriptors": {"config"},
    "experiments": {
        "browser",
        "client",
        "clock",
        "config",
        "formats",
        "interfaces",
        "proxy",
        "record",
        "socks",
        "tor",
        "tor.bootstrap",
        "tor.circuits",
        "tor.events",
        "tor.guards",
        "wire",
    },
    "extras": set(),
    "extending": {"clock", "config", "experiments", "record", "units"},
    "formats": {"config", "extras", "record"},
    "instance": {"processes"},
    "interfaces": {"record", "socks", "wire"},
    "laboratory": {
        "browser",
        "clock",
        "config",
        "daemon",
        "descriptors",
        "experiments",
        "instance",
        "interfaces",
        "proxy",
        "reactor",
        "routes",
        "socks",
        "tor",
        "tor.bootstrap",
        "tor.circuits",
        "tor.clients",
        "tor.events",
        "tor.guards",
        "tor.testnet",
        "web",
        "web.targets",
        "units",
    },
    "logfile": {"clock", "formats", "record", "whole"},
    "pages": {
        "analysis",
        "charts",
        "comparison",
        "processes",
        "reactor",
        "record",
        "reports",
        "store",
        "summaries",
        "units",
        "variant",
    },
    "preflight": {"comparison", "config", "extras", "instance", "processes", "store", "tor", "tor.testnet"},
    "processes": {"reactor"},
    "proxy": {"clock", "reactor", "socks", "tor", "tor.events", "wire"},
    "reactor": set(),
    "record": set(),
    "reports": {"analysis", "charts", "record", "units", "variant"},
    "routes": {"clock", "daemon.upkeep", "pages", "store", "web", "web.results", "web.targets"},
    "service": "*",
    "socks": {"clock", "record", "wire"},
    "store": {"clock", "record", "units", "variant"},
    "summaries": {"reports", "store", "variant"},
    "tor": {"clock", "config", "processes", "reactor", "socks", "tor.events", "whole", "wire"},
    "tor.bootstrap": {"clock", "reactor", "record", "socks", "tor", "tor.events"},
    "tor.circuits": {"clock", "config", "record", "tor", "tor.events", "tor.guards"},
    "tor.clients": {
        "client",
        "clock",
        "config",
        "interfaces",
        "processes",
        "reactor",
        "record",
        "socks",
        "tor",
        "tor.testnet",
    },
    "tor.events": {"clock", "reactor", "record", "wire"},
    "tor.guards": {"clock", "config", "tor", "tor.events"},
    "tor.testnet": {"clock", "config", "processes", "reactor", "tor", "tor.testnet.links", "whole"},
    "tor.testnet.links": {"config", "processes"},
    "units": set(),
    "variant": {"record"},
    "web": {"config", "daemon", "descriptors", "pages", "reactor", "store", "wire"},
    "web.results": {"formats", "pages", "processes", "record", "store", "variant", "web", "wire"},
    "web.targets": {"clock", "store", "units", "web", "wire"},
    "whole": set(),
    "wire": {"record"},
}


def module_name(path: Path) -> str:
    """The name below ``perfd`` of a file: ``web.site``, ``web`` for its ``__init__``, "" for perfd's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = {name for name, path in MODULES.items() if path.name == "__init__.py" or "." not in name}


def room_of(module: str) -> str:
    """The package that ``module`` stands in; a module at the root is its own room."""
    return module if module in ROOMS else module.rpartition(".")[0]


def imported(module: str) -> Iterator[str]:
    """The modules of perfd that ``module`` imports, wherever in the file."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("perfd."):
                below = name.removeprefix("perfd.")
                yield below if below in MODULES else below.rpartition(".")[0]
            elif name == "perfd":
                yield ""


GRAPH = {module: {name for name in imported(module) if name != module} for module in MODULES}
ROOM_GRAPH: dict[str, set[str]] = {}
for _module, _names in GRAPH.items():
    ROOM_GRAPH.setdefault(room_of(_module), set()).update(
        {room_of(name) for name in _names} - {room_of(_module), ""}
    )


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of ``graph``, as the nodes on the way round; empty if there is none."""
    done: set[str] = set()

    def follow(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph.get(node, ())):
            if found := follow(following, [*way, node]):
                return found
        done.add(node)
        return []

    for node in sorted(graph):
        if found := follow(node, []):
            return found
    return []


@pytest.mark.parametrize("room", sorted(ROOM_GRAPH))
def test_imports_follow_the_design(room: str) -> None:
    """No room imports from one that the table does not allow it."""
    allowed = ALLOWED[room]
    assert allowed == "*" or ROOM_GRAPH[room] <= set(allowed)


def test_table_has_no_other_rows() -> None:
    """Each row is a room, and only the daemon and the commands may import everything."""
    assert set(ALLOWED) == ROOMS
    assert {room for room, allowed in ALLOWED.items() if allowed == "*"} <= {"service", "cli"}


def test_table_says_no_more_than_is_used() -> None:
    """What a row allows is imported somewhere in the room."""
    unused = {
        room: set(allowed) - ROOM_GRAPH.get(room, set()) for room, allowed in ALLOWED.items() if allowed != "*"
    }
    assert {room: names for room, names in unused.items() if names} == {}


def test_no_circle_of_rooms() -> None:
    """Data goes one way through the house."""
    assert circle(ROOM_GRAPH) == []


def test_no_circle_of_modules() -> None:
    """Nor is there a circle within a room."""
    assert circle(GRAPH) == []


def test_circle() -> None:
    """A circle is found, and told as the way round."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_test_imports_a_test() -> None:
    """What several tests need is in tests/support/."""
    test = re.compile(r"^(from|import) tests\.\S*\btest_|^from tests\.\S* import test_", re.MULTILINE)
    files = sorted((CHECKOUT / "tests").rglob("*.py"))
    assert [path for path in files if test.search(path.read_text(encoding="utf-8"))] == []
