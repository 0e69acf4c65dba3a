"""``type = upload`` from the configuration to the record: over real tor on the private network, and directly."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from bench.runs import last_record
from perfd.clock import Clock
from perfd.config import parse_config
from perfd.config.values import Address
from perfd.daemon.sinks import MemorySink
from perfd.experiments.run import Alternative, TorExperiment
from perfd.experiments.upload import UploadRun
from perfd.laboratory import Laboratory
from perfd.logfile.line import parse, render
from perfd.record import DECILES, Error, Measurement, Outcome
from perfd.tor.events.sink import NullEventSink
from tests.support.instance import free_port
from tests.support.network import NetworkCase, RealCase

MIB = 2**20

CONFIG = """
[perfd]
network = {network}
testnet = {testnet}
[server]
max-size = 4 MiB
[experiment:upload]
type = upload
size = {size}
timeout = {timeout}
{options}
"""


class UploadCase(RealCase):
    """Runs of experiments."""

    def start(self, options: str = "", server_port: int = 0, **values: Any) -> Any:
        """The experiment, in a laboratory of its own that was started.

        ``server_port`` is where the server is said to be, if it is not where it is.
        """
        values = {
            "network": "socks",
            "testnet": self.directory / "none",
            "size": "1 MiB",
            "timeout": "60 s",
        } | values
        config = parse_config(CONFIG.format(options=options, **values), self.directory / "perfd.conf")
        listen, public = Address("127.0.0.1", 0), Address("127.0.0.1", server_port)
        server = attrs.evolve(config.server, listen=listen, public_address=public)
        config = attrs.evolve(config, server=server)
        laboratory = Laboratory(reactor, Clock(), config, {}, NullEventSink())
        self.addCleanup(laboratory.stopService)
        laboratory.startService()
        self.laboratory = laboratory
        return laboratory.experiments(config.experiments[0])[0]

    def check(self, m: Measurement, size: int = MIB) -> None:
        """What holds for each upload that went well."""
        self.assertEqual((m.outcome, m.errorcode, m.reason, m.status), (Outcome.OK, None, None, 200))
        self.assertEqual((m.type, m.filesize, m.payloadbytes), ("upload", size, size))
        self.assertEqual((m.extra["UPLOADBYTES"], len(str(m.extra["UPLOADDIGEST"]))), (size, 64))
        self.assertEqual(sorted(m.dataperc), list(DECILES))
        self.assertEqual(list(m.dataperc.values()), sorted(m.dataperc.values()))
        self.assertEqual(max(m.partial), size)
        steps = [m.start, m.datarequest, m.serverrequest, m.extra["UPLOADFIRST"], m.dataperc[50]]
        steps += [m.extra["UPLOADLAST"], m.serverresponse, m.dataresponse, m.datacomplete, m.end]
        self.assertEqual(steps, sorted(steps), m)
        self.assertEqual((m.dataperc[0], m.dataperc[100]), (m.extra["UPLOADFIRST"], m.extra["UPLOADLAST"]))
        sent = [m.extra["SENTFIRST"], *(m.extra[f"SENTPERC{n}"] for n in range(10, 101, 10)), m.extra["SENTLAST"]]
        self.assertEqual(sent, sorted(sent))
        self.assertLessEqual(m.datarequest, sent[0])
        self.assertEqual(parse(render(m)), m)


@pytest.mark.tor
class TorTests(UploadCase, NetworkCase):
    """Over the private network."""

    async def run_until(self, experiment: Any, outcome: Outcome, errorcode: str | None = None) -> Measurement:
        """A run that ends so; the private network has moments in which tor sees no exit."""
        for _ in range(10):
            m: Measurement = await last_record(experiment)
            if (m.outcome, m.errorcode) == (outcome, errorcode):
                break
            await deferLater(reactor, 2.0)
        self.assertEqual((m.outcome, m.errorcode), (outcome, errorcode), m.reason)
        return m

    async def test_upload(self) -> None:
        """1 MiB arrives as it was sent, joined to its stream and circuit; what is too large is told so by then."""
        experiment = self.start(network="testnet", testnet=self.testnet, options="expect-continue = yes")
        await self.laboratory.tors["default"].when_ready()
        m = await self.run_until(experiment, Outcome.OK)
        self.check(m)
        self.assertEqual(m.extra["EXPECT"], 1)
        steps = [m.serverrequest, m.extra["CONTINUE"], m.extra["SENTFIRST"], m.extra["UPLOADFIRST"]]
        self.assertEqual(steps, sorted(steps))
        # The first cells fill buffers at once; what comes out at the other end comes later.
        self.assertLess(m.extra["SENTLAST"], m.extra["UPLOADLAST"])
        self.assertEqual((m.server, len(m.path or ()), m.used_by is not None), ("public", 3, True))

        setup = attrs.evolve(experiment.setup, size=64 * MIB)
        m = await self.run_until(TorExperiment(setup, [Alternative(UploadRun)]), Outcome.FAILED, Error.STATUS)
        self.assertEqual((m.status, m.payloadbytes, m.dataperc), (413, 0, {}))
        self.assertFalse({"UPLOADBYTES", "SENTLAST"} & set(m.extra))


class DirectTests(UploadCase):
    """Over the embedded SOCKS proxy, and without any."""

    async def test_socks(self) -> None:
        """Over a SOCKS proxy the record is complete, and has no key for what was not asked for."""
        sink = MemorySink()
        await self.start().run(1_700_000_000.0, sink.record)
        (m,) = sink.measurements
        self.check(m)
        self.assertEqual(m.slot, 1_700_000_000.0)
        self.assertFalse({"EXPECT", "CONTINUE"} & set(m.extra))

    async def test_direct(self) -> None:
        """Without Tor it is the baseline."""
        m = await last_record(self.start(size="51200", options="tor = none\nexpect-continue = yes"))
        self.check(m, 51200)
        self.assertEqual((m.tor, m.endpointproxy), ("none", None))

    async def test_no_server(self) -> None:
        """A run that the server never saw has a record without its stamps."""
        m = await last_record(self.start("tor = none", server_port=free_port()))
        self.assertEqual((m.outcome, m.payloadbytes, set(m.extra) - {"HELDUP"}), (Outcome.FAILED, None, set()))

    async def test_held_up(self) -> None:
        """A reactor that is blocked during the run is told in the record."""
        experiment = self.start()
        await deferLater(reactor, 0.1)
        reactor.callLater(0, time.sleep, 0.5)  # type: ignore[attr-defined]
        m = await last_record(experiment)
        self.check(m)
        self.assertTrue(0.5 <= m.extra["HELDUP"] <= m.end - m.start + 0.03, m)
        self.assertGreaterEqual(self.laboratory.held_up, 0.5)

    async def test_cancelled(self) -> None:
        """A run that is stopped has what was known by then."""
        running = Deferred.fromCoroutine(last_record(self.start("tor = none", size="4 MiB")))
        while not len(self.laboratory._stamps):
            await deferLater(reactor, 0)
        running.cancel()
        m = await running
        self.assertEqual((m.outcome, m.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertEqual(parse(render(m)), m)

    async def test_too_late(self) -> None:
        """At the deadline the record has what the server had received."""
        m = await last_record(self.start("tor = none", size="4 MiB", timeout="1 ms"))
        self.assertEqual((m.outcome, m.datacomplete), (Outcome.TIMEOUT, None))
        self.assertLess(m.payloadbytes or 0, 4 * MIB)
