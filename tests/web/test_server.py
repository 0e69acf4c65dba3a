"""Our web server as a service: where it listens, and what it says when it cannot."""

from __future__ import annotations

import socket
import time
from typing import Any
from unittest import mock

from twisted.application.service import MultiService
from twisted.internet import reactor as global_reactor
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.config.values import Address
from perfd.daemon.order import StartError
from perfd.experiments.ways import PublicAddress
from perfd.web.request import Node
from perfd.web.server import SiteServers, WebServer
from perfd.web.site import BACKLOG, make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from perfd.wire.arrival import KernelClock
from tests.support.sockets import let_kernel_stamp
from tests.support.web_client import get


class WebServerTests(SynchronousTestCase):
    """``WebServer``."""

    def test_listens(self) -> None:
        """At its address, once, with room for many connections that come at the same time."""
        reactor = MemoryReactorClock()
        site: Any = mock.Mock()
        web = WebServer(reactor, site, Address("127.0.0.1", 8080))
        web.privilegedStartService()
        web.startService()
        self.assertEqual(reactor.tcpServers, [(8080, site, BACKLOG, "127.0.0.1")])

    def test_port_in_use(self) -> None:
        """The operator is told which port it is."""
        reactor = mock.Mock()
        reactor.listenTCP.side_effect = CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use"))
        web = WebServer(reactor, mock.Mock(), Address("127.0.0.1", 8080))
        with self.assertRaisesRegex(StartError, r"cannot listen on 127\.0\.0\.1:8080: .*in use"):
            web.startService()

    def test_any_free_port(self) -> None:
        """The way to the server knows the port that was given for 0."""
        reactor = mock.Mock()
        reactor.listenTCP.return_value.getHost.return_value.port = 43210
        web = WebServer(reactor, mock.Mock(), Address("127.0.0.1", 0))
        web.startService()
        self.assertEqual(PublicAddress("127.0.0.1", 0, web).port, 43210)
        self.assertEqual(PublicAddress("127.0.0.1", 80, web).port, 80)


class ChangeTests(SynchronousTestCase):
    """What changes while it listens."""

    def test_limit_and_children(self) -> None:
        """The limit of strangers, and what answers under a name; all else stays."""
        reactor: Any = MemoryReactorClock()
        first, second, other = Node(), Node(), Node()
        parent = MultiService()
        site = SiteServers(
            reactor,
            parent,
            lambda _: {"a": first, "b": other},  # type: ignore[dict-item]
            ServerStamps(reactor.seconds),
            max_connections=5,
            listen=Address("127.0.0.1", 8080),
            page_ports=[8081],
        )
        parent.startService()
        (_, served, *_), (_, same, *_) = reactor.tcpServers
        self.assertIs(served, same)
        site.limit(3)
        site.serve({"a": second})  # type: ignore[dict-item]
        self.assertEqual(served._connections.most, 3)
        self.assertEqual((served.resource.children[b"a"], served.resource.children[b"b"]), (second, other))
        self.assertEqual(site.children, {"a": second, "b": other})


class StampTests(TestCase):
    """What a server stamps while it has no time to read."""

    timeout = 30

    async def test_many_at_once(self) -> None:
        """SERVERREQUEST of 200 requests that wait is when each came, not when its turn came to be read."""
        let_kernel_stamp(self)
        stamps = ServerStamps(time.monotonic)
        site = make_site(random_resources(1000), reactor=global_reactor, stamps=stamps)
        web = WebServer(global_reactor, site, Address("127.0.0.1", 0))
        web.startService()
        self.addCleanup(web.stopService)
        came: dict[str, tuple[float, float]] = {}
        for number in range(200):
            name = f"m{number}"
            stamps.expect(name)
            client = socket.create_connection(("127.0.0.1", web.port))
            self.addCleanup(client.close)
            before = time.monotonic()
            client.sendall(get(f"/random/10?id={name}"))
            came[name] = before, time.monotonic()
        time.sleep(0.05)
        served = {}
        for name in came:
            while stamps._expected[name][1] is None:
                await deferLater(global_reactor, 0.001)
            served[name] = stamps.take(name)
        noise = KernelClock.TOLERANCE
        for name, (before, after) in came.items():
            at = served[name].request
            assert at is not None
            self.assertTrue(before - noise <= at <= after + noise, (name, before, at, after))
            self.assertTrue(served[name].exact)
