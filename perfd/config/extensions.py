"""Kinds of experiment that other packages have: entry points of the group ``perfd.experiments``.

The entry point's name is the ``type`` of perfd.conf, and what it names is an ``Extension``. One that cannot be used
is told where it is asked for, and takes nothing else with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs

from perfd.config.kind import Kind

GROUP = "perfd.experiments"


@attrs.frozen
class Extension:
    """A kind of experiment, and what runs it.

    That is a class of ``perfd.experiments.run.Run`` which takes the options of the kind by name.
    """

    kind: Kind
    run: Callable[..., Any]


@attrs.frozen
class Extensions:
    """Those of the packages that are installed, by name, and why others cannot be used."""

    usable: Mapping[str, Extension]
    broken: Mapping[str, str]


@cache
def extensions() -> Extensions:
    """What there is in this interpreter; packages are looked for and imported once."""
    usable: dict[str, Extension] = {}
    broken: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        try:
            usable[point.name] = _load(point)
        except Exception as error:  # noqa: BLE001 - whatever an import does
            package = point.dist.name if point.dist is not None else point.module
            broken[point.name] = f"the package {package} cannot be used: {type(error).__name__}: {error}"
    return Extensions(usable, broken)


def _load(point: EntryPoint) -> Extension:
    found = point.load()
    if not isinstance(found, Extension):
        raise TypeError(f"{point.value} is no Extension")
    if found.kind.name != point.name:
        raise ValueError(
            f"the kind of {point.value} has the name {found.kind.name!r}, the entry point {point.name!r}"
        )
    return found
