"""What command lines say of private networks: how one is made, where the one to use is, and how long it is kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from perfd.cli.arguments import argument, count
from perfd.config.section import ConfigError, Section
from perfd.config.testnet import DEFAULT_KEEP, LINKS, PRESETS, TestnetConfig, read_testnet
from perfd.config.values import positive
from perfd.units import parse_duration

MOST_NETWORKS = 99

_OPTIONS = (
    ("preset", "NAME", f"{', '.join(PRESETS)}: values for what follows"),
    ("relays", "N", "how many, such as 6 (default), 8 or 20; more than six have weights, guards and middles"),
    ("bridges", "N", "so many bridges besides; they take obfs4 too where obfs4proxy is installed"),
    ("delay", "TIME", "one way, of the link of each relay, such as 25ms"),
    ("jitter", "TIME", "how much longer or shorter that may be, such as 5ms"),
    ("rate", "RATE", "of each link, in each direction, such as 20Mbit/s"),
    ("loss", "SHARE", "of the packets on each link, such as 0.1%%; only with netns"),
    ("links", "|".join(LINKS), "a proxy before each relay, or a network namespace for each (as root)"),
    ("links-file", "FILE", "links of single relays: an INI file with a section for each"),
    ("seed", "N", "of what is drawn: weights, jitter, loss"),
    ("keep", "TIME", "stop it when nobody has used it for so long"),
)


_OWN = ("seed", "keep")
"""What a command that makes a network for itself has as an option of its own."""

_Arguments = argparse.ArgumentParser | argparse._ArgumentGroup


def add_network_options(parser: _Arguments) -> None:
    """Add how a network is made that a command starts for itself, but for its seed and how long it is kept."""
    for name, metavar, text in _OPTIONS:
        if name not in _OWN:
            parser.add_argument(f"--{name}", metavar=metavar, help=text)


NETWORK_OPTIONS = tuple(name.replace("-", "_") for name, *_ in _OPTIONS if name not in _OWN)
"""What `add_network_options` adds, as attributes of what was parsed."""


def network_options(options: argparse.Namespace) -> dict[str, str]:
    """What was given of these: options of ``[testnet]``."""
    found = {name: getattr(options, name.replace("-", "_")) for name, _, _ in _OPTIONS if name not in _OWN}
    return {name: value for name, value in found.items() if value is not None}


def add_link_options(parser: argparse.ArgumentParser) -> None:
    """Add how the network is made: the options of ``[testnet]``, and how many networks."""
    for name, metavar, text in _OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument(
        "--networks",
        type=argument(number_of_networks),
        metavar="N",
        help="so many networks, in DIR/network1 and so on, each with the next seed",
    )


def number_of_networks(text: str) -> int:
    """From 1 to ``MOST_NETWORKS``."""
    number = count(text)
    if number > MOST_NETWORKS:
        raise ValueError(f"must be at most {MOST_NETWORKS}")
    return number


def networks_to_start(options: argparse.Namespace) -> Iterator[tuple[Path, TestnetConfig]]:
    """The directory of each network, and how it is made. Raises ConfigError."""
    names = [name for name, _, _ in _OPTIONS]
    given = {name: getattr(options, name.replace("-", "_")) for name in names}
    values = {name: value for name, value in given.items() if value is not None}
    problems: list[str] = []
    section = Section(Path("perfd testnet"), "testnet", values, problems, values)
    config = read_testnet(section, Path())
    if problems:
        raise ConfigError(problems)
    if options.networks is None:
        yield options.directory, config
        return
    first = 1 if config.seed is None else config.seed
    for number in range(options.networks):
        yield options.directory / f"network{number + 1}", attrs.evolve(config, seed=first + number)


def differing_network(directory: Path, config: TestnetConfig) -> str | None:
    """What to say if a network runs in ``directory`` that is not as ``config`` asks for. Raises TestnetError."""
    from perfd.tor.testnet.link_process import differing  # noqa: PLC0415 - --help must not wait
    from perfd.tor.testnet.network import network_status  # noqa: PLC0415

    status = network_status(directory)
    if config == TestnetConfig(keep=config.keep) or status.state is None or status.stopped:
        return None
    found = differing(config, status.state)
    stop = f"perfd testnet stop {directory}"
    return found and f"the private network in {directory} runs already, and {found}; stop it first: {stop}"


def networks_in(directory: Path) -> list[Path]:
    """The networks that were started with ``directory``: itself, or those in it."""
    several = [directory / f"network{number + 1}" for number in range(MOST_NETWORKS)]
    return [each for each in several if each.is_dir()] or [directory]


def add_use_options(parser: _Arguments) -> None:
    """Add which private network is used, and how long it is kept."""
    parser.add_argument(
        "--testnet",
        type=Path,
        metavar="DIR",
        help="the private network in DIR, as of `perfd testnet start DIR`; started if it does not run",
    )
    parser.add_argument(
        "--keep",
        nargs="?",
        const=DEFAULT_KEEP,
        type=argument(_duration),
        metavar="TIME",
        help=f"leave a private network that was started running until it was not used for so long "
        f"(default: {DEFAULT_KEEP}), so that the next start takes a second or two",
    )


def _duration(text: str) -> str:
    positive(parse_duration)(text)
    return text


def overrides(testnet: Path | None, keep: str | None) -> dict[str, Mapping[str, str]]:
    """What these options change of perfd.conf, by section."""
    found: dict[str, Mapping[str, str]] = {}
    if testnet is not None:
        found["perfd"] = {"network": "testnet", "testnet": str(testnet.absolute())}
        found["testnet"] = _relays_in(testnet)
    if keep is not None:
        found["testnet"] = {**found.get("testnet", {}), "keep": keep}
    return found


def _relays_in(directory: Path) -> Mapping[str, str]:
    """How many relays the network there has, whatever perfd.conf says of another."""
    from perfd.tor.testnet.relays import State, TestnetError  # noqa: PLC0415 - most commands need none

    with suppress(TestnetError):
        state = State.load(directory)
        if state is not None:
            return {"relays": str(len(state.listed))}
    return {}
