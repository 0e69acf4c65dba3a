"""Whether our web server answers at the address that the far end of Tor is given (``public-address``).

A wrong one makes every run fail, with what the exit says of it, which does not name the option.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.client import Agent

from perfd.config.values import Address
from perfd.reactor import Reactor

FIRST = 1.0
"""Seconds after the start: the ports are bound by then."""

AGAIN = 60.0
"""Seconds between two tries, until there was an answer."""

TIMEOUT = 10.0
"""Seconds for a connection, and for the whole answer."""

PATH = "/random/1"
"""What is asked for; one byte must come."""

OK = 200


class _Unread(Protocol):
    """Takes a body that nobody needs, and that may have no end."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class PublicAddressService(Service):
    """Asks our web server at ``address`` for a byte, until it was had. ``state`` says how that went; None: not yet.

    It is asked from this machine. Behind an address translation that sends nothing back (RFC 4787, section 6),
    it may not be reached from here and be reached from elsewhere; so this says what was found, and decides nothing.
    """

    _log = Logger()

    def __init__(self, reactor: Reactor, address: Address) -> None:
        self.state: str | None = None
        self._reactor = reactor
        self._address = address
        self._agent = Agent(reactor, connectTimeout=TIMEOUT)
        self._asking: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._asking = Deferred.fromCoroutine(self._ask_on())
        self._asking.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:
        super().stopService()
        if self._asking is not None:
            self._asking.cancel()

    async def _ask_on(self) -> None:
        await deferLater(self._reactor, FIRST)
        while (trouble := await self._trouble()) is not None:
            if self.state is None:
                self._log.warn(
                    "public-address: the web server is not reached at {address} from this machine: {trouble}",
                    address=self._address,
                    trouble=trouble,
                )
            self.state = f"{self._address} is not reached from this machine: {trouble}"
            await deferLater(self._reactor, AGAIN)
        if self.state is not None:
            self._log.info("public-address: the web server answers at {address} now", address=self._address)
        self.state = "ok"

    async def _trouble(self) -> str | None:
        """Why not; None if it answers."""
        asked = Deferred.fromCoroutine(self._ask())
        try:
            return await asked.addTimeout(TIMEOUT, self._reactor)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever listens there says what it likes
            return str(error) or type(error).__name__

    async def _ask(self) -> str | None:
        response = await self._agent.request(b"GET", f"http://{self._address}{PATH}".encode())
        response.deliverBody(_Unread())
        if response.code == OK and response.length == 1:
            return None
        return f"what answers is not Perfd's web server (status {response.code})"
