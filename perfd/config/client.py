"""``[client:NAME]``: a client that is measured over its SOCKS port alone, and what it cannot do."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from perfd.config.records import ClientConfig, ExperimentConfig
from perfd.config.section import Section
from perfd.config.values import nonempty, one_of, path_beside, positive, socks_address
from perfd.units import parse_duration

KINDS = ("socks", "arti")
ISOLATIONS = ("username", "none")


_NEEDED = {"server": "an onion service with onion-auth"}


def read_client(section: Section, name: str, directory: Path) -> ClientConfig:
    """The client ``name``; its problems are with ``section``. Paths are relative to ``directory``."""
    kind = section.get("kind", one_of(KINDS), "socks")
    socks = section.get("socks", socks_address, None)
    command_of = partial(_command, directory)
    command = section.get("command", command_of, "arti" if kind == "arti" and socks is None else None) or ()
    version = f"{shlex.quote(command[0])} --version" if kind == "arti" and command else None
    config = ClientConfig(
        name=name,
        kind=kind,
        socks=socks,
        command=command,
        directory=directory,
        version_command=section.get("version-command", command_of, version) or (),
        is_isolating=section.get("isolation", one_of(ISOLATIONS), "username") == "username",
        bootstrap_timeout=section.get("bootstrap-timeout", positive(parse_duration), "5 min"),
    )
    if kind == "socks" and "socks" not in section:
        section.problem("socks", "needed: where it listens, such as socks5://127.0.0.1:1080")
    if socks is not None and socks.address.is_any:
        section.problem("socks", f"{socks.address} is no address to connect to")
    if kind == "arti" and socks is not None and socks.version == 4:
        section.problem("socks", "write socks5://, by which Arti isolates streams")
    if kind == "arti" and socks is not None and "command" in section:
        section.problem("socks", "an Arti that Perfd launches says itself where it listens; give one of both")
    section.finish()
    return config


def check_client(
    section: Section, client: ClientConfig, config: ExperimentConfig, *, onion_auth: bool = False
) -> None:
    """Tell ``section`` what the experiment ``config`` wants of ``client`` that it cannot do.

    ``onion_auth``: our onion service wants a key, which is given over the control port.
    """
    name = f"the client {client.name}"
    if client.kind == "arti" and config.options.get("optimistic") in ("yes", "both"):
        section.problem(
            "optimistic",
            f"{name} is Arti, which refuses data before its reply; measure over it in an experiment without",
        )
    for option, is_wanted in (
        ("skip-until-cbt", config.skip_until_cbt),
        ("fresh-descriptor", config.fresh_descriptor),
        ("onion-key", any(target.onion_key is not None for target in config.targets)),
        ("server", onion_auth and "onion" in config.servers),
    ):
        if is_wanted:
            section.problem(
                option,
                f"{name} has no control port, which {_NEEDED.get(option, 'this')} needs; "
                "measure over it in an experiment without",
            )
    if client.is_isolating:
        return
    parts = config.options.get("groups", 1) > 1, not config.options.get("one_circuit", True)
    for option, is_apart in zip(("groups", "parallel-circuits"), parts, strict=True):
        if is_apart:
            section.problem(option, f"{name} has isolation = none, so nothing keeps its streams apart")


def _command(directory: Path, text: str) -> tuple[str, ...]:
    """A program with its arguments, quoted as in a shell. Raises ValueError."""
    program, *arguments = shlex.split(nonempty(text))
    return path_beside(directory, program), *arguments
