"""What relays that are chosen for an experiment need, and what a scan of them may ask of the network."""

from __future__ import annotations

from perfd.config.kind import Context
from perfd.config.records import NO_TOR, ExperimentConfig
from perfd.config.relays import PLACES, RELAYS, RelaysConfig, Selection
from perfd.config.section import Section
from perfd.config.target import onion_in
from perfd.units import format_duration, format_size

DAY = 86400.0

LEAST_PAUSE = 10.0
"""Seconds from one relay of a scan to the next on the public network."""

MOST_BYTES = 2 * 2**30
"""Bytes that a scan of the public network may fetch a day, over all of its circuits together."""


def check_relays(section: Section, config: ExperimentConfig, context: Context) -> None:
    """Tell ``section`` what stands against circuits over the relays that are chosen."""
    if config.relays is None and config.scan is None:
        return
    option = next((each.name for each in RELAYS if each.name in section), "type")
    if context.network == "socks":
        section.problem(option, "circuits are built by a tor, which network = socks has not")
    others = {NO_TOR, *(client.name for client in context.clients)}
    for tor in others.intersection(config.tors):
        section.problem(option, f"circuits are built over the control port of a tor, which tor = {tor} has not")
    urls = [*(each.url for each in config.targets), *filter(None, [config.url])]
    if "onion" in config.servers or any(map(onion_in, urls)):
        section.problem(
            option,
            "tor itself chooses the relays on the way to an onion service; what can be said of them are options of "
            "its torrc, such as EntryNodes and HSLayer2Nodes (docs/relays.md)",
        )
    if not config.fresh_circuits:
        section.problem("circuit", f"a circuit is built for each run with {option}")
    if config.options.get("streams", 1) > 1 and not config.options.get("one_circuit", True):
        section.problem("parallel-circuits", f"one circuit is built for each run with {option}")
    if config.options.get("groups", 1) > 1:
        section.problem("groups", f"one circuit is built for each run with {option}")
    if config.relays is not None:
        _check_bridges(section, config, config.relays, context)
        _check_places(section, config.relays, context)
    if config.scan is not None:
        _check_known(section, "relays", config.scan.relays, context)


def _check_bridges(section: Section, config: ExperimentConfig, relays: RelaysConfig, context: Context) -> None:
    bridged = sorted(set(context.bridged).intersection(config.tors))
    if bridged and relays.hops[0] is not None:
        section.problem(
            "path" if relays.is_path else "guard", f"the first relay of circuits of tor {bridged[0]} is its bridge"
        )


def _check_places(section: Section, relays: RelaysConfig, context: Context) -> None:
    options = ["path"] * len(relays.hops) if relays.is_path else list(PLACES)
    for option, hop in zip(options, relays.hops, strict=True):
        if hop is not None:
            _check_known(section, option, hop, context)
    last = relays.hops[-1]
    only = None if last is None or not context.relays else last.only
    if only is not None and only.startswith("~") and not only.startswith("~exit"):
        section.problem(options[-1], f"{only} is no exit of the private network")


def _check_known(section: Section, option: str, selection: Selection, context: Context) -> None:
    """On the private network it is known which relays there are."""
    if not context.relays:
        return
    for condition in dict.fromkeys(selection.conditions):
        if condition.kind == "nickname" and condition.value not in context.relays:
            there = ", ".join(context.relays)
            section.problem(
                option, f"no relay of the private network is named {condition.value!r}; there is {there}"
            )
        if condition.kind == "country":
            section.problem(option, "the relays of the private network are on this machine, and in no country")


def check_scan(section: Section, config: ExperimentConfig, context: Context) -> None:
    """Tell ``section`` if a scan asks too much of the public network."""
    if config.scan is None or context.network != "tor":
        return
    if config.interval < LEAST_PAUSE:
        section.problem("interval", f"must be at least {LEAST_PAUSE:g} s for a scan of the public network")
        return
    a_day = DAY / config.interval * len(config.tors) * config.ways * config.size
    if a_day > MOST_BYTES:
        enough = format_duration(DAY * config.size * len(config.tors) * config.ways / MOST_BYTES)
        section.problem(
            "size",
            f"with this interval a scan fetches over {format_size(MOST_BYTES)} a day, which all relays on its way "
            f"carry; make it smaller, or the interval at least {enough}",
        )
