"""``perfd config``: each option as it counts, and where it comes from."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from perfd.cli.csv_output import CSV
from perfd.cli.tables import Column, Display, Table
from perfd.config.reader import load_config, load_settings
from perfd.config.section import Setting

COLUMNS = (Column("option"), Column("value", prose=True), Column("from", rank=1))

SECRET = "control-password"
"""Not shown: this may be read over a shoulder, or be sent to others for help."""


def show_settings(path: Path, display: Display | CSV | None) -> int:
    """Print them, as JSON without a ``display``. Raises ConfigError."""
    file = load_config(path).path
    places = dict(_places(file.read_text(encoding="utf-8-sig")))
    settings = [each for each in load_settings(path) if each.text is not None]
    rows = [(each, _text(each), _origin(each, file, places)) for each in settings]
    values = [{"section": s.section, "option": s.option, "value": text, "from": at} for s, text, at in rows]
    if isinstance(display, CSV):
        display.records(values)
        return 0
    if display is None:
        sys.stdout.write(json.dumps(values) + "\n")
        return 0
    sections = dict.fromkeys(each.section for each in settings)
    display.show(
        Table(f"[{name}]", COLUMNS, [(s.option, text, at) for s, text, at in rows if s.section == name])
        for name in sections
    )
    return 0


def _text(setting: Setting) -> str:
    return "(not shown)" if setting.option == SECRET else " / ".join((setting.text or "").split("\n")).strip(" /")


def _origin(setting: Setting, file: Path, places: dict[tuple[str, str], int]) -> str:
    if setting.is_default:
        return "default"
    kind = setting.section.partition(":")[0]  # the defaults of all tors and browsers
    for section in (setting.section, kind):
        if (section, setting.option) in places:
            return f"{file}:{places[section, setting.option]}"
    return str(file)


def _places(text: str) -> Iterator[tuple[tuple[str, str], int]]:
    """The line of each option."""
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\[([^\]]+)\]", line):
            section = header.group(1)
        elif option := re.match(r"([A-Za-z][\w-]*)\s*[=:]", line):
            yield (section, option.group(1).lower()), number
