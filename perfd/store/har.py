"""Reading the HAR documents of page loads."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 20 * 2**20
"""Of a HAR document, unpacked; a longer one can be downloaded, but is not drawn."""


def read_har(path: Path) -> Mapping[str, Any] | None:
    """The ``log`` of a HAR document; None where it cannot be had."""
    try:
        with gzip.open(path) as packed:
            text = packed.read(MOST_BYTES + 1)
        found = json.loads(text) if len(text) <= MOST_BYTES else None
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return None
    log = found.get("log") if isinstance(found, dict) else None
    return log if isinstance(log, dict) else None
