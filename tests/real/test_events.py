"""Events and guards of a real tor on the private network."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from perfd.tor.control import control_endpoint, open_control
from perfd.tor.events.join import error_fields, tor_fields
from perfd.tor.guards.keeper import OPTIONS, guard_states
from tests.support.instance import free_port
from tests.support.network import WithEvents

pytestmark = pytest.mark.tor


class Events(WithEvents):
    """What becomes of real events."""

    async def test_join(self) -> None:
        """Each of several fetches at the same time is joined to its own stream, circuit and path."""
        service = self.tor()
        await service.when_ready()
        users = [f"user{number}" for number in range(4)]
        found = await gatherResults([Deferred.fromCoroutine(self.fields(service, user)) for user in users])
        self.assertEqual(len({fields["used_by"] for fields in found}), 4)
        self.assertEqual(len({fields["circ_id"] for fields in found}), 4)  # isolated from each other
        for fields in found:
            self.assertGreaterEqual(len(fields["path"]), 3)
            self.assertLessEqual({hop.removeprefix("$") for hop in fields["path"]}, set(self.fingerprints))
            self.assertEqual(fields["guard"], fields["path"][0])
            self.assertEqual(len(fields["buildtimes"]), len(fields["path"]))
            self.assertEqual(list(fields["buildtimes"]), sorted(fields["buildtimes"]))
            self.assertGreater(fields["used_at"], fields["launch"])
            self.assertIs(fields["cc_ss"] is None, fields["cc_cwnd"] is None)
            self.assertIs(fields["cbt_set"], False)
        counts = self.events.counts
        self.assertEqual((counts.unparsed, counts.unknown, counts.not_taken), ({}, {}, 0))

    async def test_relays(self) -> None:
        """Of each relay of the path, what the consensus says of it."""
        service = self.tor()
        await service.when_ready()
        code, joined = await self.fetch(service, "user")
        while code != 0:
            await deferLater(reactor, 2.0)
            code, joined = await self.fetch(service, "user")
        self.assertEqual([f"${relay.fingerprint}" for relay in joined.relays], list(tor_fields(joined)["path"]))
        for relay, hop in zip(joined.relays, joined.circuit.path, strict=True):
            self.assertEqual(relay.nickname, hop.nickname)
            self.assertLessEqual({"Running", "Valid", "Fast"}, relay.flags)
        self.assertIn("Exit", joined.relays[-1].flags)
        self.assertEqual(joined.keys["PATHNICKNAMES"].split(","), [hop.nickname for hop in joined.circuit.path])

    async def test_conflux(self) -> None:
        """A fetch over a Conflux set knows both legs, which end at the same exit, and the round trip."""
        service = self.tor()
        await service.when_ready()
        for number in range(60):
            code, joined = await self.fetch(service, f"user{number}")
            if code == 0 and len(joined.legs) > 1:
                break
            await deferLater(reactor, 1.0)
        fields = tor_fields(joined)
        self.assertIs(fields["conflux"], True)
        self.assertEqual(fields["conflux_circ_ids"], tuple(str(leg.circ_id) for leg in joined.legs))
        self.assertIn(str(fields["circ_id"]), fields["conflux_circ_ids"])
        self.assertEqual({leg.conflux_id for leg in joined.legs}, {fields["conflux_id"]})
        self.assertEqual(len({leg.path[-1].fingerprint for leg in joined.legs}), 1)
        self.assertTrue(0 < fields["conflux_rtt"] < 30, fields["conflux_rtt"])

    async def test_consensus(self) -> None:
        """A run knows the consensus of its tor, and of each relay what it runs and whether it can CGO."""
        service = self.tor()
        await service.when_ready()
        keys: dict[str, Any] = {}
        for number in range(30):  # tor tells of a consensus before its file is there
            code, joined = await self.fetch(service, f"user{number}")
            keys = joined.keys if code == 0 else {}
            if {"CONSENSUS", "PATHVERSIONS"} <= set(keys) and all(keys["PATHVERSIONS"].split(",")):
                break
            await deferLater(reactor, 1.0)
        self.assertTrue(0 <= self.clock.wall() - keys["CONSENSUS"] < 120, keys)
        hops = len(joined.circuit.path)
        self.assertEqual(keys["PATHVERSIONS"].split(","), [service.version] * hops)
        self.assertEqual(keys["PATHCGO"], ",".join("1" * hops))
        self.assertRegex(keys["CONSENSUSPARAMS"], "^[0-9a-f]{12}$")
        told = {event.text.split(" ")[0] for event in self.sink.events if event.keyword == "CONSENSUSPARAMS"}
        self.assertIn(keys["CONSENSUSPARAMS"], told)

    async def test_failure(self) -> None:
        """A port where nobody listens: the code says that the exit said so, and each try is there."""
        service = self.tor()
        await service.when_ready()
        url = f"http://127.0.0.1:{free_port()}/"
        for _ in range(10):  # a moment without an exit gives another error
            code, joined = await self.fetch(service, "user", url)
            self.assertNotEqual(code, 0)
            error, reason = error_fields(joined)
            if error.startswith("TOR/END/"):
                break
            await deferLater(reactor, 2.0)
        self.assertTrue(error.startswith("TOR/END/"), error)
        self.assertIn("far end", reason)
        (stream,) = [stream for stream in self.sink.streams if stream.id == joined.stream.id]
        self.assertEqual((stream.status, stream.failure_local), ("FAILED", "END"))
        self.assertGreaterEqual(len(stream.attaches), 1)

    async def test_circuits_that_existed_before(self) -> None:
        """Who listens later knows the circuits too, with tor's own time of their launch."""
        service = self.tor()
        await service.when_ready()
        before = self.clock.wall()
        self.events.stop()
        self.sink.circuits.clear()
        later = self.hear()
        endpoint = control_endpoint(reactor, str(self.directory / "tor" / "control.socket"))
        protocol = await open_control(reactor, endpoint)
        self.addCleanup(protocol.when_disconnected().addErrback, lambda _: None)
        self.addCleanup(protocol.transport.loseConnection)
        await later.connected(protocol)
        later.stop()
        known = [circuit for circuit in self.sink.circuits if circuit.path]
        self.assertGreater(len(known), 0)
        for circuit in known:
            self.assertEqual(circuit.events[0].name, "TIME_CREATED")
            self.assertTrue(before - 240 < circuit.launch < self.clock.wall())

    async def test_killed_tor(self) -> None:
        """A kill -9 in the middle of a measurement: nobody waits, the records are given out, events flow again."""
        service = self.tor()
        await service.when_ready()
        url = self.serve(500 * 1024 * 1024)
        await self.fields(service, "before")  # there is an exit
        self.sink.events.clear()
        fetching = Deferred.fromCoroutine(self.fetch(service, "killed", url, wait=30.0))
        await self.until(lambda: [event for event in self.sink.events if event.keyword == "STREAM_BW"])
        (pid,) = self.tors()
        os.kill(pid, signal.SIGKILL)
        code, joined = await fetching
        self.assertNotEqual(code, 0)
        self.assertEqual((joined.stream.end, joined.stream.measurement), (None, "killed"))
        self.assertIn(joined.stream.id, [stream.id for stream in self.sink.streams])
        await self.until(lambda: service.not_ready is not None)
        await service.when_ready()
        self.assertIn(joined.circuit.id, [circuit.id for circuit in self.sink.circuits])
        fields = await self.fields(service, "after")
        self.assertEqual(len(fields["buildtimes"]), len(fields["path"]))


class RealGuards(WithEvents):
    """Guards that a real tor uses."""

    @pytest.mark.long
    async def test_given_ones(self) -> None:
        """All circuits begin with one of the given guards, from the first one on."""
        wanted = self.fingerprints[-3:]
        service = self.tor(self.guards(",".join(wanted)))
        await service.when_ready()
        for number in range(3):
            guard = (await self.fields(service, f"user{number}"))["guard"]
            self.assertIn(guard.removeprefix("$"), wanted)

    async def test_none(self) -> None:
        """Without entry guards, circuits begin with any relay."""
        service = self.tor(self.guards("none"))
        await service.when_ready()
        self.assertIn("guard", await self.fields(service, "user"))
        self.assertEqual(await service.protocol.get_conf_raw("UseEntryGuards"), "UseEntryGuards=0")
        states = guard_states(await service.protocol.get_info_raw("entry-guards"))
        self.assertLessEqual(set(states.values()), {"never-connected"})

    @pytest.mark.long
    async def test_chosen_by_ratio(self) -> None:
        """Three guards are chosen by what they advertise, and the next circuits use these."""
        guards = self.guards("fastratio")
        service = self.tor(guards, torrc="UseMicrodescriptors 0")  # so that the descriptors are there at once
        await service.when_ready()
        await self.until(lambda: guards.not_ready is None)
        self.assertEqual((guards.choice.order, len(guards.choice.fingerprints)), ("fastratio", 3))
        fields = await self.fields(service, "user")
        self.assertIn(fields["guard"].removeprefix("$"), guards.choice.fingerprints)

    @pytest.mark.long
    async def test_dropped(self) -> None:
        """DROPGUARDS and DROPTIMEOUTS are understood, and no run after them has a circuit of before."""
        service = self.tor(self.guards("default", drop_every=8.0))
        await service.when_ready()
        await self.until(lambda: self.turn.locked)
        (dropped,) = self.turn.asked
        await self.turn.acquire()  # as a run does
        for number in range(5):
            fields = await self.fields(service, f"user{number}")
            self.assertGreaterEqual(fields["launch"], dropped - 0.1)
        said = {event.keyword for event in self.sink.events if "DROPPED" in event.text or "RESET" in event.text}
        self.assertEqual(said, {"GUARD", "BUILDTIMEOUT_SET"})
        self.assertIs(self.events.cbt_set, False)

    async def test_restored(self) -> None:
        """One guard, without Conflux, until Perfd stops; then the tor is configured as before."""
        guards = self.guards(self.fingerprints[-1], restore=True)
        service = self.tor()
        await service.when_ready()
        conf = service.protocol.get_conf_raw
        await guards.connected(service.protocol)
        self.addCleanup(guards.disconnected)
        self.assertEqual(await conf("ConfluxEnabled"), "ConfluxEnabled=0")
        self.assertEqual(await conf("EntryNodes"), f"EntryNodes=${self.fingerprints[-1]}")
        await guards.stop()
        found = [await conf(name) for name in OPTIONS]
        self.assertEqual(
            found,
            [
                *("UseEntryGuards=1", "EntryNodes=", "NumEntryGuards=0", "FetchUselessDescriptors=0"),
                "ConfluxEnabled=auto",
            ],
        )
