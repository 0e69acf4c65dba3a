"""The rules of published .tpf files, as metrics-lib and CollecTor enforce them: they refuse a file for one breach.

This is not our reader, which is more lenient, and shares nothing with it: one can be checked with the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from perfd.formats.errors import FormatError, shown


def check(text: str) -> None:
    """Raise FormatError at the first line of ``text`` that breaks metrics-lib's rules for ``@type torperf 1.1``."""
    if not text:
        raise FormatError("the file is empty")
    if not text.endswith("\n"):
        raise FormatError("the last line does not end")
    annotated = False
    for number, ended in enumerate(text[:-1].split("\n"), 1):
        line = ended.removesuffix("\r")
        if line.startswith("@"):
            if annotated or line != "@type torperf 1.1":
                raise FormatError(f"{shown(line)} is not the annotation of a result", line=number)
            annotated = True
            continue
        if not annotated:
            raise FormatError("a result has no annotation", line=number)
        annotated = False
        try:
            result(line)
        except FormatError as error:
            raise FormatError(error.problem, key=error.key, line=number) from None
    if annotated:
        raise FormatError("an annotation has no result")


def check_file(name: str, text: str) -> None:
    """``check``, and CollecTor's rules: the name and every line agree on source, size and UTC date of START."""
    match = re.fullmatch(r"([A-Za-z0-9-]+)-([0-9]+)-([0-9]{4}-[0-9]{2}-[0-9]{2})\.tpf", name)
    if match is None:
        raise FormatError(f"{shown(name)} is not SOURCE-FILESIZE-DATE.tpf", file=name)
    check(text)
    for line in text.splitlines():
        if not line.startswith("@"):
            pairs = result(line)
            date = datetime.fromtimestamp(int(pairs["START"].partition(".")[0]), UTC).date().isoformat()
            if (pairs["SOURCE"], pairs["FILESIZE"], date) != match.groups():
                raise FormatError("a result belongs in another file", file=name)


def result(line: str) -> dict[str, str]:
    """The pairs of a result line that follows all rules. Raises FormatError."""
    if any(character < " " for character in line) or re.search("[\x7f-\x9f\u2028\u2029]", line):
        raise FormatError("control characters end lines or worse")
    pairs: dict[str, str] = {}
    for pair in line.split(" "):
        parts = pair.split("=")
        if len(parts) != 2 or not all(parts):
            raise FormatError(f"{shown(pair)} is not KEY=value")
        key, value = parts
        if key in pairs:
            raise FormatError("the key occurs more than once", key=key)
        if not _rule(key)(value):
            raise FormatError(f"{shown(value)} is against the rules", key=key)
        pairs[key] = value
    if list(pairs) != sorted(pairs):
        raise FormatError("the keys are not sorted")
    for key in (*_REQUIRED_TIMES, "SOURCE", "FILESIZE", "WRITEBYTES", "READBYTES"):
        if key not in pairs:
            raise FormatError("the required key is missing", key=key)
    if ("PATH" in pairs) != ("BUILDTIMES" in pairs) or ("PATH" not in pairs and _WITH_PATH.intersection(pairs)):
        raise FormatError("circuits are written with path and build times or not at all", key="PATH")
    return pairs


def _is_time(value: str) -> bool:
    return re.fullmatch(r"[0-9]+\.[0-9]{1,6}", value) is not None


def _is_int32(value: str) -> bool:
    return re.fullmatch(r"[0-9]+", value) is not None and int(value) < 2**31


def _is_float(value: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?", value) is not None


def _is_path(value: str) -> bool:
    return all(re.fullmatch(r"\$[0-9A-F]{40}", relay) for relay in value.split(","))


def _is_any(_value: str) -> bool:
    return True


def _rule(key: str) -> Callable[[str], bool]:
    count = re.fullmatch(r"(DATAPERC|PARTIAL)([0-9]+)", key)
    if count and (count[1] == "PARTIAL" or int(count[2]) <= 100):
        return _is_time
    return _RULES.get(key, _is_any)


_REQUIRED_TIMES = (
    *("START", "SOCKET", "CONNECT", "NEGOTIATE", "REQUEST", "RESPONSE"),
    *("DATAREQUEST", "DATARESPONSE", "DATACOMPLETE"),
)
_WITH_PATH = frozenset(("TIMEOUT", "QUANTILE", "CIRC_ID"))

_RULES: Mapping[str, Callable[[str], bool]] = {
    **dict.fromkeys((*_REQUIRED_TIMES, "LAUNCH", "USED_AT"), _is_time),
    **dict.fromkeys(("FILESIZE", "WRITEBYTES", "READBYTES", "TIMEOUT", "CIRC_ID", "USED_BY"), _is_int32),
    "DIDTIMEOUT": lambda value: value in ("0", "1"),
    "PATH": _is_path,
    "BUILDTIMES": lambda value: all(_is_time(seconds) for seconds in value.split(",")),
    "QUANTILE": _is_float,
}
