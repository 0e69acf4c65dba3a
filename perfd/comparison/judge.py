"""A pilot is judged in a process of its own: beside a daemon's measurements nothing may compute.

``python -m perfd.comparison.judge`` reads what is asked as JSON, and writes what is found.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs

from perfd.analysis.sample_size import SampleSize
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.pilot import Pilot, Values, judged
from perfd.processes.child import ERRORS, Child
from perfd.processes.modules import module_command, module_environment
from perfd.reactor import Reactor

TIMEOUT = 60.0
"""Seconds after which it is ended."""


@attrs.frozen
class Judge:
    """Judges pilots of comparisons in child processes."""

    reactor: Reactor

    async def judged(self, values: Values, effect: float, size: int | None, *, by_block: bool) -> Pilot:
        """See `perfd.comparison.pilot.judged`. Raises OSError and TimeoutError besides."""
        asked = {"values": values, "effect": effect, "size": size, "by_block": by_block}
        written = bytearray()
        child = Child.spawn(
            self.reactor,
            module_command(__name__),
            environment=module_environment(),
            stdin=[json.dumps(asked).encode("ascii")],
            on_data=lambda number, data: written.extend(data) if number == 1 else None,
            lines_of=ERRORS,
        )
        if await child.finish(TIMEOUT) != 0:
            raise OSError(f"the pilot could not be judged: {child.describe_end()}")
        found = json.loads(written)
        if "trouble" in found:
            raise TooLittleError(found["trouble"])
        return Pilot(found["size"], SampleSize(**found["needed"]), found["effect"])


def main() -> None:
    """Judge what standard input asks."""
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        found = attrs.asdict(judged(**asked))
    except TooLittleError as error:
        found = {"trouble": str(error)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
