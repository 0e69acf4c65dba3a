"""The keys of round-trip times that each phase has."""

from __future__ import annotations

PHASES = {
    "IDLE": "in the idle phase",
    "LOAD": "under downloads",
    "UPLOAD": "under uploads",
    "BOTH": "under both",
}
DELAYS = {
    "OWDUP": "one-way delay of a probe to the server",
    "OWDDOWN": "one-way delay of a probe back from the server",
    "RTTSERVER": "round-trip time of a probe of the server's",
}
QUANTILES = (
    ("MIN", "the smallest"),
    ("Q1", "the first quartile of"),
    ("MEDIAN", "the median"),
    ("Q3", "the third quartile of"),
    ("P95", "the 95th percentile of the"),
    ("MAX", "the largest"),
)


def lines() -> str:
    """The lines of the data dictionary for all of them but those of the phases that are older."""
    found = ["RTTSERVERSENT int - probes that the server sent", "RTTSERVERLOST int - those that did not come back"]
    for phase in ("UPLOAD", "BOTH"):
        found.append(f"RTT{phase}COUNT int - probes {PHASES[phase]} that came back")
        found += [f"RTT{phase}{key} float s {words} round-trip time {PHASES[phase]}" for key, words in QUANTILES]
        found.append(f"RTT{phase}MS floats ms each round trip {PHASES[phase]}")
        found.append(f"RTT{phase}CIRCS texts - circuits of the first transfer in each direction {PHASES[phase]}")
    for phase, ways in (("LOAD", ("DOWN",)), ("UPLOAD", ("UP",)), ("BOTH", ("DOWN", "UP"))):
        for way in ways:
            end = "client" if way == "DOWN" else "server"
            found.append(f"RTT{phase}{way}RATE float B/s payload that came to the {end} {PHASES[phase]}")
    for delay, words in DELAYS.items():
        for phase, when in PHASES.items():
            found.append(f"{delay}{phase}MEDIAN float s the median {words} {when}")
            found.append(f"{delay}{phase}P95 float s the 95th percentile of the {words} {when}")
            found.append(f"{delay}{phase}MS floats ms each {words} {when}")
    return "\n".join(found)
