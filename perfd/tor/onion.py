"""Our own web server as a v3 onion service, published through one of our tors (control-spec 3.27, ADD_ONION).

The key is kept in the instance directory, so the address survives restarts. The service lives as long as the
control connection does, and is added again with each new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from txtorcon import TorControlProtocol

VIRTUAL_PORT = 80

_KEY = re.compile(r"ED25519-V3:[A-Za-z0-9+/=]{80,100}")
_ADDRESS = re.compile(r"[a-z2-7]{56}")


class OnionError(Exception):
    """The onion service cannot be published; the message says why, and what to do."""


class OnionService:
    """The onion service with the key in ``key_file``, to be subscribed to a ``TorService``.

    ``target_port`` gives the port of 127.0.0.1 that it leads to.
    """

    _log = Logger()

    def __init__(self, key_file: Path, target_port: Callable[[], int]) -> None:
        self._key_file = key_file
        self._target_port = target_port
        self._name: str | None = None
        self._not_ready: str | None = "the onion service is not published: its tor is not running"

    @property
    def not_ready(self) -> str | None:
        """Why it cannot be reached now, in words for a record; None when it can."""
        return self._not_ready

    @property
    def host(self) -> str:
        """Its address. Only valid once it was published."""
        if self._name is None:
            raise RuntimeError("the onion service was not published yet")
        return f"{self._name}.onion"

    async def connected(self, protocol: TorControlProtocol) -> None:
        """Publish it over a control connection; it is ready when a directory has taken its descriptor."""
        try:
            key = self._read_key()
            flags = " Flags=DiscardPK" if key is not None else ""
            answer = await protocol.queue_command(
                f"ADD_ONION {key or 'NEW:ED25519-V3'}{flags} Port={VIRTUAL_PORT},127.0.0.1:{self._target_port()}"
            )
            values = dict(line.partition("=")[::2] for line in answer.splitlines())
            name = values.get("ServiceID", "")
            if not _ADDRESS.fullmatch(name):
                raise OnionError(f"tor's answer to ADD_ONION has no address: {answer[:80]!r}")
            if key is None:
                self._write_key(values.get("PrivateKey", ""))
        except (OnionError, OSError) as error:
            self._not_ready = f"the onion service is not published: {error}"
            self._log.error("{reason}", reason=self._not_ready)
            return
        self._name = name
        self._not_ready = f"the onion service {name}.onion is being published"
        await protocol.add_event_listener("HS_DESC", self._descriptor_event)

    def disconnected(self) -> None:
        """The control connection is lost, and the onion service with it."""
        self._not_ready = "the onion service is not published: its tor is not running"

    def _descriptor_event(self, text: Any) -> None:
        """HS_DESC (control-spec 4.1.25): action, address, ...; other services' events come here too."""
        words = str(text).split()
        if words[:2] == ["UPLOADED", self._name] and self._not_ready is not None:
            self._not_ready = None
            self._log.info("the onion service {name}.onion was published", name=self._name)

    def _read_key(self) -> str | None:
        try:
            key = self._key_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            key = ""
        if not _KEY.fullmatch(key):
            raise OnionError(
                f"{self._key_file} is not an onion service's key; restore it, or delete it for a new one"
            )
        return key

    def _write_key(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise OnionError("tor gave no key that could be kept")
        self._key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._key_file.with_name(self._key_file.name + ".new")
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(key + "\n")
        unfinished.replace(self._key_file)
