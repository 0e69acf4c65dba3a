"""Bootstraps and downloads over no bridge, a bridge and obfs4, with real tors on the private network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from perfd.clock import Clock
from perfd.config import parse_config
from perfd.formats.bootstrap_keys import TAGS, key_of
from perfd.interfaces import Experiment
from perfd.laboratory import Laboratory
from perfd.record import Measurement, Outcome
from perfd.tor.events.sink import NullEventSink
from perfd.tor.testnet.bridges import obfs4_program
from tests.support.instance import free_port, processes_in
from tests.support.network import NetworkCase

pytestmark = [pytest.mark.tor, pytest.mark.long]

CONFIG = """
[perfd]
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
[testnet]
bridges = 1
[tor]
bridges = testnet
transport = {transport}
[tor:direct]
bridges =
[tor:vanilla]
transport = vanilla
[experiment:download]
size = 100 KiB
timeout = 60 s
[experiment:bootstrap]
type = bootstrap
tor = direct, vanilla, default
timeout = 60 s
[experiment:warm]
type = bootstrap
tor = direct
data-directory = data
timeout = 60 s
"""


class BootstrapTests(NetworkCase):
    """A laboratory with tors that run, and some that are launched for a run."""

    def start(self, transport: str) -> dict[str, list[Any]]:
        """The experiments of a laboratory that runs, by name."""
        text = CONFIG.format(testnet=self.testnet, port=free_port(), transport=transport)
        (self.directory / "data").mkdir()
        config = parse_config(text, self.directory / "perfd.conf")
        laboratory = Laboratory(reactor, Clock(), config, {}, NullEventSink())
        laboratory.startService()
        self.addCleanup(laboratory.stopService)
        return {each.name: laboratory.experiments(each) for each in config.experiments}

    async def run_once(self, experiment: Experiment) -> Measurement:
        while experiment.not_ready is not None:
            await deferLater(reactor, 0.05)
        found: list[Measurement] = []
        await experiment.run(None, found.append)
        (measured,) = found
        self.assertEqual((measured.outcome, measured.reason), (Outcome.OK, None))
        return measured

    async def test_all_ways(self) -> None:
        """Each has its phases in order, and its bytes; nothing of a fresh tor is left, also if it is cancelled."""
        obfs4 = obfs4_program() is not None
        experiments = self.start("obfs4" if obfs4 else "vanilla")
        wanted = [*experiments["bootstrap"], *experiments["download"]]
        runs = await gatherResults([Deferred.fromCoroutine(self.run_once(each)) for each in wanted])
        by_tor = {measured.tor: measured for measured in runs[:3]}
        for measured in by_tor.values():
            self.check(measured)
        bridge = (self.testnet / "bridge1" / "fingerprint").read_text(encoding="ascii").split()[1]
        transports = {"direct": None, "vanilla": "vanilla", "default": "obfs4" if obfs4 else "vanilla"}
        self.assertEqual({tor: measured.transport for tor, measured in by_tor.items()}, transports)
        self.assertEqual("BOOTSTRAPCONNDONEPT" in by_tor["default"].extra, obfs4)
        self.assertNotEqual(by_tor["direct"].guard, f"${bridge}")
        for measured in (by_tor["vanilla"], by_tor["default"], runs[3]):
            self.assertEqual(measured.guard, f"${bridge}")
        self.assertEqual((runs[3].payloadbytes, runs[3].transport), (100 * 1024, transports["default"]))
        self.assertFalse((self.directory / "bootstrap").exists())

        # Of a tor that was there before: its documents need no fetching.
        shutil.copytree(
            self.directory / "tor" / "default", self.directory / "data", dirs_exist_ok=True, ignore=_sockets
        )
        warm = await self.run_once(experiments["warm"][0])
        self.assertEqual(warm.extra["DATADIRECTORY"], "copied")
        self.assertNotIn("BOOTSTRAPREQUESTINGDESCRIPTORS", warm.extra)
        await self.cancel(experiments["bootstrap"][2])
        if not obfs4:
            raise pytest.skip.Exception("the same over obfs4: obfs4proxy is not installed")

    def check(self, measured: Measurement) -> None:
        extra: dict[str, Any] = dict(measured.extra)
        self.assertEqual((extra["DATADIRECTORY"], extra["BOOTSTRAPPROGRESS"]), ("empty", 100))
        keys = [key for tag in TAGS if (key := key_of(tag)) in {each.removeprefix("BOOTSTRAP") for each in extra}]
        self.assertIn("LOADINGDESCRIPTORS", keys)
        times = [extra[f"BOOTSTRAP{key}"] for key in keys]
        assert measured.dataresponse is not None
        steps = [measured.start, extra["TORCONTROL"], extra["TORNETWORK"], *times, measured.dataresponse]
        self.assertEqual(steps, sorted(steps))
        for what in ("TORREAD", "TORWRITTEN"):
            counts = [extra[f"{what}{key}"] for key in (*keys, "FIRSTBYTE")]
            self.assertEqual(counts, sorted(counts))
        self.assertTrue(0 < extra["DIRREAD"] < extra["TORREADDONE"])
        self.assertTrue(0 < extra["DIRWRITTEN"] < extra["TORWRITTENDONE"])
        self.assertIsNotNone(measured.torversion)
        self.assertEqual(measured.payloadbytes, 1024)

    async def cancel(self, experiment: Experiment) -> None:
        """Stopped in the middle it is recorded, and its tor and directory are gone when it returns."""
        found: list[Measurement] = []
        running = Deferred.fromCoroutine(experiment.run(None, found.append))
        fresh = self.directory / "bootstrap"
        while not processes_in(fresh):
            await deferLater(reactor, 0.02)
        running.cancel()
        await running
        self.assertEqual(found[0].outcome, Outcome.CANCELLED)
        self.assertIn("DATADIRECTORY", found[0].extra)
        self.assertEqual(processes_in(fresh), [])
        self.assertFalse(fresh.exists())


def _sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(directory) / name).is_socket()]
