"""The kernel's view of a TCP connection."""

from __future__ import annotations

import socket
import struct
import sys
from types import SimpleNamespace
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.tcp_info import TCPInfo, TCPSeries, look

# In front of tcpi_rtt are eight bytes and fifteen 32-bit numbers; then the numbers in the order of linux/tcp.h.
METRICS = (25_000, 4000, 7, 42, 1448, 3, 9, 9, 5)
OLD = bytes(8) + struct.pack("=15I", *range(15)) + struct.pack("=9I", *METRICS)
NEW = OLD + struct.pack("=4Q", 1, 2, 3, 4) + struct.pack("=6IQ", 5, 6, 7, 21_000, 8, 9, 1_250_000)


class ParseTests(SynchronousTestCase):
    """What the kernel answers, whole and as older ones have it."""

    def test_a_new_kernel(self) -> None:
        """All of it, in seconds and bytes."""
        info = TCPInfo.parse(NEW)
        self.assertEqual(info, TCPInfo(0.025, 0.004, 0.021, 5, 42, 1_250_000))

    def test_an_older_kernel(self) -> None:
        """What it does not have is missing."""
        self.assertEqual(TCPInfo.parse(OLD), TCPInfo(0.025, 0.004, None, 5, 42, None))
        self.assertEqual(TCPInfo.parse(b""), TCPInfo(None, None, None, None, None, None))

    def test_what_was_not_measured_is_missing(self) -> None:
        """No round trip, and the largest number in place of the smallest one."""
        data = bytearray(NEW)
        data[68:76] = bytes(8)
        data[148:152] = b"\xff" * 4
        data[160:168] = bytes(8)
        self.assertEqual(TCPInfo.parse(bytes(data)), TCPInfo(None, None, None, 5, 42, None))


@skipUnless(sys.platform.startswith("linux"), "only Linux has TCP_INFO in this form")
class LookTests(SynchronousTestCase):
    """Real sockets."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.client = socket.create_connection(server.getsockname())
            self.served, _ = server.accept()
        self.addCleanup(self.client.close)
        self.addCleanup(self.served.close)

    def test_a_connection_on_this_machine(self) -> None:
        """It has a round trip of less than a second, and sends nothing twice."""
        for _ in range(20):
            self.served.sendall(bytes(1000))
            self.client.recv(1000, socket.MSG_WAITALL)
        info = look(self.served)
        assert info is not None
        assert info.rtt is not None
        self.assertTrue(0 < info.rtt < 1)
        self.assertEqual(info.retransmits, 0)
        self.assertGreater(info.cwnd or 0, 0)

    def test_what_is_no_tcp_socket(self) -> None:
        """Nothing is told of a Unix socket, of a closed one, and of what is none."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.client.close()
        self.assertEqual([look(ours), look(self.client), look(None), look(object())], [None] * 4)

    def test_a_series(self) -> None:
        """Looks are some time apart; the last one is taken in any case."""
        series = TCPSeries(SimpleNamespace(socket=self.client))
        for stamp in (1.0, 1.05, 1.2):
            series.look(stamp)
        series.look(1.21, is_last=True)
        self.assertEqual([stamp for stamp, _ in series.taken()], [1.0, 1.2, 1.21])
        self.assertEqual(series.last, series.taken()[-1][1])
        self.assertIsNotNone(series.last)
