"""The way of a plain download from the schedule to the socket is short enough to be read in one sitting."""

from __future__ import annotations

import traceback
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from perfd.daemon.schedule import Grid, Schedule
from perfd.daemon.sinks import MemorySink
from perfd.experiments.ways import MeasuredTor
from perfd.socks.port import SOCKSPort
from tests.support.places import CHECKOUT
from tests.support.scripted import Bench

MOST = 8
"""From the moment that a slot has come to the connection to the SOCKS port. There were 16 once."""


@implementer(IStreamClientEndpoint)
class Proxy:
    """The endpoint of a SOCKS port that keeps what stood on the stack when it was to be connected."""

    def __init__(self) -> None:
        self.frames: list[str] = []

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        package = str(CHECKOUT / "perfd")
        for frame in traceback.extract_stack():
            if frame.filename.startswith(package):
                self.frames.append(f"{frame.filename.removeprefix(package)[1:]} {frame.name}")
        return Deferred()


class OneTor:
    """A tor that is ready and has this SOCKS port."""

    name = "default"
    version = None
    not_ready = None

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def when_ready(self) -> None:
        pass

    def socks_port(self) -> SOCKSPort:
        return SOCKSPort(self._proxy)


def test_frames() -> None:
    """Perfd's own frames on the stack, in their order."""
    bench, proxy = Bench(), Proxy()
    experiment = bench.experiment("size = 1000", tor=MeasuredTor(OneTor(proxy)))
    schedule = Schedule(bench.reactor, bench.clock, "x", Grid(300.0), [experiment], MemorySink())
    schedule.startService()
    bench.reactor.advance(300.0)
    frames = proxy.frames[proxy.frames.index("daemon/schedule.py _come") :]
    assert len(frames) <= MOST, frames
