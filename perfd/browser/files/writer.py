"""What a page load leaves besides its record is written by a child process of low priority.

JSON, gzip and pictures of some hundred kB would hold up the reactor, in whose thread others take time stamps. So it
only hands the load over, a piece at a time, and reads what became of it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.logger import Logger

from perfd.browser.files.contents import Carrier, Job
from perfd.browser.files.har_matching import EntryTor
from perfd.browser.records import PageLoad
from perfd.processes.child import ERRORS, Child
from perfd.processes.modules import module_command, module_environment
from perfd.proxy.records import ProxyConnection
from perfd.reactor import Reactor
from perfd.record import EMPTY

TIMEOUT = 60.0
"""Seconds that a child may take; a page load with a long filmstrip takes some ten."""

MOST_OUTPUT = 20_000
"""Bytes of a child's output that are read."""

BATCH = 20
"""Requests, or connections, that are handed over at a time. A request can have 64 kB of headers."""

_Item = TypeVar("_Item")

_STEPS = (
    *("start", "asked", "socket", "connect", "negotiate", "request", "response", "replied"),
    *("datarequest", "datasent", "dataresponse", "datacomplete", "closed", "end"),
)


class MaterialWriter:
    """Writes the files of page loads below ``directory``, each load's in a child process of its own."""

    _log = Logger()

    def __init__(self, reactor: Reactor, directory: Path, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._directory = directory.absolute()
        self._timeout = timeout
        self._troubles: list[str] = []  # the last ones, which are not told for every load again

    async def write(
        self, load: PageLoad, connections: Sequence[ProxyConnection], measurement: str
    ) -> Mapping[str, int | float | str]:
        """Write the files of a load; the keys that its record gets, empty if that failed.

        Only cancelling it raises (``CancelledError``), after the child was killed.
        """
        try:
            document = json.loads(await self._output(self._pieces(load, connections, measurement)))
            fields, troubles = document["fields"], document["troubles"]
        except (OSError, ChildError, ValueError) as error:
            self._log.error(
                "the files of page load {id} were not written: {reason}", id=measurement, reason=str(error)
            )
            return EMPTY
        if troubles and troubles != self._troubles:
            self._log.warn("page load {id}: {troubles}", id=measurement, troubles="; ".join(troubles))
        self._troubles = troubles
        return dict(fields)

    async def _output(self, pieces: Iterator[bytes]) -> bytes:
        """What the child writes about its work on ``pieces``. Raises ``OSError`` and ``ChildError``."""
        output = bytearray()

        def keep(descriptor: int, data: bytes) -> None:
            if descriptor == 1:
                output.extend(data)
                del output[:-MOST_OUTPUT]

        child = Child.spawn(
            self._reactor,
            module_command("perfd.browser.files.child"),
            environment=module_environment(),
            on_data=keep,
            lines_of=ERRORS,
            stdin=pieces,
            hold_stdin=True,  # the child ends when this process does
        )
        if await child.finish(self._timeout):
            raise ChildError(child.describe_end())
        return bytes(output)

    def _pieces(self, load: PageLoad, connections: Sequence[ProxyConnection], measurement: str) -> Iterator[bytes]:
        """What the child reads; each piece is made when the one before was taken."""
        bare = attrs.evolve(load, screenshot=None, frames=(), requests=())
        yield pickle.dumps(Job(directory=self._directory, measurement=measurement, load=bare))
        yield pickle.dumps(load.screenshot)
        for items in (load.frames, batched(load.requests), batched(_carriers(connections, measurement))):
            for item in items:
                yield pickle.dumps(item)
            yield pickle.dumps(None)


def batched(items: Iterable[_Item]) -> Iterator[tuple[_Item, ...]]:
    """``items`` in pieces that are made quickly."""
    left = iter(items)
    while batch := tuple(islice(left, BATCH)):
        yield batch


def _carriers(connections: Sequence[ProxyConnection], measurement: str) -> Iterator[Carrier]:
    """The connections without what only the reactor's process knows."""
    for connection in connections:
        if connection.host is None or connection.port is None:
            continue  # it never said where it wanted to go
        stream = connection.joined.stream if connection.joined is not None else None
        circuit = connection.joined.circuit if connection.joined is not None else None
        yield Carrier(
            host=connection.host,
            port=connection.port,
            opened=connection.start,
            closed=connection.end if connection.closed is None else connection.closed,
            entry=EntryTor(
                connection=connection.number,
                measurement=measurement,
                local_port=connection.localport,
                stream_id=None if stream is None else stream.stream_id,
                circ_id=None if circuit is None else circuit.circ_id,
                path=None if circuit is None else tuple(hop.fingerprint for hop in circuit.path),
                reply=connection.code,
                times={name: at for name in _STEPS if (at := getattr(connection, name)) is not None},
            ),
        )


class ChildError(Exception):
    """The child process did not do its work."""
