"""Starting the process of the links, and knowing it again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from perfd.config.testnet import TestnetConfig, nicknames
from perfd.processes.modules import module_command, module_environment
from perfd.processes.programs import find_program, recorded_process, run_program
from perfd.reactor import Reactor
from perfd.tor.files import make_private
from perfd.tor.messages import last_words
from perfd.tor.testnet.links import netns
from perfd.tor.testnet.links.plan import DIRECTORY, NAMESPACES, PID_FILE, PROGRAM, Endpoint, LinkPlan, describe
from perfd.tor.testnet.relays import Places, Relay, State, TestnetError
from perfd.tor.testnet.weights import drawn_weights

_TRIES = 50  # subnets that are looked at in each private network


def choose_mode(config: TestnetConfig) -> str | None:
    """proxy or netns; None if there are no links. Raises ``TestnetError`` if what is wanted cannot be."""
    if config.links is None:
        return None
    trouble = netns.trouble() if config.links in ("auto", "netns") else None
    if config.links == "netns" and trouble:
        raise TestnetError(f"links = netns cannot be used: {trouble}; links = proxy can be used everywhere")
    if config.links == "netns" or (config.links == "auto" and trouble is None):
        return "netns"
    if any(link.loss for link in (config.link, *config.links_by_relay.values())):
        raise TestnetError(f"loss needs links = netns, which cannot be used: {trouble}")
    return "proxy"


def places(mode: str | None, directory: Path) -> Places:
    """Where the relays of the network in ``directory`` are. Raises ``TestnetError``."""
    digest = hashlib.sha256(bytes(directory)).digest()
    if mode == "proxy":
        return Places(has_proxies=True)
    if mode == "netns":
        # The private networks of RFC 1918; all of one may be behind a route.
        for network in (f"10.{digest[2]}", f"172.{16 + digest[2] % 16}", "192.168"):
            for number in range(_TRIES):
                subnet = f"{network}.{(digest[3] + number) % 256}"
                if netns.is_free(subnet):
                    return Places(subnet=subnet)
        raise TestnetError("no free private subnet was found for the links; links = proxy needs none")
    return Places()


def described(mode: str | None, config: TestnetConfig) -> str | None:
    """The links in one word; None if there are none."""
    if mode is None:
        return None
    others = {nickname: link for nickname, link in config.links_by_relay.items() if link != config.link}
    return describe(mode, config.relays, config.link, config.seed, others)


def differing(config: TestnetConfig, state: State) -> str | None:
    """How the network of ``state`` is another than ``config`` asks for, in words; None if it is not.

    Without ``links`` any network will do that has so many relays, with the weights of the seed if there is one.
    Raises ``TestnetError`` for links that cannot be.
    """
    relays = len(state.listed)
    if relays != config.relays:
        return f"has {relays} relays, not {config.relays}"
    wanted = described(choose_mode(config), config)
    if wanted is None:
        seed = config.seed
        if seed is None or state.weights == drawn_weights(nicknames(relays), seed):
            return None
        return f"has relays with other weights than those of the seed {seed}"
    if wanted == state.links:
        return None
    return f"has {f'the links {state.links}' if state.links else 'no links'}, not {wanted}"


async def start(reactor: Reactor, directory: Path, state: State, config: TestnetConfig, mode: str) -> None:
    """Start the links of the network in ``directory``, and return when they are there. Raises ``TestnetError``."""
    file = plan_file(directory)
    make_private(file.parent)
    name = hashlib.sha256(bytes(directory)).hexdigest()[:8]
    gateway = state.relays[0].address.rpartition(".")[0] + ".1"
    plan = LinkPlan(
        mode=mode,
        seed=config.seed,
        relays=tuple(_endpoint(relay, config) for relay in state.relays),
        device=f"perfd-{name}" if mode == "netns" else "",
        gateway=gateway if mode == "netns" else "",
    )
    plan.save(file)
    argv = [*module_command(PROGRAM), "-f", str(file)]
    if state.owner is not None:
        argv.append(str(state.owner))
    finished = await run_program(reactor, argv, environment=module_environment())
    if finished.code != 0:
        raise TestnetError(
            f"the links of the private network did not start: {last_words(finished.output.splitlines())}"
        )
    if running(directory) is None:
        raise TestnetError("the links of the private network ended at once")


def _endpoint(relay: Relay, config: TestnetConfig) -> Endpoint:
    return Endpoint(
        nickname=relay.nickname,
        link=config.link_of(relay.nickname),
        address=relay.address,
        port=relay.or_port,
        behind=relay.behind,
        outgoing=relay.outgoing,
        obfs4=relay.obfs4_port,
        obfs4_behind=relay.obfs4_behind,
    )


def plan_file(directory: Path) -> Path:
    """The plan of the links of the network in ``directory``, by which their process is known."""
    return directory / DIRECTORY / "plan.json"


def running(directory: Path) -> int | None:
    """The process of the links; None if there is none."""
    file = plan_file(directory)
    return recorded_process(file.with_name(PID_FILE), file)


def enter(directory: Path, nickname: str) -> list[str]:
    """What runs a program in the namespace of a relay. Raises ``TestnetError``."""
    try:
        text = (directory / DIRECTORY / NAMESPACES).read_text(encoding="ascii")
        descriptor = int(json.loads(text)[nickname])
    except (OSError, ValueError, KeyError) as error:
        raise TestnetError(f"{directory / DIRECTORY / NAMESPACES} cannot be read: {error}") from None
    return [find_program("nsenter", "util-linux"), f"--net=/proc/{running(directory)}/fd/{descriptor}"]
