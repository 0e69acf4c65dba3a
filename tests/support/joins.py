"""How the readers of analysis documents find the Tor stream and the circuit of a run, and what they find."""

from __future__ import annotations

from typing import Any

from perfd.record import Measurement


def joined_by_port(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The keys of .tpf that metrics-lib finds for each run, by the last stream with its port within 150 s."""
    (source,) = document["data"].values()
    found = []
    for run in sorted(source["tgen"]["streams"].values(), key=lambda run: run["unix_ts_start"]):
        fields: dict[str, Any] = {}
        port = run["transport_info"]["local"].split(":")[2]
        for stream in source["tor"]["streams"].values():
            near = abs(stream["unix_ts_end"] - run["unix_ts_end"]) < 150
            if near and stream.get("source", "").rpartition(":")[2] == port:
                circuit = source["tor"]["circuits"].get(stream["circuit_id"], {})
                fields = {
                    "used_by": stream["stream_id"],
                    "used_at": stream["unix_ts_end"],
                    "launch": circuit.get("unix_ts_start"),
                    "path": tuple(hop.partition("~")[0] for hop, _ in circuit.get("path", ())),
                    "buildtimes": tuple(seconds for _, seconds in circuit.get("path", ())),
                    "timeout": circuit.get("build_timeout"),
                    "quantile": circuit.get("build_quantile"),
                    "circ_id": circuit.get("circuit_id"),
                }
        found.append(fields)
    return found


def known_of(run: Measurement) -> dict[str, Any]:
    """What they should find, by the record."""
    names = ("used_by", "used_at", "launch", "path", "buildtimes", "timeout", "quantile", "circ_id")
    return {name: getattr(run, name) for name in names}
