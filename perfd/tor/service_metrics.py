"""What the tor of an onion service counts: its MetricsPort, read again and again (tor(1), MetricsPort).

Subscribe it to a ``TorService``. Tor must have a MetricsPort on this machine in its torrc, which it does not choose
itself as it does others; where it is, the control port tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError

from perfd.tor.endpoints import tcp_endpoint

TIMEOUT = 10.0

MOST_BYTES = 4 * 1024 * 1024
"""Of an answer; a tor with one service has 30 KiB."""

_LENGTH = re.compile(rb"^Content-Length: ([0-9]{1,8})\r?$", re.MULTILINE | re.IGNORECASE)
_LISTENER = re.compile(r'"(127\.0\.0\.1|\[::1\]):([0-9]{1,5})"', re.ASCII)
_LINE = re.compile(r"tor_hs_([a-z0-9_]{1,60})\{([^}]{0,300})\} ([0-9.e+]{1,30})", re.ASCII)
_LABEL = re.compile(r'([a-z_]{1,20})="([^"]{1,60})"', re.ASCII)


class ServiceMetrics:
    """Reads it every ``interval`` seconds, and calls ``tell`` with what it says of onion services (``brief``)."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, interval: float, tell: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._interval = interval
        self._tell = tell
        self._reading: Deferred[None] | None = None

    async def connected(self, protocol: TorControlProtocol) -> None:
        """There is an authenticated control connection. Raises what txtorcon raises if it is lost."""
        try:
            answer = await protocol.get_info_raw("net/listeners/metrics")
        except TorProtocolError:
            answer = ""  # a tor before 0.4.5, or behind a filter
        match = _LISTENER.search(answer)
        if match is None:
            self._log.warn(
                "onion-metrics: the tor of the onion service has no MetricsPort on this machine; its torrc needs "
                "MetricsPort 127.0.0.1:PORT and MetricsPortPolicy accept 127.0.0.1"
            )
            return
        self.disconnected()
        self._reading = Deferred.fromCoroutine(self._read(match[1].strip("[]"), int(match[2])))
        self._reading.addErrback(self._ended)

    def disconnected(self) -> None:
        """It was lost."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    async def _read(self, host: str, port: int) -> None:
        while True:
            await deferLater(self._reactor, self._interval)
            try:
                asking = Deferred.fromCoroutine(self._ask(host, port))
                self._tell(brief(await asking.addTimeout(TIMEOUT, self._reactor)))
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                self._log.warn("onion-metrics: {host}:{port}: {error}", host=host, port=port, error=error)

    async def _ask(self, host: str, port: int) -> str:
        answer = _Answer()
        factory = Factory.forProtocol(lambda: answer)
        factory.noisy = False
        await tcp_endpoint(self._reactor, host, port, TIMEOUT).connect(factory)
        return await answer.whole

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("onion-metrics are not read any more", failure)


class _Answer(Protocol):
    """The answer to one request. Tor says how long it is, and leaves the connection open."""

    transport: Any  # None, then an ITCPTransport

    def __init__(self) -> None:
        self.whole: Deferred[str] = Deferred(lambda _: self._abort())
        self._data = bytearray()

    def connectionMade(self) -> None:
        self.transport.write(b"GET /metrics HTTP/1.0\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, _, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if (length is not None and len(body) >= int(length[1])) or len(self._data) > MOST_BYTES:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.whole.called:
            self.whole.callback(self._data.decode("ascii", "replace"))

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


def brief(text: str) -> str:
    """What metrics say of onion services, in one line: ``name{label=value}=number``, without what is 0.

    Without ``tor_hs_`` in front and the service's address. Times of histograms are in milliseconds, as in tor.
    """
    return " ".join(_words(text))


def _words(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None or not float(match[3]):
            continue
        labels = ",".join(f"{name}={value}" for name, value in _LABEL.findall(match[2]) if name != "onion")
        yield f"{match[1]}{f'{{{labels}}}' if labels else ''}={match[3]}"
