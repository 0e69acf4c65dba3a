"""Client authorisation of an onion service: the key, and the measuring tors that get it (rend-spec-v3)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.tor.files import read_key, write_key

_LINE = re.compile(r"descriptor:x25519:([A-Z2-7]{52})")


class OnionError(Exception):
    """The onion service cannot be used; the message says why, and what to do."""


class ClientKey:
    """The x25519 key of an onion service's clients, in the file ``path``, made when it is needed and there is none.

    The file holds ``descriptor:x25519:KEY``: with ``ADDRESS:`` before it, that is an ``.auth_private`` file of
    tor's ClientOnionAuthDir. Both properties raise ``OSError``, and ``OnionError`` if it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def public(self) -> str:
        """For the service: base32, as ADD_ONION takes it."""
        return _base32(self._load().public_key().public_bytes_raw())

    @property
    def private(self) -> str:
        """For the client: base64, as ONION_CLIENT_AUTH_ADD takes it."""
        return base64.b64encode(self._load().private_bytes_raw()).decode("ascii")

    def _load(self) -> X25519PrivateKey:
        text = read_key(self._path)
        if text is None:
            key = X25519PrivateKey.generate()
            write_key(self._path, f"descriptor:x25519:{_base32(key.private_bytes_raw())}")
            return key
        match = _LINE.fullmatch(text)
        if match is None:
            raise OnionError(f"{self._path} is not a client's key; restore it, or delete it for a new one")
        return X25519PrivateKey.from_private_bytes(base64.b32decode(match[1] + "===="))


@attrs.frozen
class GivenKey:
    """A client's key that somebody else's service gave us."""

    private: str = attrs.field(repr=False)  # base64


class PrivateKey(Protocol):
    """A client's key to an onion service."""

    @property
    def private(self) -> str:
        """As ONION_CLIENT_AUTH_ADD takes it. Raises ``OnionError`` and ``OSError`` if it cannot be had."""


class NamedService(Protocol):
    """An onion service whose address becomes known."""

    def watch(self, named: Callable[[str], None]) -> None:
        """Call ``named`` with the address, without ``.onion``, as soon as that is known."""


@attrs.frozen
class ForeignService:
    """An onion service that is not ours."""

    address: str

    def watch(self, named: Callable[[str], None]) -> None:
        named(self.address)


class OnionClient:
    """Gives a tor the ``key`` to an onion service; to be subscribed to its ``TorService``.

    Tor keeps it until it ends, or gets a NEWNYM: then it is given again.
    """

    _log = Logger()

    def __init__(self, service: NamedService, key: PrivateKey, *, tor: str) -> None:
        self._key = key
        self._tor = tor
        self._protocol: TorControlProtocol | None = None
        self._address: str | None = None
        service.watch(self._named)

    async def connected(self, protocol: TorControlProtocol) -> None:
        """A control connection to the tor was authenticated."""
        self._protocol = protocol
        await self._give()
        await protocol.add_event_listener("SIGNAL", self._signalled)

    def disconnected(self) -> None:
        self._protocol = None

    def _named(self, address: str) -> None:
        self._address = address
        self._give_soon()

    def _signalled(self, text: str) -> None:
        if text.split() == ["NEWNYM"]:
            self._give_soon()

    def _give_soon(self) -> None:
        Deferred.fromCoroutine(self._give()).addErrback(self._mistaken)

    async def _give(self) -> None:
        """Tell tor the key (control-spec 3.30, ONION_CLIENT_AUTH_ADD); an older one for the address is replaced."""
        if self._protocol is None or self._address is None:
            return
        try:
            await self._protocol.queue_command(f"ONION_CLIENT_AUTH_ADD {self._address} x25519:{self._key.private}")
        except TorDisconnectError:
            return  # the next connection gets it
        except (OnionError, OSError, TorProtocolError) as error:
            self._log.error(
                "tor {tor} does not have the key of the onion service: {error}",
                tor=self._tor,
                error=" ".join(str(error).split()),
            )

    def _mistaken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("tor {tor} did not get the key of the onion service", failure, tor=self._tor)


def _base32(key: bytes) -> str:
    return base64.b32encode(key).decode("ascii").rstrip("=")
