"""Our own web server as a v3 onion service, published through one of our tors (control-spec 3.27, ADD_ONION).

The key is kept in the instance directory, so the address survives restarts. The service lives as long as the
control connection does, and is added again with each new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.logger import Logger
from txtorcon import TorControlProtocol, TorProtocolError

from perfd.tor.events.lines import DescriptorLine, UnparsedError
from perfd.tor.files import read_key, write_key
from perfd.tor.onion_client import ClientKey, OnionError

VIRTUAL_PORT = 80

_KEY = re.compile(r"ED25519-V3:[A-Za-z0-9+/=]{80,100}")
_ADDRESS = re.compile(r"[a-z2-7]{56}")

_NOT_RUNNING = "the onion service is not published: its tor is not running"


class OnionService:
    """The onion service with the key in ``key_file``, to be subscribed to a ``TorService``.

    ``target_port`` gives the port of 127.0.0.1 that its port 80 leads to, and ``more_ports`` the same for other
    ports of it. ``single_onion``: its tor is one with ``TorOptions.single_onion``. With a ``client_key`` only tors
    that have the key reach it (see ``OnionClient``). ``proof_of_work``: clients may have to do one (proposal 327).
    """

    _log = Logger()

    def __init__(
        self,
        key_file: Path,
        target_port: Callable[[], int],
        *,
        more_ports: Mapping[int, Callable[[], int]] | None = None,
        single_onion: bool = False,
        client_key: ClientKey | None = None,
        proof_of_work: bool = False,
    ) -> None:
        self._key_file = key_file
        self._ports = {VIRTUAL_PORT: target_port, **(more_ports or {})}
        self._single_onion = single_onion
        self._client_key = client_key
        self._proof_of_work = proof_of_work
        self._name: str | None = None
        self._not_ready: str | None = _NOT_RUNNING
        self._refusals = 0
        self._watchers: list[Callable[[str], None]] = []

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

    def watch(self, named: Callable[[str], None]) -> None:
        """Call ``named`` with its address (without ``.onion``): now, if it is known, and when tor has taken it."""
        self._watchers.append(named)
        if self._name is not None:
            named(self._name)

    async def connected(self, protocol: TorControlProtocol) -> None:
        """Publish it over a control connection; it is ready when a directory has taken its descriptor."""
        try:
            key = self._read_key()
            answer = await protocol.queue_command(self._command(key))
            values = dict(line.partition("=")[::2] for line in answer.splitlines())
            name = values.get("ServiceID", "")
            if not _ADDRESS.fullmatch(name):
                raise OnionError(f"tor's answer to ADD_ONION has no address: {answer[:80]!r}")
            if key is None:
                self._write_key(values.get("PrivateKey", ""))
        except (OnionError, OSError) as error:
            self._fail(str(error))
            return
        except TorProtocolError as error:
            self._fail(f"tor refused it: {' '.join(error.text.split())}")
            return
        self._name, self._refusals = name, 0
        self._not_ready = f"the onion service {name}.onion is being published"
        for named in self._watchers:
            named(name)
        await protocol.add_event_listener("HS_DESC", self._descriptor_happened)

    def disconnected(self) -> None:
        """The control connection is lost, and the onion service with it: tor removes it."""
        self._not_ready = _NOT_RUNNING

    def _command(self, key: str | None) -> str:
        flags = [
            *(["DiscardPK"] if key is not None else []),
            *(["NonAnonymous"] if self._single_onion else []),
            *(["V3Auth"] if self._client_key is not None else []),
        ]
        words = ["ADD_ONION", key or "NEW:ED25519-V3"]
        if flags:
            words.append(f"Flags={','.join(flags)}")
        if self._proof_of_work:
            words.append("PoWDefensesEnabled=1")  # tor 0.4.9; an older one refuses it
        words += [f"Port={port},127.0.0.1:{target()}" for port, target in self._ports.items()]
        if self._client_key is not None:
            words.append(f"ClientAuthV3={self._client_key.public}")
        return " ".join(words)

    def _fail(self, reason: str) -> None:
        self._not_ready = f"the onion service is not published: {reason}"
        self._log.error("{reason}", reason=self._not_ready)

    def _descriptor_happened(self, text: str) -> None:
        """HS_DESC; other services' events come here too, and so do those of clients of this one in the same tor."""
        try:
            line = DescriptorLine.parse(text)
        except UnparsedError:
            return  # counted where all events are
        if line.address != self._name or self._not_ready is None:
            return
        if line.action == "UPLOADED":
            self._not_ready = None
            self._log.info("the onion service {name}.onion was published", name=self._name)
        elif line.action == "FAILED":
            self._refusals += 1
            self._not_ready = (
                f"the onion service {self._name}.onion is being published, "
                f"but directories did not take its descriptor ({self._refusals} so far): {line.reason}"
            )

    def _read_key(self) -> str | None:
        key = read_key(self._key_file)
        if key is not None and not _KEY.fullmatch(key):
            raise OnionError(
                f"{self._key_file} is not an onion service's key; restore it, or delete it for a new one"
            )
        return key

    def _write_key(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise OnionError("tor gave no key that could be kept")
        write_key(self._key_file, key)
