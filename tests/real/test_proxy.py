"""The measuring proxy in front of a real tor on the private network."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from perfd.proxy import MeasuringProxy, OpenPort, ProxyConnection
from perfd.proxy.connection import MeasuredConnection
from perfd.tor.embedded import EmbeddedSocks
from perfd.tor.launch import TorService
from tests.support.instance import free_port
from tests.support.network import SIZE, WithEvents

pytestmark = pytest.mark.tor


class Unbounded(Protocol):
    """Answers with a document that ends with its connection; if it is not ``whole``, with half of it."""

    transport: Any

    def __init__(self, whole: bool) -> None:
        self._whole = whole

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(SIZE))
        if self._whole:
            self.transport.loseConnection()


class RealProxy(WithEvents):
    """Each connection is joined to what tor did with it; one tor for all that needs the same options."""

    def open(self, service: TorService, **options: Any) -> OpenPort:
        proxy = MeasuringProxy(reactor, self.clock, service.socks_port, self.events)
        opened = proxy.open(**options)
        self.addCleanup(lambda: Deferred.fromCoroutine(opened.close(wait=0)))
        return opened

    async def get(self, port: int, url: str) -> str:
        """curl through the SOCKS port; its complaint, if it has one."""
        argv = ["-sS", "--fail", "-o", "/dev/null", "--max-time", "30"]
        argv += ["--socks5-hostname", f"127.0.0.1:{port}", url]
        curl = shutil.which("curl") or "curl"
        _output, complaint, _code = await getProcessOutputAndValue(curl, argv, env=os.environ)
        return complaint.decode()

    async def fetch(self, service: TorService, count: int, **options: Any) -> list[ProxyConnection]:
        """``count`` fetches at once over a port of their own; the private network may need some tries."""
        for _ in range(10):
            opened = self.open(service, **options)
            complaints = await gatherResults(
                [Deferred.fromCoroutine(self.get(opened.port, self.server)) for _ in range(count)]
            )
            records = await opened.close()
            if not any(complaints):
                break
            await deferLater(reactor, 2.0)
        self.assertEqual((complaints, len(records)), ([""] * count, count))
        return list(records)

    async def test_joins(self) -> None:
        """Own streams each; circuits by user name; tor's reply codes; all stamps in order, tor's among them."""
        service = self.tor()
        await service.when_ready()
        alice, bob = await gatherResults(
            [
                Deferred.fromCoroutine(self.fetch(service, 3, login=(user, "perfd"), measurement=user))
                for user in ("alice", "bob")
            ]
        )
        records = [*alice, *bob]
        self.assertEqual(len({record.joined.stream.stream_id for record in records}), 6)
        self.assertEqual({record.joined.stream.measurement for record in alice}, {"alice"})
        ours = {leg.id for record in alice for leg in record.joined.legs}
        theirs = {leg.id for record in bob for leg in record.joined.legs}
        self.assertTrue(ours and theirs)
        self.assertEqual(ours & theirs, set())
        for record in records:
            stream, circuit = record.joined.stream, record.joined.circuit
            self.assertEqual(stream.source_addr, f"127.0.0.1:{record.localport}")
            self.assertEqual(stream.target, f"{record.host}:{record.port}")
            self.assertEqual(stream.circuit, circuit.id)
            self.assertGreaterEqual(len(circuit.path), 3)
            self.assertGreater(record.readbytes, SIZE)
            self.assertEqual((record.code, record.errorcode), (0, None))
            steps = (record.start, record.asked, record.connect, record.request, record.response)
            self.assertEqual(list(steps), sorted(steps))
            # Of an event it is known when it was read, of the reply when it came: that may be the other way round.
            self.assertTrue(record.request <= stream.new < record.response + 1.0, (record.request, stream.new))
            later = (record.response, record.replied, record.datarequest, record.dataresponse, record.datacomplete)
            self.assertEqual(list(later), sorted(later))
            shown = record.as_dict()
            self.assertEqual((shown["circ_id"], shown["stream"]), (circuit.circ_id, stream.id))

    async def test_refused(self) -> None:
        """A port where nobody listens: the program is told what tor itself would have told it."""
        service = self.tor()
        await service.when_ready()
        url = f"http://127.0.0.1:{free_port()}/"
        directly = await self.get(service.socks_port().endpoint.free._port, url)
        opened = self.open(service, login=("carol", "perfd"))
        self.assertEqual(await self.get(opened.port, url), directly)
        (record,) = await opened.close()
        self.assertIn(f"({record.code})", directly)
        self.assertEqual((record.closedby, record.how), ("remote", "refused"))
        stream = record.joined.stream
        self.assertEqual(stream.source_addr, f"127.0.0.1:{record.localport}")
        self.assertEqual(record.errorcode, f"TOR/END/{stream.failure_remote}")

    async def test_resolve(self) -> None:
        """tor-resolve through the proxy: the address of a name that tor maps itself, and what it refuses."""
        port = "SocksPort 127.0.0.1:auto NoPreferIPv6Automap"  # SOCKS 4 knows IPv4 only
        service = self.tor(torrc=f"{port}\nAutomapHostsOnResolve 1\nAutomapHostsSuffixes .mapped")
        await service.when_ready()
        opened = self.open(service, login=("frank", "perfd"))
        proxy = f"127.0.0.1:{opened.port}"

        async def resolve(*arguments: str) -> str:
            argv = [*arguments, proxy]
            output, _errors, _code = await getProcessOutputAndValue(
                shutil.which("tor-resolve"), argv, env=os.environ
            )
            return output.decode().strip()

        address = await resolve("-5", "site.mapped")
        self.assertTrue(ipaddress.ip_address(address))
        self.assertEqual(await resolve("-4", "site.mapped"), address)
        self.assertEqual(await resolve("-5", "-x", address), "")
        records = await opened.close()
        self.assertEqual([each.command for each in records], ["RESOLVE", "RESOLVE", "RESOLVE_PTR"])
        self.assertEqual([(each.answer, each.code) for each in records], [(address, 0), (address, 0), (None, 4)])
        self.assertEqual([each.errorcode for each in records[:2]], [None] * 2)
        self.assertTrue(records[2].errorcode.startswith("TOR/"))
        self.assertTrue(all(each.joined.stream is not None for each in records))

    async def test_not_through_tor(self) -> None:
        """Through another SOCKS port all goes well, and tor, which is listened to, knows nothing of it."""
        service = self.tor()
        await service.when_ready()
        other = EmbeddedSocks(reactor, "default")
        other.startService()
        self.addCleanup(other.stopService)
        opened = MeasuringProxy(reactor, self.clock, other.socks_port, self.events).open()
        self.assertEqual(await self.get(opened.port, self.server), "")
        (record,) = await opened.close()
        self.assertEqual((record.code, record.errorcode), (0, "PERFD/NOSTREAM"))

    async def test_ends(self) -> None:
        """What ends with its connection is whole for a program only if tor tells of an orderly end."""
        service = self.tor(torrc="ConfluxEnabled 0")
        await service.when_ready()
        self.server = self.listen(whole=True)
        (record,) = await self.fetch(service, 1, login=("eve", "perfd"))
        self.assertEqual((record.closedby, record.how, record.errorcode), ("remote", "closed", None))
        url = self.listen(whole=False)

        def break_circuit(connection: MeasuredConnection) -> None:
            assert connection.join is not None
            circ_id = connection.join.stream.circuit.circ_id  # type: ignore[union-attr]
            self.events._protocol.queue_command(f"CLOSECIRCUIT {circ_id}")  # type: ignore[union-attr]

        def kill_tor(_: MeasuredConnection) -> None:
            for pid in self.tors():
                os.kill(pid, signal.SIGKILL)

        for disturb, errorcodes in (
            (break_circuit, ("TOR/DESTROY", "TOR/CONNRESET")),
            (kill_tor, ("PERFD/CLOSED", "PERFD/RESET")),
        ):
            opened = self.open(service, login=("eve", "perfd"))
            getting = Deferred.fromCoroutine(self.get(opened.port, url))
            await self.until(lambda opened=opened: any(each.remote.count for each in opened.connections))
            disturb(next(iter(opened.connections)))
            self.assertIn("reset by peer", await getting)
            (record,) = await opened.close()
            self.assertEqual(record.closedby, "remote")
            self.assertIn(record.errorcode, errorcodes)

    def listen(self, *, whole: bool) -> str:
        """The URL of a document without a length, of which half is sent, or all."""
        served: list[Unbounded] = []

        def serve() -> Unbounded:
            served.append(Unbounded(whole))
            return served[-1]

        def abort() -> None:  # an exit may not have closed its end yet
            for each in served:
                each.transport.abortConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(serve), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(abort)
        return f"http://127.0.0.1:{port.getHost().port}/"

    async def test_optimistic(self) -> None:
        """Tor takes all in one write, and the program's first bytes went out before its reply."""
        service = self.tor(torrc="ConfluxEnabled 0")
        await service.when_ready()
        for record in await self.fetch(service, 3, login=("dora", "perfd"), optimistic=True):
            self.assertEqual((record.code, record.errorcode), (0, None))
            steps = (record.replied, record.connect, record.request, record.response, record.datacomplete)
            self.assertEqual(list(steps), sorted(steps))
            self.assertLess(record.datarequest, record.response)
            self.assertIsNone(record.joined.circuit.conflux_id)
        opened = self.open(service, login=("dora", "perfd"), optimistic=True)
        self.assertIn("reset by peer", await self.get(opened.port, f"http://127.0.0.1:{free_port()}/"))
        (record,) = await opened.close()
        self.assertEqual(record.errorcode, f"TOR/END/{record.joined.stream.failure_remote}")
        self.assertGreater(record.code, 0)
