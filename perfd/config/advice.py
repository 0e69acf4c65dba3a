"""What is no mistake in perfd.conf, but hardly meant: `perfd check` says it, and nothing is refused for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from perfd.config.records import Config
from perfd.config.target import TargetConfig
from perfd.config.values import Address
from perfd.units import format_duration

EXAMPLE = "example"
"""The source of examples, by which nobody else would know this instance."""


def advice(config: Config) -> list[str]:
    """A line for each, with the remedy. May look up the name in public-address, which can take seconds."""
    lines = (*_of_experiments(config), *_of_results(config), *_of_public(config))
    return [f"{config.path}: {line}" for line in lines]


def _of_experiments(config: Config) -> Iterator[str]:
    if not config.experiments:
        yield "there is no experiment, so nothing is measured; add a section [experiment:NAME]"
    for experiment in config.experiments:
        if config.network == "testnet" and any(each.onion is None and _is_far(each) for each in experiment.targets):
            yield (
                f"[experiment:{experiment.name}] url: with network = testnet all of Tor is on this machine, so "
                "what lies between its exits and the server is this machine's own way there"
            )
        if experiment.timeout > experiment.interval:
            yield (
                f"[experiment:{experiment.name}] timeout: longer than the interval of "
                f"{format_duration(experiment.interval)}, so slots are skipped (PERFD/BUSY) while a run goes on"
            )


def _is_far(target: TargetConfig) -> bool:
    return not Address(urlsplit(target.url).hostname or "", 80).is_loopback


def _of_results(config: Config, proc: Path = Path("/proc")) -> Iterator[str]:
    if config.server.results == "local" and proc.exists() and not (proc / "1").exists():
        yield (
            "[server] results: local are only programs of the daemon's own user, since /proc hides those of others "
            "(hidepid, ProtectProc): any of them could be a tor"
        )


def _of_public(config: Config) -> Iterator[str]:
    if config.network != "tor":
        return
    if config.source == EXAMPLE:
        yield f"[perfd] source: {EXAMPLE} names no instance; use the first label of this host's name"
    public, listen = config.server.public_address, config.server.listen
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(public.host, public.port)}
    except OSError as error:
        yield f"[server] public-address: {public.host} cannot be looked up: {error.strerror or error}"
        return
    if all(Address(address, public.port).is_loopback for address in addresses) and not public.is_loopback:
        yield f"[server] public-address: {public.host} is an address of this machine alone, as /etc/hosts may say"
    if listen.is_loopback and not public.is_loopback:
        yield (
            f"[server] listen: {listen} is reached from this machine only; something must pass on what comes to "
            f"{public}, or listen must be 0.0.0.0:{public.port}"
        )
