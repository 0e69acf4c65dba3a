"""The arguments of a query, read as the parameters say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfd.store.parameters import Parameter
from perfd.web.errors import WebError
from perfd.web.request import Request


def read_arguments(parameters: Sequence[Parameter], request: Request) -> dict[str, Any]:
    """The values that the query of ``request`` gives, by name; of an argument given twice, the last.

    Raises WebError with all that is wrong about it.
    """
    known = {parameter.name: parameter for parameter in parameters}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for raw, texts in request.args.items():
        name = raw.decode("utf-8", "replace")
        if name not in known:
            problems.append(f"{name[:40]}: unknown; {_known(known)}")
            continue
        try:
            values[name] = known[name].read(texts[-1].decode("utf-8", "replace"))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise WebError(400, "; ".join(problems))
    return values


def _known(names: Mapping[str, Parameter]) -> str:
    return f"there are {', '.join(sorted(names))}" if names else "nothing can be asked for here"
