"""Relays that hang are found out, and only those."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from perfd.config.testnet import TestnetConfig
from perfd.processes.programs import command_line
from perfd.tor.testnet import service as service_module
from perfd.tor.testnet.liveness import _answers, _hangs, end_hung_relays
from perfd.tor.testnet.network import Testnet, network_status
from perfd.tor.testnet.relays import Relay
from perfd.tor.testnet.service import TestnetService
from tests.support.instance import free_port


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; the test's timeout ends it."""
    while not condition():
        await deferLater(reactor, 0.05)


def relay(port: int) -> Relay:
    """One that listens there."""
    return Relay(Path("/nowhere/exit1"), authority=False, or_port=port)


class Rude(Protocol):
    """Says nothing and goes."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class AnswerTests(TestCase):
    """What counts as an answer."""

    async def test_silence(self) -> None:
        """The kernel takes the connection, and nobody says anything: it hangs."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            self.assertFalse(await _answers(reactor, relay(port), 0.2))
            self.assertTrue(await _hangs(reactor, relay(port), 0.0, 0.2))

    async def test_nobody(self) -> None:
        """A relay that does not run is no relay that hangs."""
        self.assertTrue(await _answers(reactor, relay(free_port()), 5.0))

    async def test_closed(self) -> None:
        """One that closes the connection runs."""
        rude = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Rude))
        self.addCleanup(rude.stopListening)
        self.assertTrue(await _answers(reactor, relay(rude.getHost().port), 5.0))

    async def test_no_network(self) -> None:
        """Where there never was a network, nothing hangs."""
        self.assertEqual(await end_hung_relays(reactor, Path(self.mktemp())), [])


@pytest.mark.long
class HungRelayTests(TestCase):
    """A relay of a real network that is stopped."""

    timeout = 300

    async def test_stopped_relay(self) -> None:
        """It is killed and started again, and the others are left alone."""
        self.patch(service_module, "ANSWER_INTERVAL", 1.0)
        with tempfile.TemporaryDirectory() as directory:
            network = Testnet(Path(directory), config=TestnetConfig(relays=2), owner=os.getpid)
            service = TestnetService(reactor, network)
            service.startService()
            try:
                await service.when_ready()
                before = network_status(Path(directory)).pids
                hung = before[1] or 0
                os.kill(hung, signal.SIGSTOP)
                await until(lambda: not command_line(hung))
                await until(lambda: network_status(Path(directory)).running)
                after = network_status(Path(directory)).pids
                self.assertEqual(after[0], before[0])
                self.assertNotEqual(after[1], before[1])
                self.assertIsNone(service.not_ready)
            finally:
                await service.stopService()
