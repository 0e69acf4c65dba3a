"""What is asked on a control connection."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransport
from txtorcon.torcontrolprotocol import Event

from perfd.tor.control import ControlProtocol, socks_listener


class Protocol:
    """A control connection from ``own`` to ``peer``; None is a socket file."""

    def __init__(self, own: str | None, peer: str | None, listeners: str) -> None:
        self.transport = StringTransport(self._address(own), self._address(peer))  # type: ignore[arg-type]
        self._listeners = listeners

    def get_info_raw(self, key: str) -> Deferred[str]:
        assert key == "net/listeners/socks"
        return succeed(f"{key}={self._listeners}")

    @staticmethod
    def _address(host: str | None) -> Any:
        if host is None:
            return UNIXAddress(None)
        return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 9051)


@pytest.mark.parametrize(
    ("own", "peer", "listeners", "expected"),
    [
        ("192.0.2.2", "192.0.2.1", '"0.0.0.0:9050"', ("192.0.2.1", 9050)),
        ("192.0.2.2", "192.0.2.1", '"127.0.0.1:9050" "0.0.0.0:9150"', ("192.0.2.1", 9150)),
        ("192.0.2.2", "192.0.2.1", '"127.0.0.1:9050" "198.51.100.1:9150"', ("198.51.100.1", 9150)),
        ("192.0.2.2", "192.0.2.1", '"127.0.0.1:9050" "[::]:9050"', None),
        ("2001:db8::2", "2001:db8::1", '"0.0.0.0:9050" "[::]:9150"', ("2001:db8::1", 9150)),
        ("192.0.2.1", "192.0.2.1", '"0.0.0.0:9050"', ("192.0.2.1", 9050)),
        ("192.0.2.1", "192.0.2.1", '"unix:/run/tor/socks" "127.0.0.1:9050"', ("127.0.0.1", 9050)),
        ("127.0.0.1", "127.0.0.1", '"0.0.0.0:9050"', ("127.0.0.1", 9050)),
        ("127.0.0.1", "127.0.0.1", '"[::]:9050"', ("::1", 9050)),
        (None, None, '"0.0.0.0:9050"', ("127.0.0.1", 9050)),
        (None, None, '"[::]:9050"', ("::1", 9050)),
        (None, None, "", None),
    ],
)
def test_socks_listener(
    own: str | None, peer: str | None, listeners: str, expected: tuple[str, int] | None
) -> None:
    """On this host, at its address on another one, or at none that can be reached from here."""
    found: list[Any] = []
    protocol: Any = Protocol(own, peer, listeners)
    Deferred.fromCoroutine(socks_listener(protocol)).addCallback(found.append)
    assert found == [expected]


class Listening:
    """A control connection that listens to an event, and what it heard."""

    def __init__(self, keyword: str) -> None:
        self.heard: list[str] = []
        self.protocol = ControlProtocol()
        transport = StringTransport()
        transport.disconnecting = False  # type: ignore[misc]
        self.protocol.transport = transport
        event = Event(keyword)
        event.listen(self.heard.append)
        self.protocol.events = {keyword: event}


EVENT = "ID=19 READ=514 WRITTEN=0 TIME=2026-11-27T08:52:08.253625 SS=1 CWND=124 RTT=0 MIN_RTT=0"


@pytest.mark.parametrize("keyword", ["CIRC_BW", "CIRC"])
def test_events(keyword: str) -> None:
    """The event that comes most often is told as all others are, and only as an event."""
    listening = Listening(keyword)
    protocol = listening.protocol
    protocol.dataReceived(f"650 {keyword} {EVENT}\r\n".encode() * 2)
    assert listening.heard == [EVENT] * 2
    answer: list[str] = []
    protocol.queue_command("GETINFO config-text").addCallback(answer.append)
    protocol.dataReceived(f"650 {keyword} {EVENT}\r\n".encode())
    assert listening.heard == [EVENT] * 3
    protocol.dataReceived(f"250+config-text=\r\n650 {keyword} {EVENT}\r\n.\r\n250 OK\r\n".encode())
    assert listening.heard == [EVENT] * 3
    assert answer == [f"config-text=\n650 {keyword} {EVENT}"]
    protocol.dataReceived(b"650 ADDRMAP somewhere\r\n")
    protocol.events.clear()
    protocol.dataReceived(f"650 {keyword} {EVENT}\r\n".encode())
    assert len(listening.heard) == 3
