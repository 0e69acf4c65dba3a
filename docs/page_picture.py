"""Take a picture of a page as it is without JavaScript and without SVG.

Run: python docs/page_picture.py URL FILE.png [WIDTH HEIGHT]

docs/page.png is that of http://127.0.0.1:8080/?pause=1, 860 wide and 640 high, of a daemon whose [testnet] has
relays = 8, delay = 20 ms and rate = 30 Mbit/s. The other docs/page-*.png are of the same network, 1100 wide: a day
of an experiment over two tors, a download of it, and a load of the light page with filmstrip = yes.
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
