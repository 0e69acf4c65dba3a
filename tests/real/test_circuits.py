"""Circuits over chosen relays, with a real tor on the private network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults

from perfd.config.relays import RelaysConfig, Selection
from perfd.tor.circuits.chosen import Chosen, Circuits, FixedChoice
from perfd.tor.events.join import tor_fields
from tests.support.network import WithEvents

pytestmark = pytest.mark.tor


class CircuitsTests(WithEvents):
    """What is chosen, and what tor makes of it."""

    async def test_chosen(self) -> None:
        """A fetch goes over the circuit that was built for it; others, at the same time, where tor puts them."""
        service = self.tor()
        circuits = Circuits(reactor, self.clock, tor="default", apart=False)
        service.subscribe(circuits.connected, circuits.disconnected)
        await service.when_ready()
        relays = RelaysConfig.of({"middle": Selection.parse("~auth2"), "exit": Selection.parse("~exit2")})
        port = int(self.server.rsplit(":", 1)[1].strip("/"))
        circuit = await Chosen(circuits, FixedChoice(relays)).build(port, 60.0)
        await circuit.claim("chosen", 1)
        fetches = [ensureDeferred(self.fetch(service, user)) for user in ("chosen", "other")]
        (code, joined), (other_code, other) = await gatherResults(fetches)
        self.assertEqual((code, other_code), (0, 0))
        fields = tor_fields(joined)
        self.assertEqual(int(fields["circ_id"]), circuit.circ_id)
        self.assertEqual(",".join(fields["path"]), circuit.keys["CHOSENPATH"])
        self.assertEqual([hop.nickname for hop in joined.circuit.path][1:], ["auth2", "exit2"])
        times = [float(word) for word in str(circuit.keys["CHOSENTIMES"]).split(",")]
        self.assertEqual((len(times), times), (3, sorted(times)))
        self.assertNotEqual(int(tor_fields(other)["circ_id"]), circuit.circ_id)
        answer = await service.protocol.get_conf_raw("__LeaveStreamsUnattached")
        self.assertEqual(answer, "__LeaveStreamsUnattached=0")
        circuit.release()
        circuit.close()


def test_scan(testnet: Any, tmp_path: Any) -> None:
    """Each relay is measured once, over the circuit that its record tells."""
    argv = [
        sys.executable,
        "-m",
        "perfd",
        "measure",
        "--type",
        "scan",
        "--testnet",
        str(testnet.directory),
        "--json",
    ]
    done = subprocess.run(
        [*argv, "--count", "6", "--size", "5KiB", "-o", "seed=3"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["ok"] * 6, done.stdout + done.stderr
    keys = [record["extra"] for record in records]
    names = {each["SCANNICKNAME"] for each in keys}
    assert names == {"auth1", "auth2", "auth3", "exit1", "exit2", "exit3"}
    for record, each in zip(records, keys, strict=True):
        assert ",".join(record["path"]) == each["CHOSENPATH"]
        place = {"guard": 0, "exit": 2}[each["SCANPLACE"]]
        assert record["path"][place] == each["SCANRELAY"]
        assert each["SCANPLACE"] == ("exit" if each["SCANNICKNAME"].startswith("exit") else "guard")
