"""What ``perfd compare --arm A=... --arm B=...`` compares, and the configuration for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from perfd.cli.networks import differing_network
from perfd.cli.privileges import work_as_owner
from perfd.cli.standalone import FREE_PORT, default_path, private_network
from perfd.config import Config, ConfigError, load_config, parse_config
from perfd.config.comparison import DIRECTORIES, NO_CBT
from perfd.config.torrc import option_name
from perfd.config.values import Arm
from perfd.tor.testnet.relays import TestnetError


@attrs.frozen(kw_only=True)
class Trial:
    """What is compared, and how long.

    ``effect`` is the change that the number of blocks is to find; ``inject`` slows B by that share of the pilot's
    median.
    """

    a: Arm
    b: Arm
    options: Mapping[str, str]  # of the experiment of both
    network: str | None
    links: Mapping[str, str]  # options of [testnet]
    using: Mapping[str, Mapping[str, str]]  # what else is different of perfd.conf, by section
    until_decided: bool
    effect: float
    blocks: int | None
    block_size: int | None
    seed: int
    inject: float = 0.0
    records: Path | None = None
    append: bool = False  # to ``records``, which has others of the same comparison


def configured(path: Path | None, trial: Trial) -> Config:
    """The configuration for this one time, in a directory of its own. Raises ConfigError."""
    _check_tors(trial)
    overrides = _of_network(trial)

    def load() -> Config:
        if path is None:
            return parse_config("", default_path(), overrides)
        return load_config(path, overrides)

    network = load().network
    names = [f"tor-{n}" for n in range(1, DIRECTORIES + 1)] if network != "socks" else ["default"]
    if network != "socks":
        torrc = next(tor.torrc for tor in load().tors if tor.name == "default")
        if network == "testnet" and not any(
            option_name(line) == option_name(NO_CBT) for line in torrc.splitlines()
        ):
            torrc = f"{torrc}\n{NO_CBT}"
        overrides |= {f"tor:{name}": {"torrc": torrc} for name in names}
    for arm in (trial.a, trial.b):
        overrides[f"experiment:{arm.name}"] = {
            "timeout": "60 s",
            "interval": "366 d",
            **({"skip-until-cbt": "yes"} if network == "tor" else {}),
            **trial.options,
            **arm.options,
            "tor": ",".join(names),
        }
    config = load()
    if path is not None:
        work_as_owner(config)
    directory = config.directory / "compare"
    experiments = {each.name: each for each in config.experiments}
    config = attrs.evolve(
        config,
        directory=directory,
        testnet=_network(config, trial, directory),
        experiments=(experiments[trial.a.name], experiments[trial.b.name]),
        tors=tuple(tor for tor in config.tors if tor.name in names),
    )
    for each in config.experiments:
        if each.ways != 1 or each.options.get("optimistic") == "both":
            raise ConfigError(["compare: an arm has one way to the server, one browser, and optimistic yes or no"])
    if config.network == "tor":
        return config
    server = attrs.evolve(
        config.server, listen=FREE_PORT, public_address=FREE_PORT, page_ports=(0,) * len(config.server.page_ports)
    )
    return attrs.evolve(config, server=server)


def _check_tors(trial: Trial) -> None:
    if any("tor" in options for options in (trial.options, trial.a.options, trial.b.options)):
        raise ConfigError(
            ["compare: what is measured at once has tors of its own; a [comparison:NAME] can have arms with tor ="]
        )


def _of_network(trial: Trial) -> dict[str, Mapping[str, str]]:
    """What is different of perfd.conf about the network, by section."""
    network = {} if trial.network is None else {"network": trial.network}
    sections = {"perfd": network, "testnet": trial.links}
    found = {name: {**trial.using.get(name, {}), **values} for name, values in sections.items()}
    return {name: values for name, values in found.items() if values}


def _network(config: Config, trial: Trial, directory: Path) -> Path:
    """The private network to use: one that runs is taken if it was named, or if nothing was said of its links."""
    if trial.links and "testnet" not in trial.using.get("perfd", {}):
        return directory / "testnet"
    return private_network(config, config.testnet if "perfd" in trial.using else None, directory)


def check_network(config: Config, trial: Trial) -> None:
    """Raises ConfigError if a network would be used that is not as it was asked for."""
    if not trial.links:
        return
    if config.network != "testnet":
        raise ConfigError([f"compare: --{next(iter(trial.links))} is for network = testnet, not {config.network}"])
    try:
        differing = differing_network(config.testnet, config.private_network)
    except TestnetError as error:
        raise ConfigError([f"compare: {error}"]) from None
    if differing:
        raise ConfigError([f"compare: {differing}"])
