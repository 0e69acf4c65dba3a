"""The process of the links: ``python -m perfd.tor.testnet.links.program -f PLAN [OWNER]``.

It ends with its owner, as the relays do, and with SIGTERM. All that it made ends with it, also after a kill -9:
listeners, and the devices of namespaces, which have no names that could stay.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from perfd.processes.alive import is_alive
from perfd.processes.detach import detach
from perfd.tor.testnet.links import netns, proxy
from perfd.tor.testnet.links.line import new_loop
from perfd.tor.testnet.links.plan import NAMESPACES, PID_FILE, LinkPlan

OWNER_INTERVAL = 2.0
"""Seconds between two looks at whether the owner lives."""

NICE = -10
"""The priority of the links' process, if root starts it: what they let through late counts as delay."""

_PR_SET_TIMERSLACK = 29  # linux/prctl.h; in nanoseconds


def main(arguments: list[str]) -> int:
    """Set the links up, and go on in the background; 1 and a message if that fails."""
    path = Path(arguments[arguments.index("-f") + 1])
    owner = int(arguments[3]) if len(arguments) > 3 else None
    try:
        plan = LinkPlan.load(path)
        lock = path.with_name("lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made = proxy.listen(plan) if plan.mode == "proxy" else netns.set_up(plan)
    except (OSError, ValueError, netns.NamespaceError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if isinstance(made, netns.Namespaces):
        numbers = {relay.nickname: fd for relay, fd in zip(plan.relays, made.namespaces, strict=True)}
        path.with_name(NAMESPACES).write_text(json.dumps(numbers), encoding="ascii")
    detach(lambda pid: path.with_name(PID_FILE).write_text(f"{pid}\n", encoding="ascii"))
    _be_punctual()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_run(plan, made, owner))
    return 0


def _be_punctual() -> None:
    """Ask the system to wake this process when it asks to be woken, and as root before others; it may refuse."""
    with suppress(AttributeError, OSError):  # prctl(2): else Linux wakes it up to 50 microseconds late
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1))
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)


async def _run(plan: LinkPlan, made: object, owner: int | None) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    if isinstance(made, list):
        await proxy.serve(plan, made)
    else:
        assert isinstance(made, netns.Namespaces)
        netns.Switch(plan, made).start()
    while owner is None or is_alive(owner):
        try:
            await asyncio.wait_for(over.wait(), OWNER_INTERVAL)
        except TimeoutError:
            continue
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv))
