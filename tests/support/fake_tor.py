"""A tor without a tor: its process, its control port, and the reactor on which both live.

The fake checks what it is asked: commands before authentication, unknown commands, GETINFO keys and events are
failures of the test.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

SERVER_NONCE = bytes(range(32)).hex().upper()


def _unescaped(text: str) -> str:
    """A quoted string of a torrc as tor reads it, so far as Perfd writes such."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class FakeProcess:
    """The transport of a launched program; the test decides when and how it ends."""

    pid = 4711

    def __init__(self, protocol: Any, executable: str, argv: Sequence[str]) -> None:
        self.protocol = protocol
        self.executable = executable
        self.argv = list(argv)
        self.signals: list[str] = []
        self.ended = False
        self.stdin_closed = False
        self.pipes_closed = False

    def signalProcess(self, signal: str) -> None:
        if self.ended:
            raise error.ProcessExitedAlready
        self.signals.append(signal)

    def closeStdin(self) -> None:
        self.stdin_closed = True

    def loseConnection(self) -> None:
        self.pipes_closed = True

    def option(self, name: str) -> str:
        """The argument after ``name``."""
        return self.argv[self.argv.index(name) + 1]

    @property
    def torrc(self) -> list[str]:
        """The lines of the torrc it was started with."""
        return Path(self.option("-f")).read_text(encoding="utf-8").splitlines()

    def say(self, *lines: str) -> None:
        """Print log lines as tor does."""
        for line in lines:
            self.protocol.childDataReceived(1, f"Nov 23 12:00:00.000 {line}\n".encode())

    def open_control(self) -> str:
        """Write the file that says where the control port is, as tor does; return the address."""
        settings = dict(re.findall(r"^(ControlPort\w*) \"(.*)\"$", "\n".join(self.torrc), re.MULTILINE))
        port = _unescaped(settings["ControlPort"])  # whose path is a quoted string itself
        path = _unescaped(port.removeprefix("unix:").strip('"'))
        address = "127.0.0.1:4321" if path == "127.0.0.1:auto" else path
        line = f"PORT={address}" if address == "127.0.0.1:4321" else f"UNIX_PORT={address}"
        Path(_unescaped(settings["ControlPortWriteToFile"])).write_text(line + "\n", encoding="utf-8")
        return address

    def end(self, code: int = 0) -> None:
        """End the process; a negative ``code`` is a signal."""
        self.ended = True
        reason: Any = error.ProcessDone(None)
        if code:
            reason = error.ProcessTerminated(code if code > 0 else None, -code if code < 0 else None)
        self.protocol.processEnded(Failure(reason))


class FakeReactor(MemoryReactorClock):
    """A reactor on which programs are started and UNIX sockets connected to, but nothing happens by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []

    def spawnProcess(
        self, protocol: Any, executable: str, args: Sequence[str], env: Any = None, path: str | None = None
    ) -> FakeProcess:
        assert all(isinstance(argument, str) for argument in args)
        process = FakeProcess(protocol, executable, args)
        self.processes.append(process)
        protocol.transport = process
        protocol.connectionMade()
        return process

    @property
    def process(self) -> FakeProcess:
        """The program started last."""
        return self.processes[-1]

    def settle(self) -> None:
        """Let everything happen that takes no time."""
        for _ in range(60):
            self.advance(0)


class _ControlTransport(StringTransport):
    """The client's side of the control connection: what is written goes to the fake."""

    def __init__(self, tor: FakeTor, own: IAddress, peer: IAddress) -> None:
        super().__init__(hostAddress=own, peerAddress=peer)
        self._tor = tor

    def write(self, data: bytes) -> None:
        self._tor.reactor.callLater(0, self._tor.received, data)

    def loseConnection(self) -> None:
        self._tor.hang_up()

    abortConnection = loseConnection


class FakeTor:
    """The control port of a tor (control-spec): answers what Perfd and txtorcon ask."""

    def __init__(self, reactor: FakeReactor, **changed: Any) -> None:
        self.reactor = reactor
        self.version = changed.pop("version", "0.4.9.11")
        self.phase = changed.pop("phase", bootstrap_phase(0, "starting", "Starting"))
        self.socks = changed.pop("socks", '"127.0.0.1:9050"')
        self.password = changed.pop("password", None)
        self.methods = changed.pop("methods", "NULL" if self.password is None else "HASHEDPASSWORD")
        self.cookie_file: Path | None = changed.pop("cookie_file", None)
        self.cookie: bytes | None = changed.pop("cookie", None)  # None: what is in the file
        self.endless: list[str] = changed.pop("endless", [])  # in the place of its first answer
        self.own = changed.pop("own", None)  # our address towards it; the same as its own: it is on this host
        assert not changed, changed
        self.commands: list[str] = []
        self.subscribed: set[str] = set()
        self.authenticated = False
        self.connected = False
        self.bridges = ["UseBridges=0", "Bridge"]  # of its configuration
        self.traffic = (0, 0)  # bytes that it has read and written
        self.hangs = False  # reads nothing, until ``wake``
        self._unread: list[bytes] = []
        self._protocol: Any = None
        self._nonces = b""

    def accept(self) -> None:
        """Accept the connection that was attempted last, and answer until nothing more is asked."""
        if self.reactor.unixClients:
            path, factory, *_ = self.reactor.unixClients[-1]
            own, peer = UNIXAddress(None), UNIXAddress(path)
        else:
            host, port, factory, *_ = self.reactor.tcpClients[-1]
            kind = IPv6Address if ":" in host else IPv4Address
            own, peer = kind("TCP", self.own or host, 40001), kind("TCP", host, port)
        self._protocol = factory.buildProtocol(peer)
        self.connected = True
        self._protocol.makeConnection(_ControlTransport(self, own, peer))
        self.reactor.settle()

    def hang_up(self) -> None:
        """Close the control connection."""
        if self.connected:
            self.connected = False
            self.reactor.callLater(0, self._protocol.connectionLost, Failure(error.ConnectionDone()))

    def send(self, *lines: str) -> None:
        """Send lines as they are."""
        for line in lines:
            self._protocol.dataReceived(line.encode("utf-8") + b"\r\n")

    def event(self, name: str, text: str) -> None:
        """Report an event, if Perfd asked for such events."""
        if name in self.subscribed:
            self.send(f"650 {name} {text}")
            self.reactor.settle()

    def bootstrapped(self, percent: int, tag: str, summary: str, more: str = "") -> None:
        """Report a step of the bootstrap."""
        severity = "WARN" if more else "NOTICE"
        self.phase = bootstrap_phase(percent, tag, summary, severity, more)
        self.event("STATUS_CLIENT", self.phase)

    def wake(self) -> None:
        """Go on where it hung."""
        self.hangs = False
        unread, self._unread = self._unread, []
        for data in unread:
            self.received(data)
        self.reactor.settle()

    def received(self, data: bytes) -> None:
        if not self.connected:
            return
        if self.hangs:
            self._unread.append(data)
            return
        for line in data.decode("ascii").splitlines():
            self.commands.append(line)
            self.send(*self._answer(line))

    def _answer(self, line: str) -> list[str]:
        command, _, arguments = line.partition(" ")
        if self.endless:
            return self.endless
        if command in ("PROTOCOLINFO", "AUTHCHALLENGE", "AUTHENTICATE"):
            return self._authentication(command, arguments)
        assert self.authenticated, f"{line} before authentication"
        if command == "GETINFO":
            return [*(f"250-{key}={self._information(key)}" for key in arguments.split()), "250 OK"]
        if command == "SETEVENTS":
            self.subscribed = set(arguments.split())
            assert self.subscribed <= {"STATUS_CLIENT", "WARN", "ERR", "CIRC", "STREAM", "CIRC_BW", "BW"}, line
            return ["250 OK"]
        if line == "GETCONF UseBridges Bridge":
            last = f"250 {self.bridges[-1]}" if self.bridges else "510 Command filtered"
            return [*(f"250-{each}" for each in self.bridges[:-1]), last]
        assert line in ("USEFEATURE EXTENDED_EVENTS", "TAKEOWNERSHIP", "SETCONF DisableNetwork=0"), line
        return ["250 OK"]

    def _authentication(self, command: str, arguments: str) -> list[str]:
        if command == "PROTOCOLINFO":
            file = "" if self.cookie_file is None else f' COOKIEFILE="{self.cookie_file}"'
            auth = f"250-AUTH METHODS={self.methods}{file}"
            return ["250-PROTOCOLINFO 1", auth, '250-VERSION Tor="1"', "250 OK"]
        if command == "AUTHCHALLENGE":
            kind, _, nonce = arguments.partition(" ")
            assert kind == "SAFECOOKIE"
            self._nonces = bytes.fromhex(nonce) + bytes.fromhex(SERVER_NONCE)
            return [f"250 AUTHCHALLENGE SERVERHASH={self._hash('server-to-controller')} SERVERNONCE={SERVER_NONCE}"]
        expected = "" if self.password is None else self.password.encode().hex()
        if self._nonces:
            expected = self._hash("controller-to-server")
        if arguments != expected:
            return ["515 Authentication failed: Password did not match HashedControlPassword"]
        self.authenticated = True
        return ["250 OK"]

    def _hash(self, way: str) -> str:
        """The proof of who knows the cookie (control-spec 3.24)."""
        assert self.cookie_file is not None
        cookie = self.cookie_file.read_bytes() if self.cookie is None else self.cookie
        key = f"Tor safe cookie authentication {way} hash".encode()
        return hmac.new(key, cookie + self._nonces, "sha256").hexdigest().upper()

    def _information(self, key: str) -> str:
        known = {
            "signal/names": "RELOAD SHUTDOWN",
            "version": self.version,
            "events/names": "STATUS_CLIENT WARN ERR CIRC CIRC_BW BW STREAM",
            "net/listeners/socks": self.socks,
            "status/bootstrap-phase": self.phase,
            "traffic/read": self.traffic[0],
            "traffic/written": self.traffic[1],
        }
        return str(known[key])


def bootstrap_phase(percent: int, tag: str, summary: str, severity: str = "NOTICE", more: str = "") -> str:
    """The text of a bootstrap status, as in the event and in the answer to GETINFO."""
    text = f'{severity} BOOTSTRAP PROGRESS={percent} TAG={tag} SUMMARY="{summary}"'
    return f"{text} {more}" if more else text


def refuse(reactor: FakeReactor) -> None:
    """Refuse the connection that was attempted last."""
    _, factory, *_ = reactor.unixClients[-1]
    factory.clientConnectionFailed(reactor.connectors[-1], Failure(error.ConnectionRefusedError()))
    reactor.settle()
