"""``[experiment:NAME]``: the options of all kinds, and what they must be to one another."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from perfd.config.chosen import check_relays, check_scan
from perfd.config.client import check_client
from perfd.config.extensions import extensions
from perfd.config.kind import Context, Kind
from perfd.config.kinds import KINDS, kinds
from perfd.config.records import ELSEWHERE, NO_TOR, ExperimentConfig
from perfd.config.relays import read_relays, read_scan
from perfd.config.section import Section
from perfd.config.target import check_targets, onion_in, read_targets
from perfd.config.values import names, one_of, positive, several_of, yes_or_no
from perfd.units import format_duration, format_size, parse_duration

SERVERS = ("public", "onion")
CIRCUITS = ("fresh", "reuse")

LONGEST_INTERVAL = 366 * 86400.0


def read_experiment(section: Section, name: str, context: Context) -> ExperimentConfig:
    """The experiment ``name``; its problems are with ``section``."""
    kind = _kind(section)
    interval = section.get("interval", positive(parse_duration), "5 min")
    options: dict[str, Any] = {
        option.attribute: section.get(option.name, option.read, option.default) for option in kind.options
    }
    if options.get("data_directory") is not None:
        options["data_directory"] = context.directory / options["data_directory"]
    targets = read_targets(section, options, context.directory) if kind.has_target else ()
    scan = read_scan(section, options, context.directory)
    relays = read_relays(section, options, context.directory)
    is_elsewhere = bool(targets) or options.get("url") is not None
    size = options.pop("size", 0)
    servers = section.get("server", several_of(SERVERS), "public")
    config = ExperimentConfig(
        name=name,
        type=kind.name,
        size=size if not targets else targets[0].size or 0,
        targets=targets,
        interval=interval,
        offset=section.get("offset", parse_duration, "0 s"),
        timeout=section.get("timeout", positive(parse_duration), format_duration(max(1.0, interval - 5.0))),
        tors=section.get("tor", names, "default"),
        servers=(ELSEWHERE,) if is_elsewhere else servers,
        fresh_circuits=section.get("circuit", one_of(CIRCUITS), "fresh") == "fresh",
        skip_until_cbt=section.get("skip-until-cbt", yes_or_no, "no"),
        fresh_descriptor=section.get("fresh-descriptor", yes_or_no, "no"),
        options=MappingProxyType(options),
        relays=relays,
        scan=scan,
    )
    _check_schedule(section, config)
    _check_ways(section, config, context)
    if targets:
        check_targets(section, targets, interval)
    elif config.size > context.max_size:
        section.problem("size", f"larger than max-size of [server], which is {format_size(context.max_size)}")
    check_relays(section, config, context)
    check_scan(section, config, context)
    for check in kind.checks:
        check(section, config, context)
    for client in context.clients:
        if client.name in config.tors:
            check_client(section, client, config, onion_auth=context.onion_auth)
    section.finish(_types_of_options())
    return config


def _kind(section: Section) -> Kind:
    name = section.get("type", _kind_name, "download")
    return kinds()[name]


def _kind_name(text: str) -> str:
    """Raises ValueError: there is no such kind, or a package that has it cannot be used."""
    why_not = extensions().broken.get(text)
    if why_not is not None and text not in KINDS:
        raise ValueError(why_not)
    return one_of(tuple(kinds()))(text)


def _types_of_options() -> dict[str, str]:
    """Of each option that not all kinds have: with which it can be used."""
    types: dict[str, list[str]] = {}
    for kind in kinds().values():
        for option in kind.options:
            types.setdefault(option.name, []).append(kind.name)
    return {option: f"type = {' or '.join(kinds)}" for option, kinds in types.items()}


def _check_schedule(section: Section, config: ExperimentConfig) -> None:
    if not 1 <= config.interval <= LONGEST_INTERVAL:
        section.problem("interval", "must be from 1 s to 366 d")
    if config.offset >= config.interval:
        section.problem("offset", "must be smaller than the interval")


def _check_ways(section: Section, config: ExperimentConfig, context: Context) -> None:
    """Whether the tors are there and lead to the servers."""
    urls = [*(each.url for each in config.targets), *filter(None, [config.url])]
    onion = "onion" in config.servers or any(onion_in(url) for url in urls)
    if context.network == "socks" and "onion" in config.servers:
        section.problem("server", "there are no onion services with network = socks")
    if NO_TOR in config.tors and onion:
        section.problem("tor", "an onion service cannot be reached with tor = none")
    if config.fresh_descriptor and not onion:
        section.problem("fresh-descriptor", "only used with server = onion, or with the url of an onion service")
    for tor in config.tors:
        if tor not in (*context.tors, NO_TOR):
            there = ", ".join(sorted((*context.tors, NO_TOR)))
            section.problem("tor", f"no tor is named {tor!r}; there is {there}")
        elif tor == context.single_onion_tor:
            section.problem(
                "tor",
                f"{tor} publishes a single onion service, which takes away its anonymity and its SOCKS port; "
                "give onion-tor of [server] a tor of its own",
            )
