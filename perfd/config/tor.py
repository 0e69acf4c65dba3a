"""``[tor:NAME]``: a tor to launch, or a running one to attach to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs

from perfd.config.bridges import OF_TESTNET, TESTNET_TRANSPORTS, bridges_in, read_bridges
from perfd.config.records import Config, TorConfig
from perfd.config.section import Section
from perfd.config.values import (
    GuardPolicy,
    a_name,
    control_port_beside,
    nonempty,
    one_of,
    password_in,
    path_beside,
    plugins_beside,
    positive,
    provided_transports,
    transport_of,
)
from perfd.units import parse_duration

CONFLUX_UX = ("throughput", "latency", "throughput_lowmem", "latency_lowmem")
"""What a client can ask of exits (tor(1), ConfluxClientUX; tor 0.4.8)."""


def read_tor(section: Section, name: str, directory: Path) -> TorConfig:
    """The tor ``name``; its problems are with ``section``. Paths are relative to ``directory``."""
    bridges = section.get("bridges", read_bridges, "")
    of_testnet = bridges == (OF_TESTNET,)
    read_transport = one_of(TESTNET_TRANSPORTS) if of_testnet else a_name
    transport = section.get("transport", read_transport, "vanilla" if of_testnet else transport_of(bridges))
    config = TorConfig(
        name=name,
        binary=section.get("binary", partial(path_beside, directory), "tor"),
        torrc=section.get("torrc", str, ""),
        control=section.get("control", partial(control_port_beside, directory), None),
        control_password=_control_password(section, directory),
        bootstrap_timeout=section.get("bootstrap-timeout", positive(parse_duration), "5 min"),
        bridges=() if of_testnet else bridges,
        transport_plugins=section.get("transport-plugins", partial(plugins_beside, directory), ""),
        transport=transport,
        guards=section.get("guards", GuardPolicy.parse, "default"),
        drop_guards=section.get("drop-guards", positive(parse_duration), None),
        uses_testnet_bridges=of_testnet,
        conflux_ux=section.get("conflux-ux", one_of(CONFLUX_UX), None),
    )
    if config.control is None:
        _check_transports(section, config)
        # The label of a tor without bridges is that of the tor from whose section it has its defaults.
        in_torrc = bridges_in(config.torrc)
        if not bridges:
            config = attrs.evolve(config, transport=(transport or transport_of(in_torrc)) if in_torrc else None)
        if config.control_password is not None:
            section.problem("control-password", "only used with control")
    elif config.conflux_ux is not None:
        section.problem("conflux-ux", "not used with control: that tor was launched already")
    elif of_testnet:
        section.problem("bridges", "not used with control: that tor was launched already")
    section.finish()
    return config


def check_testnet_bridges(section: Section, tor: TorConfig, config: Config) -> None:
    """Whether the private network has the bridges that the tor is to use."""
    if not tor.uses_testnet_bridges:
        return
    if config.network != "testnet":
        section.problem("bridges", f"{OF_TESTNET} needs network = testnet")
    elif not config.private_network.bridges:
        section.problem("bridges", f"{OF_TESTNET} needs bridges = 1, or more, in [testnet]")


def _check_transports(section: Section, config: TorConfig) -> None:
    """Whether something provides the transport of each bridge; without that tor stays at 0 %."""
    if "clienttransportplugin" in config.torrc.lower():
        return
    needed = {transport_of((bridge,)) for bridge in config.bridges} - {"vanilla"}
    for transport in sorted(filter(None, needed - provided_transports(config.transport_plugins))):
        section.problem(
            "bridges",
            f"nothing provides the transport {transport}; name its program, such as "
            f"transport-plugins = {transport} exec /usr/bin/{transport}proxy",
        )


def _control_password(section: Section, directory: Path) -> str | None:
    """In the section itself, or in a file that fewer may read."""
    password = section.get("control-password", nonempty, None)
    in_file = section.get("control-password-file", partial(password_in, directory), None)
    if password is not None and in_file is not None:
        section.problem("control-password-file", "control-password is given as well")
    return password or in_file
