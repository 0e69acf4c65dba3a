"""perfd.conf, or a file that it names, as INI: its sections, and each line that is none of INI, with its number."""

from __future__ import annotations

import configparser
from pathlib import Path

OF_LINES = ("torrc", "bridges", "transport-plugins")
"""The options whose value has several lines, which must be indented."""


def read_sections(text: str, path: Path, example: str = "perfd") -> tuple[dict[str, dict[str, str]], list[str]]:
    """The sections with their options, and what is wrong with lines, which are then left out.

    ``example`` is the name of a section.
    """
    lines = text.split("\n")
    problems: dict[int, str] = {}
    while True:
        parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",), default_section="")
        try:
            parser.read_string("\n".join(lines))
        except configparser.MissingSectionHeaderError as error:
            problems[error.lineno] = f"{lines[error.lineno - 1].strip()!r} is in no section such as [{example}]"
            _leave_out(lines, error.lineno, _section_after(lines, error.lineno))
        except configparser.DuplicateSectionError as error:
            problems[error.lineno or 0] = f"there is a section [{error.section}] above; write its options there"
            _leave_out(lines, error.lineno or 1, _section_after(lines, error.lineno or 1))
        except configparser.DuplicateOptionError as error:
            problems[error.lineno or 0] = f"{error.option} is given above in [{error.section}] already"
            _leave_out(lines, error.lineno or 1, _unindented_after(lines, error.lineno or 1))
        except configparser.ParsingError as error:
            for number, _ in error.errors:
                line = lines[number - 1].strip()
                remedy = _indentation(lines, number)
                problems[number] = f"{line!r} is not OPTION = VALUE{remedy}"
                if line.startswith("["):
                    problems[number] = f"{line!r} lacks the ] at its end"
            for number, _ in error.errors:
                _mend_or_leave_out(lines, number)
        else:
            break
    sections = {name: dict(parser[name]) for name in parser.sections()}
    return sections, [f"{path}: line {number}: {problem}" for number, problem in sorted(problems.items())]


def _leave_out(lines: list[str], first: int, end: int) -> None:
    """Empty the lines from number ``first`` to before ``end``, so that the others keep their numbers."""
    lines[first - 1 : end - 1] = [""] * (end - first)


def _mend_or_leave_out(lines: list[str], number: int) -> None:
    """What follows a heading that lacks its ] belongs to it all the same."""
    line = lines[number - 1].strip()
    is_heading = line.startswith("[") and "]" not in line and len(line) > 1
    lines[number - 1] = f"{line}]" if is_heading else ""


def _section_after(lines: list[str], number: int) -> int:
    header = configparser.ConfigParser.SECTCRE
    return next((n for n in range(number + 1, len(lines) + 1) if header.match(lines[n - 1])), len(lines) + 1)


def _unindented_after(lines: list[str], number: int) -> int:
    later = range(number + 1, len(lines) + 1)
    return next((n for n in later if lines[n - 1].strip() and not lines[n - 1][0].isspace()), len(lines) + 1)


def _indentation(lines: list[str], number: int) -> str:
    """What to do with a line that may belong to an option of several lines above it."""
    for line in reversed(lines[: number - 1]):
        if line.startswith("["):
            break
        option = line.partition("=")[0].strip()
        if "=" in line and " " not in option and not line[0].isspace():
            return f"; if it belongs to {option} above, indent it" if option in OF_LINES else ""
    return ""
