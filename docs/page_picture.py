"""Take a picture of a page as it is without JavaScript and without SVG.

Run: python docs/page_picture.py URL FILE.png [WIDTH HEIGHT]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PREFERENCES = (
    ("javascript.enabled", "false"),
    ("svg.disabled", "true"),
    ("layout.css.prefers-color-scheme.content-override", "1"),  # light
)


def main(url: str, file: str, width: str = "1280", height: str = "1000") -> int:
    """Take it with Firefox."""
    firefox = shutil.which("firefox-esr") or "firefox"
    with tempfile.TemporaryDirectory() as profile:
        lines = "".join(f'user_pref("{name}", {value});\n' for name, value in PREFERENCES)
        (Path(profile) / "user.js").write_text(lines)
        size = f"--window-size={width},{height}"
        command = [firefox, "--headless", "--no-remote", "--profile", profile, size, "--screenshot", file, url]
        return subprocess.run(command, check=False, timeout=120).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
