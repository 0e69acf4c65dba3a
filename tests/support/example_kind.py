"""The kind of experiment of docs/extending.md: a package that is built from the document, and installed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

from perfd.config.extensions import extensions
from perfd.config.kinds import kinds
from tests.support.places import CHECKOUT

_FILE = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def write_example(directory: Path) -> list[str]:
    """Write the files that the document shows; their names."""
    files = _FILE.findall((CHECKOUT / "docs/extending.md").read_text())
    for name, content in files:
        (directory / name).write_text(content)
    return [name for name, _ in files]


def install_example(source: Path, site: Path) -> None:
    """Install them into a directory for ``sys.path``, as pip does it, and from no index."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--target", str(site), str(source)),
        ],
        check=True,
        timeout=120,
    )


def look_again() -> None:
    """Have Perfd look for the kinds of other packages anew."""
    importlib.invalidate_caches()
    extensions.cache_clear()
    kinds.cache_clear()
