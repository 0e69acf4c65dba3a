"""The server side of SOCKS, without I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from perfd.socks.machine import Command
from perfd.socks.server_machine import SUCCEEDED, ClientRequest, RequestRefusedError, SOCKSServerMachine, reply

GREETING = b"\x05\x01\x00"
LOGIN = b"\x05\x02\x00\x02"
PASSWORD = b"\x01\x04spam\x04eggs"
NAME = b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
ADDRESS = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90"
ADDRESS6 = b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50"
SOCKS4 = b"\x04\x01\x1f\x90\x7f\x00\x00\x01spam\0"
SOCKS4A = b"\x04\x01\x00\x50\x00\x00\x00\x01spam\0example.com\0"

NEGOTIATIONS = {
    GREETING + NAME: (b"\x05\x00", ClientRequest(5, "example.com", 80)),
    GREETING + ADDRESS: (b"\x05\x00", ClientRequest(5, "127.0.0.1", 8080)),
    GREETING + ADDRESS6: (b"\x05\x00", ClientRequest(5, "::1", 80)),
    LOGIN + PASSWORD + NAME: (b"\x05\x02\x01\x00", ClientRequest(5, "example.com", 80, "spam", "eggs")),
    LOGIN + b"\x01\x00\x00" + NAME: (b"\x05\x02\x01\x00", ClientRequest(5, "example.com", 80)),
    SOCKS4: (b"", ClientRequest(4, "127.0.0.1", 8080, "spam")),
    GREETING + b"\x05\xf0" + NAME[2:]: (b"\x05\x00", ClientRequest(5, "example.com", 80, command=Command.RESOLVE)),
    GREETING + b"\x05\xf1" + ADDRESS[2:]: (
        b"\x05\x00",
        ClientRequest(5, "127.0.0.1", 8080, command=Command.RESOLVE_PTR),
    ),
    b"\x04\xf0" + SOCKS4A[2:]: (b"", ClientRequest(4, "example.com", 80, "spam", command=Command.RESOLVE)),
    SOCKS4A: (b"", ClientRequest(4, "example.com", 80, "spam")),
}

REFUSALS = {
    b"GET / HTTP/1.1": b"",
    b"\x05\x01\x01": b"\x05\xff",
    b"\x05\x00": b"\x05\xff",
    LOGIN + b"\x02": b"\x01\x01",
    GREETING + b"\x04\x01\x00\x01": b"\x05\x01\x00\x01" + bytes(6),
    GREETING + b"\x05\x02" + ADDRESS[2:]: b"\x05\x07\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x02": b"\x05\x08\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x03\x00": b"\x05\x04\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x03\x03a b\x00\x50": b"\x05\x04\x00\x01" + bytes(6),
    GREETING + b"\x05\xf1" + NAME[2:]: b"\x05\x08\x00\x01" + bytes(6),
    b"\x04\xf1" + SOCKS4[2:]: b"\x00\x5b" + bytes(6),
    b"\x04\x02" + SOCKS4[2:]: b"\x00\x5b" + bytes(6),
    SOCKS4[:8] + b"x" * 256: b"\x00\x5b" + bytes(6),
    SOCKS4A[:13] + b"x" * 256: b"\x00\x5b" + bytes(6),
    SOCKS4A[:13] + b"\xff\0": b"\x00\x5b" + bytes(6),
}


class MachineTests(SynchronousTestCase):
    """The negotiation, without I/O."""

    def test_requests(self) -> None:
        """Every version, way of login and kind of address is understood, whole and byte by byte."""
        for data, (answer, request) in NEGOTIATIONS.items():
            for size in (len(data), 1, 3):
                machine = SOCKSServerMachine()
                sent, found = b"", None
                for at in range(0, len(data), size):
                    self.assertIsNone(found, data)
                    to_send, found = machine.feed(data[at : at + size])
                    sent += to_send
                self.assertEqual((sent, found, machine.rest), (answer, request, b""))

    def test_optimistic_data(self) -> None:
        """What follows the request at once is kept for the destination."""
        for data, (answer, request) in NEGOTIATIONS.items():
            machine = SOCKSServerMachine()
            self.assertEqual(machine.feed(data + b"\x05hello"), (answer, request))
            self.assertEqual(machine.rest, b"\x05hello")

    def test_refusals(self) -> None:
        """Whatever cannot be served is refused with the answer that its version has for it, whole or in pieces."""
        for data, answer in REFUSALS.items():
            for size in (len(data), 1):
                machine = SOCKSServerMachine()
                with self.assertRaises(RequestRefusedError) as refused:
                    for at in range(0, len(data), size):
                        machine.feed(data[at : at + size])
                self.assertEqual(refused.exception.reply, answer, data)

    def test_replies(self) -> None:
        """A reply has the answer of a RESOLVE in it, as far as its version can carry that."""
        for version, host, expected in (
            (5, "192.0.2.1", b"\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x00"),
            (5, "::1", b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x00"),
            (5, "a.example", b"\x05\x00\x00\x03\x09a.example\x00\x00"),
            (4, "192.0.2.1", b"\x00\x5a\x00\x00\xc0\x00\x02\x01"),
        ):
            self.assertEqual(reply(version, SUCCEEDED, host), expected)
        for version, host in ((4, "::1"), (4, "a.example"), (5, "b\xfccher.example"), (5, "x" * 256)):
            self.assertRaises(ValueError, reply, version, SUCCEEDED, host)

    @given(st.binary(max_size=700), st.integers(1, 100))
    def test_anything(self, data: bytes, size: int) -> None:
        """Any bytes lead to a request, a refusal, or the wait for more, and to nothing else."""
        machine = SOCKSServerMachine()
        for at in range(0, len(data), size):
            try:
                _, request = machine.feed(data[at : at + size])
            except RequestRefusedError:
                return
            if request is not None:
                self.assertTrue(request.host)
                return
            self.assertLess(len(machine.rest), 600)
