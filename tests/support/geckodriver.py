"""The geckodriver of the tests, if it could be had."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

GECKODRIVER = Path(sys.prefix) / "geckodriver" / "geckodriver"


def missing() -> str:
    """Why no real page can be loaded here; empty if one can."""
    if importlib.util.find_spec("selenium") is None:
        return "Selenium is not installed (extra: selenium)"
    if shutil.which("firefox-esr") is None:
        return "firefox-esr is not installed"
    return "" if os.access(GECKODRIVER, os.X_OK) else "there is no geckodriver (make geckodriver)"
