"""Circuits over chosen relays, with a real tor on the private network."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet import reactor

from perfd.tor.circuits.attacher import Attacher
from perfd.tor.circuits.builder import build_circuit
from perfd.tor.circuits.path import Wanted, choose_path
from perfd.tor.circuits.selection import Selection, ranked
from perfd.tor.control import control_endpoint, open_control
from perfd.tor.events.join import tor_fields
from perfd.tor.events.relays import RouterStatus, RouterStatusReader
from tests.support.network import WithEvents

pytestmark = pytest.mark.tor


class Circuits(WithEvents):
    """What is chosen, and what tor makes of it."""

    async def test_chosen(self) -> None:
        """A fetch goes over the circuit that was built for it; others go where tor puts them."""
        service = self.tor()
        await service.when_ready()
        endpoint = control_endpoint(reactor, str(self.directory / "tor" / "control.socket"))
        protocol = await open_control(reactor, endpoint)
        self.addCleanup(protocol.when_disconnected().addErrback, lambda _: None)
        self.addCleanup(protocol.transport.loseConnection)
        found: list[RouterStatus] = []
        reader = RouterStatusReader(found.append)
        for line in (await protocol.get_info_raw("ns/all")).splitlines():
            reader.line(line)
        self.assertLessEqual({relay.address for relay in found}, {"127.0.0.1"})
        last = Selection.parse(max(relay.fingerprint for relay in found if "Exit" in relay.flags))
        path = [
            relay.status.fingerprint
            for relay in choose_path(ranked(found, {}), Wanted(exit=last), Random(1), apart=False)
        ]
        built = await build_circuit(protocol, path, self.clock, reactor, 60.0)
        self.assertEqual(len(built.times), 3)
        self.assertEqual(list(built.times), sorted(built.times))

        attacher = Attacher(protocol)
        await attacher.begin()
        claim, ours = self.events.join, []

        def join(local: tuple[str, int], since: float, measurement: str | None = None) -> object:
            if measurement == "chosen":
                attacher.claim(local, built.circ_id)
                ours.append(local)
            return claim(local, since, measurement)

        self.patch(self.events, "join", join)
        code, joined = await self.fetch(service, "chosen")
        self.assertEqual((code, len(ours)), (0, 1))
        fields = tor_fields(joined)
        self.assertEqual(int(fields["circ_id"]), built.circ_id)
        self.assertEqual([hop.removeprefix("$") for hop in fields["path"]], path)
        other, joined = await self.fetch(service, "other")
        self.assertEqual(other, 0)
        self.assertNotEqual(int(tor_fields(joined)["circ_id"]), built.circ_id)

        await attacher.end()
        self.assertEqual(await protocol.get_conf_raw("__LeaveStreamsUnattached"), "__LeaveStreamsUnattached=0")
        code, _joined = await self.fetch(service, "after")
        self.assertEqual(code, 0)
