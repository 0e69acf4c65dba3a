"""Onion services of real tors on the private network, and how a client reaches them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from perfd.processes.programs import find_processes
from perfd.socks import SOCKS5ClientEndpoint
from perfd.socks.errors import OnionServiceMissingAuthorization
from perfd.tor.events.join import Joined, error_fields
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.onion import OnionService
from perfd.tor.onion_client import ClientKey, OnionClient
from tests.support.network import WithEvents

pytestmark = pytest.mark.tor

REQUESTED, RECEIVED = "HSDESCREQUESTED", "HSDESCRECEIVED"
INTRODUCED = ("HSINTROBUILT", "HSINTROACK")
MET = ("HSRENDBUILT", "HSRENDESTABLISHED", "HSRENDJOINED")


class OnionServices(WithEvents):
    """Services of two tors, and the way of a third one to them, in one test, because the tors are shared."""

    timeout = 240

    def onion(self, name: str, **options: Any) -> OnionService:
        """A service that leads to this test's web server."""
        port = int(self.server.rpartition(":")[2].rstrip("/"))
        return OnionService(self.directory / "onion" / name, lambda: port, **options)

    def launch(self, name: str, *subscribers: Any, single_onion: bool = False) -> TorService:
        """A tor that was told to start."""
        options = TorOptions(
            name=name, data_directory=self.directory / name, bootstrap_timeout=120.0, single_onion=single_onion
        )
        service = TorService(reactor, options, self.network)
        for each in subscribers:
            service.subscribe(each.connected, each.disconnected)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def reach(
        self, client: TorService, onion: OnionService, user: str, *, fresh: bool = True
    ) -> Mapping[str, Any]:
        """The way of a fetch from the service; the private network has moments in which it fails.

        ``fresh``: tor has no descriptor of it, also not from a try that failed.
        """
        for attempt in range(5):
            code, joined = await self.fetch(client, f"{user}{attempt}", f"http://{onion.host}/")
            if code == 0:
                break
            await deferLater(reactor, 2.0)
            if fresh:
                await self.events.forget_descriptors()
        self.assertEqual((code, error_fields(joined)), (0, None))
        self.check(joined)
        return joined.hs

    def check(self, joined: Joined) -> None:
        """The circuits' steps are in the only order that is possible, and within the run."""
        hs, stream = joined.hs, joined.stream
        self.assertEqual({*INTRODUCED, *MET} - {*hs}, set())
        self.assertEqual(hs[RECEIVED] if REQUESTED in hs else None, hs.get(RECEIVED))
        for steps in (
            (REQUESTED, RECEIVED, *INTRODUCED),
            (REQUESTED, RECEIVED, *MET),
            ("HSINTROBUILT", "HSRENDJOINED"),
        ):
            times = [hs[key] for key in steps if key in hs]
            self.assertEqual(times, sorted(times), hs)
        times = [stream.new, *(value for value in hs.values() if isinstance(value, float)), stream.end]
        self.assertEqual((min(times), max(times)), (stream.new, stream.end))
        self.assertGreaterEqual(min(hs["HSINTROS"], hs["HSRENDS"]), 1)

    async def test_onion_services(self) -> None:
        """Plain, single, with client authorisation; with and without the descriptor, with and without the key."""
        key = ClientKey(self.directory / "onion" / "client-key")
        plain, secret = self.onion("plain"), self.onion("secret", client_key=key)
        single = self.onion("single", single_onion=True)
        wrong = self.onion("wrong", single_onion=True)
        with_key = OnionClient(secret, key, tor="client")
        host = self.launch("host", plain, secret, wrong)
        self.launch("far", single, single_onion=True)
        client = self.launch("client", self.events, with_key)
        await gatherResults([Deferred.fromCoroutine(tor.when_ready()) for tor in (host, client)])
        await self.until(lambda: not (plain.not_ready or secret.not_ready or single.not_ready))
        self.assertIn("not published: tor refused it", wrong.not_ready or "")
        self.flushLoggedErrors()

        hs = await self.reach(client, plain, "first")
        self.assertLess(hs[REQUESTED], hs[RECEIVED])
        self.assertNotIn(REQUESTED, await self.reach(client, plain, "second", fresh=False))
        self.assertIn(RECEIVED, await self.reach(client, secret, "secret"))
        self.assertIn(RECEIVED, await self.reach(client, single, "single"))

        addresses = [service.host for service in (plain, secret)]
        (pid,) = find_processes([self.directory / "host" / "torrc"])
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: plain.not_ready and secret.not_ready)
        await self.until(lambda: not (plain.not_ready or secret.not_ready))
        self.assertEqual([service.host for service in (plain, secret)], addresses)
        for path in (self.directory / "onion").iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)

        self.assertIs(await self.events.forget_descriptors(), True)
        self.assertIn(RECEIVED, await self.reach(client, plain, "restarted"))
        self.assertIn(RECEIVED, await self.reach(client, secret, "again"))  # tor forgot the key, too

        await client.protocol.queue_command(f"ONION_CLIENT_AUTH_REMOVE {secret.host.removesuffix('.onion')}")
        code, joined = await self.fetch(client, "keyless", f"http://{secret.host}/")
        self.assertNotEqual(code, 0)
        self.assertEqual((joined.hs["HSINTROS"], joined.hs["HSRENDS"]), (0, 0))
        self.assertIn(REQUESTED, joined.hs)
        self.assertIn(RECEIVED, joined.hs)
        self.assertEqual((joined.stream.status, error_fields(joined)[0]), ("FAILED", "TOR/MISC"))
        endpoint = SOCKS5ClientEndpoint(
            secret.host, 80, client.socks_port().endpoint, {"login": ("keyless", "perfd")}
        )
        with self.assertRaises(OnionServiceMissingAuthorization):
            await endpoint.connect(Factory.forProtocol(Protocol))
        counts = self.events.counts
        self.assertEqual((counts.unparsed, counts.unknown, counts.not_taken), ({}, {}, 0))
