"""A control connection to a tor, made with txtorcon, and what Perfd asks over it (control-spec)."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITCPTransport, ITransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.tor.endpoints import tcp_endpoint

CONNECT_TIMEOUT = 20.0
"""Seconds that connecting and authenticating may take together."""

_NONSENSE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What txtorcon raises when it reads something that a tor would not say."""

MOST_LINE = 128 * 1024
"""Bytes of a line on the control port."""

MOST_REPLY = 1024 * 1024
"""Bytes of a reply or event. The longest that is asked for, circuit-status, has some hundred for each circuit."""

MOST_STREAMED = 256 * 1024 * 1024
"""Bytes of a reply that is taken line by line: all server descriptors of the public network have about 30 MB."""

MOST_SAID = 300
"""Characters of an error in which there is what the peer has said."""

READ_SIZE = 8192
"""Bytes of a long answer that are read at once: they take about 1 ms."""

_OFTEN = "CIRC_BW"
"""The event of which tor 0.4.9 sends thousands a second: one with each cell of the second leg of a Conflux set."""

_FREQUENT = f"650 {_OFTEN} ".encode("ascii")

_COOKIE_SIZE = 32  # control-spec 3.5

_METHODS = re.compile(r"\bMETHODS=([A-Z,]+)")

_NO_METHOD = (
    "it offers {offered} to authenticate, of which none can be used: it takes SAFECOOKIE (CookieAuthentication 1) "
    "or a control-password for its HashedControlPassword"
)

_TRANSPORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""The name of a pluggable transport (pt-spec 1.3), which no address is."""

_KEYWORD = re.compile(r'([A-Z]+)=("(?:[^"\\]|\\.)*"|\S*)')


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ControlError(Exception):
    """The control connection could not be made or used; the message says why."""


class ControlProtocol(TorControlProtocol):  # type: ignore[misc]  # txtorcon has no types
    """txtorcon's control protocol for a peer that may be anybody, and beyond ASCII.

    Of the ways to authenticate by a file only SAFECOOKIE is used (control-spec 3.24): whoever asks for COOKIE is
    sent the content of any file that it names. A password that is given is used where one is taken. What is no
    reply of a tor, or longer than one, ends the connection; ``misbehaviour`` says why.
    """

    MAX_LENGTH = MOST_LINE
    misbehaviour: str | None = None
    _reply_size = 0  # so far

    def lineReceived(self, line: bytes) -> None:
        if self.misbehaviour is not None:
            return
        if line.startswith(_FREQUENT) and self.fsm.state.name == "IDLE" and line.isascii():
            # All that txtorcon does with an event of one line, in a third of the time.
            event = self.events.get(_OFTEN)
            if event is not None:
                event.got_update(line[len(_FREQUENT) :].decode("ascii"))
            return
        most = MOST_REPLY if self.command is None or self.command[2] is None else MOST_STREAMED
        self._reply_size += len(line) + 2
        if self._reply_size > most:
            self._misbehaved(f"its reply has more than {most} bytes")
            return
        ascii_only = line.decode("utf-8", "backslashreplace").encode("ascii", "backslashreplace")
        try:
            super().lineReceived(ascii_only)
        except _NONSENSE:
            self._misbehaved("the peer does not speak Tor's control protocol")
        if self.fsm.state.name == "IDLE":
            self._reply_size = 0

    def lineLengthExceeded(self, line: bytes) -> None:
        self._misbehaved(f"a line of its reply has more than {MOST_LINE} bytes")

    def _misbehaved(self, how: str) -> None:
        self.misbehaviour = self.misbehaviour or how
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.on_disconnect = None  # deprecated in txtorcon, and looking at it is deprecated in Twisted
        super().connectionLost(reason)

    def _do_authenticate(self, protoinfo: str) -> Any:
        offered = _METHODS.search(protoinfo)
        if offered is None:
            return super()._do_authenticate(protoinfo)
        methods = set(offered[1].split(",")) - {"COOKIE"}
        if self.password_function is None:
            methods -= {"HASHEDPASSWORD"}
        elif "HASHEDPASSWORD" in methods:
            methods = {"HASHEDPASSWORD"}
        if not methods:
            raise ControlError(_NO_METHOD.format(offered=offered[1]))
        chosen = f"METHODS={','.join(sorted(methods))}"
        return super()._do_authenticate(protoinfo[: offered.start()] + chosen + protoinfo[offered.end() :])

    def _safecookie_authchallenge(self, reply: str) -> Any:
        try:
            return super()._safecookie_authchallenge(reply)
        except RuntimeError:
            # txtorcon's text has what it wanted to hear: by that, who reads it can try what is in the file.
            raise ControlError("it does not know what is in the cookie file that it names") from None

    def _read_cookie(self, cookiefile: str) -> None:
        # The peer names the file: it must not be one that blocks, or never ends. txtorcon reads tor's octal escapes
        # as Latin-1; on disk they are the bytes of the path.
        descriptor = os.open(cookiefile.encode("latin-1"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != _COOKIE_SIZE:
                raise RuntimeError(f"{cookiefile} is no authentication cookie")
            self._cookie_data = file.read(_COOKIE_SIZE)


def control_endpoint(reactor: IReactorTime, address: str) -> IStreamClientEndpoint:
    """The endpoint for ``address``: a path, with or without ``unix:``, or ``host:port``. Raises ``ValueError``."""
    path = address.removeprefix("unix:")
    if path.startswith("/"):
        return UNIXClientEndpoint(reactor, path)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"control must be host:port or the path of a socket, not {address!r}")
    return tcp_endpoint(reactor, host.strip("[]"), int(port), CONNECT_TIMEOUT)


async def open_control(
    reactor: IReactorTime, endpoint: IStreamClientEndpoint, password: str | None = None
) -> ControlProtocol:
    """Connect to a tor and authenticate: by ``password`` if it takes one, by SAFECOOKIE, or not at all.

    Raises ``ControlError``.
    """
    protocol = ControlProtocol(None if password is None else lambda: password)
    authenticated = False

    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False

    async def connect_and_authenticate() -> None:
        try:
            await endpoint.connect(factory)
        except ConnectingCancelledError:
            raise CancelledError from None
        if ITCPTransport.providedBy(protocol.transport):
            protocol.transport.setTcpKeepAlive(True)  # its host may go without a word
        await protocol.post_bootstrap

    try:
        await Deferred.fromCoroutine(connect_and_authenticate()).addTimeout(CONNECT_TIMEOUT, reactor)
        authenticated = True
    except (ConnectError, ControlError, DeferredTimeoutError, OSError, *_NONSENSE) as error:
        raise ControlError(protocol.misbehaviour or _clear(error)) from None
    finally:
        if not authenticated and protocol.transport is not None:
            protocol.transport.abortConnection()
    return protocol


async def open_beside(reactor: IReactorTime, protocol: TorControlProtocol) -> ControlProtocol:
    """Another connection to the same tor, for an answer of megabytes: events would wait behind it.

    It is read in small pieces, so that the reactor serves others in between. Raises ``ControlError``.
    """
    password = protocol.password_function and protocol.password_function()
    side = await open_control(reactor, control_endpoint(reactor, _address(protocol)), password)
    side.transport.bufferSize = READ_SIZE
    return side


def _address(protocol: TorControlProtocol) -> str:
    """Where the control connection goes to, as the configuration would say it."""
    peer = protocol.transport.getPeer()
    if isinstance(peer, UNIXAddress):
        return os.fsdecode(peer.name or b"")
    host = f"[{peer.host}]" if isinstance(peer, IPv6Address) else peer.host
    return f"{host}:{peer.port}"


def _clear(error: Exception) -> str:
    if isinstance(error, DeferredTimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, TorDisconnectError):
        return "it closed the connection"
    if isinstance(error, TorProtocolError):
        return f"it refused our authentication: {_short(error.text)}"
    return _short(error)


def _short(said: object) -> str:
    """What a peer may have written a part of, for one line that others read."""
    return " ".join(str(said).split()).rstrip(".")[:MOST_SAID]


def tor_version(protocol: TorControlProtocol) -> str:
    """The version without what follows it: ``0.4.9.11`` of ``0.4.9.11 (git-...)``."""
    return str(protocol.version).split(" ", 1)[0]


async def socks_listener(protocol: TorControlProtocol) -> tuple[str, int] | None:
    """Host and port of the first SOCKS port on TCP that tor opened and we can reach; None if it has none.

    TCP and not a socket file, because a measurement and its STREAM event are joined by the local port. A tor on
    another host is reached at the address of its control port; its loopback addresses are not ours.
    """
    peer, is_here = _peer(protocol.transport)
    listeners = await protocol.get_info_raw("net/listeners/socks")
    for listener in re.findall(r'"((?:[^"\\]|\\.)*)"', listeners):
        host, _, port = listener.rpartition(":")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            continue
        if address.is_unspecified and peer is not None and peer.version == address.version:
            return str(peer), int(port)
        if address.is_unspecified and is_here:
            return ("127.0.0.1" if address.version == 4 else "::1"), int(port)
        if is_here or not (address.is_unspecified or address.is_loopback):
            return str(address), int(port)
    return None


def _peer(transport: ITransport) -> tuple[IPAddress | None, bool]:
    """The IP address of a control port, None for a socket file; and whether it is on this host."""
    peer, own = (getattr(end, "host", None) for end in (transport.getPeer(), transport.getHost()))
    try:
        address = ipaddress.ip_address(str(peer).partition("%")[0])
    except ValueError:
        return None, True
    return address, address.is_loopback or peer == own


@attrs.frozen
class Bootstrap:
    """How far a tor has come: control-spec, STATUS_CLIENT BOOTSTRAP."""

    percent: int
    tag: str
    summary: str
    warning: str | None = None  # why it does not get on, if it does not

    def __str__(self) -> str:
        return f"{self.percent} % ({self.tag})"

    @property
    def sentence(self) -> str:
        return f"{self}: {self.summary}" + (f": {self.warning}" if self.warning else "")

    @classmethod
    def parse(cls, text: str) -> Bootstrap | None:
        """Read ``NOTICE BOOTSTRAP PROGRESS=45 TAG=... SUMMARY="..."``; None if it is something else."""
        if text.split(" ", 2)[1:2] != ["BOOTSTRAP"]:
            return None
        words = {key: value[1:-1] if value[:1] == '"' else value for key, value in _KEYWORD.findall(text)}
        if not words.get("PROGRESS", "").isdigit():
            return None
        return cls(int(words["PROGRESS"]), words.get("TAG", ""), words.get("SUMMARY", ""), words.get("WARNING"))


async def watch_bootstrap(protocol: TorControlProtocol, changed: Callable[[Bootstrap], None]) -> None:
    """Call ``changed`` with the state of the bootstrap, now and after every step."""

    def parse(text: str) -> None:
        bootstrap = Bootstrap.parse(text)
        if bootstrap is not None:
            changed(bootstrap)

    await protocol.add_event_listener("STATUS_CLIENT", parse)
    # Events may have come before the listener.
    answer = await protocol.get_info_raw("status/bootstrap-phase")
    parse(answer.partition("status/bootstrap-phase=")[2])


async def bridge_transport(protocol: TorControlProtocol) -> str | None:
    """The transport of the bridges that a tor uses, ``vanilla`` if they have none.

    None if it uses no bridges, or does not tell, as behind a filter.
    """
    try:
        answer: str = await protocol.get_conf_raw("UseBridges", "Bridge")
    except TorProtocolError:
        return None
    lines = [line.partition("=")[::2] for line in answer.splitlines()]
    bridges = [value.split() for name, value in lines if name == "Bridge" and value.split()]
    if ("UseBridges", "1") not in lines or not bridges:
        return None
    return bridges[0][0] if _TRANSPORT.fullmatch(bridges[0][0]) else "vanilla"


async def watch_complaints(protocol: TorControlProtocol, complaint: Callable[[str], None]) -> None:
    """Call ``complaint`` with every warning and error that tor logs."""
    for name in ("WARN", "ERR"):
        await protocol.add_event_listener(name, complaint)
