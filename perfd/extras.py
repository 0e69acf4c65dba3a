"""How what an extra adds is had where Perfd is installed: by pip, or of Debian's packages."""

from __future__ import annotations

import sys
from pathlib import Path

OF_DEBIAN = Path("/usr/lib/python3/dist-packages")
"""Where Debian's package for Debian 13 has Perfd, which uses Debian's own libraries."""

OWN = Path("/opt/venvs/perfd")
"""Where the package for Debian 12 has Perfd and its libraries."""

PACKAGES = {"plots": "python3-matplotlib", "browser": "python3-pil"}
"""The extras that Debian has a package for, which is new enough."""


def how_to_get(extra: str, package: Path = Path(__file__).parent, prefix: Path = Path(sys.prefix)) -> str:
    """What to do for an extra of setup.py, as words behind a colon."""
    if package.is_relative_to(OF_DEBIAN) and extra in PACKAGES:
        return f"apt install {PACKAGES[extra]}"
    if package.is_relative_to(OF_DEBIAN) or prefix.is_relative_to(OWN):
        return f"Debian's package of Perfd goes without it; pipx install '.[{extra}]' in a checkout gives it beside"
    return f"pip install 'perfd[{extra}]'"
