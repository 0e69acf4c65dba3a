"""Which guards an arm of a comparison has, as far as the torrc of its tor, perfd.conf and its experiment say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perfd.config.records import ExperimentConfig, TorConfig
from perfd.config.torrc import option_name

Guards = Mapping[str, tuple[str, ...]]
"""What is said about guards, by option of tor in lower case."""

OPTIONS = frozenset(
    {
        "%include",
        "bridge",
        "entrynodes",
        "excludenodes",
        "fascistfirewall",
        "firewallports",
        "numentryguards",
        "numprimaryguards",
        "reachableaddresses",
        "reachableoraddresses",
        "strictnodes",
        "usebridges",
        "useentryguards",
    }
)
"""The options of tor, in lower case, that decide which guards there are."""

ALIASES = {
    "entrynode": "entrynodes",
    "excludenode": "excludenodes",
    "firewallport": "firewallports",
    "numentrynodes": "numentryguards",
    "strictnode": "strictnodes",
}
"""What tor takes for these as well."""

_REPEATED = ("bridge", "%include")
_RELAY = re.compile(r"\$?[0-9a-f]{40}([=~][0-9a-z]{1,19})?|[0-9a-z]{1,19}")


def guards_in(lines: Sequence[str]) -> Guards:
    """What the lines of a torrc say.

    As tor reads them: the last line of an option counts, but for bridges and with + in front; / takes all away.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name = option_name(line)
        name = ALIASES.get(name, name)
        if name not in OPTIONS:
            continue
        value = " ".join(line.lower().split()[1:])
        if line.lstrip().startswith("/"):
            found.pop(name, None)
        elif name in _REPEATED or line.lstrip().startswith("+"):
            found[name] = (*found.get(name, ()), value)
        else:
            found[name] = (value,)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def guards_of(tor: TorConfig) -> Guards:
    """What is known of its torrc, and then what ``guards`` sets in a tor that runs."""
    torrc = tor.torrc_lines if tor.control is None else ()
    fixed = sorted(tor.guards.fingerprints)
    if tor.guards.mode == "none":
        return guards_in((*torrc, "UseEntryGuards 0", "/EntryNodes", "/NumEntryGuards"))
    if fixed:
        return guards_in(
            (*torrc, "UseEntryGuards 1", f"EntryNodes {','.join(fixed)}", f"NumEntryGuards {len(fixed)}")
        )
    return guards_in(torrc)


def are_fixed(guards: Guards) -> bool:
    """Whether with these no tor has a choice that it would stay with: of several relays it uses all."""
    entries = [each.strip() for each in ",".join(guards.get("entrynodes", ())).split(",")]
    bridges = guards.get("bridge", ())
    uses_all = guards.get("numentryguards") == (str(len(entries)),) and "numprimaryguards" not in guards
    return (
        guards.get("useentryguards") == ("0",)
        or (all(map(_RELAY.fullmatch, entries)) and (len(entries) == 1 or uses_all))
        or (guards.get("usebridges") == ("1",) and len(bridges) == 1)
    )


def first_relays(experiment: ExperimentConfig) -> str:
    """Those of the circuits that are built for it, as perfd.conf names them; none: the guards of its tor."""
    return str((experiment.relays and experiment.relays.hops[0]) or "")
