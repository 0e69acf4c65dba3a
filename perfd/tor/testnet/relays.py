"""What the private network's relays consist of on disk: ports, keys, torrc files, logs and the consensus.

Everything here is quick and local. Processes are started by ``relay_programs``, and stopped by ``testnet``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from perfd.processes.programs import PID_FILE
from perfd.tor.files import make_private, quoted, write_whole
from perfd.tor.messages import message_of, tail
from perfd.tor.testnet.consensus import count_microdescriptors, read_consensus
from perfd.tor.testnet.voting import Voting

STATE_FILE = "testnet.json"
_STATE_VERSION = 1


LOOPBACK = "127.0.0.1"

CLIENT_OPTIONS = (
    "TestingTorNetwork 1",
    "PathsNeededToBuildCircuits 0.67",
)
"""What every tor of the network needs, a client too, besides the ``DirAuthority`` lines."""

_RELAY_OPTIONS = (
    "AssumeReachable 1",
    "SocksPort 0",
    # Countries mean nothing on loopback, and their tables take 40 MB in every relay.
    "GeoIPFile /dev/null",
    "GeoIPv6File /dev/null",
    "ExtraInfoStatistics 0",
    "DirReqStatistics 0",
    # An exit without a working resolver would advertise that it is none: no check of the resolver offline.
    "ServerDNSDetectHijacking 0",
    "ServerDNSTestAddresses",
)

_AUTHORITY_OPTIONS = (
    "AuthoritativeDirectory 1",
    "V3AuthoritativeDirectory 1",
    "TestingAuthDirTimeToLearnReachability 0",
    "TestingDirAuthVoteHSDir *",
    "TestingMinExitFlagThreshold 0",
    "ExitPolicy reject *:*",
)

_NO_AUTHORITY_OPTIONS = (
    # Seconds after the start. Asked before the first consensus exists, they would ask again only much later, and
    # a client that takes one of them for its directory would wait as long.
    "TestingServerConsensusDownloadInitialDelay 7",
)

_EXIT_OPTIONS = (
    "ExitRelay 1",
    "ExitPolicyRejectPrivate 0",
    "ExitPolicy accept *:*",
    "IPv6Exit 1",  # our server may listen on ::1
)


class TestnetError(Exception):
    """The private network could not be started, stopped or read; the message says why."""

    __test__ = False  # not a test class, whatever pytest thinks of the name


@attrs.frozen
class Relay:
    """One relay of the network and its place on disk. ``directory`` is tor's DataDirectory."""

    directory: Path
    authority: bool
    or_port: int
    dir_port: int | None = None
    address: str = LOOPBACK
    behind: int | None = None  # where tor itself listens, if ``or_port`` is that of a proxy in front of it
    outgoing: int | None = None  # the port of the proxy by which it connects to others, if there is one
    obfs4_port: int | None = None  # where a bridge takes obfs4; None: it does not, or is none
    obfs4_behind: int | None = None  # where obfs4 itself listens, if ``obfs4_port`` is that of a proxy

    @property
    def nickname(self) -> str:
        return self.directory.name

    @property
    def role(self) -> str:
        """What it is for: auth, guard, middle, exit or bridge."""
        return self.nickname.rstrip("0123456789")

    @property
    def torrc(self) -> Path:
        return self.directory / "torrc"

    @property
    def log(self) -> Path:
        return self.directory / "tor.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / PID_FILE

    @property
    def bandwidths(self) -> Path:
        """Where an authority reads the weights of relays."""
        return self.directory / "bandwidths"

    @property
    def obfs4_line(self) -> Path:
        """Where the obfs4 of a bridge writes what clients need, once it listens."""
        return self.directory / "pt_state" / "obfs4_bridgeline.txt"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    @property
    def ports(self) -> list[int]:
        all_ports = (self.or_port, self.dir_port, self.behind, self.outgoing, self.obfs4_port, self.obfs4_behind)
        return [port for port in all_ports if port is not None]

    def last_message(self) -> str:
        """The last message in the relay's log, without its time."""
        lines = tail(self.log)
        return message_of(lines[-1]) if lines else "(nothing)"


@attrs.frozen
class State:
    """What is known about a network between two starts, and to other processes; kept in ``testnet.json``."""

    relays: tuple[Relay, ...]
    dir_authorities: tuple[str, ...] = ()  # torrc lines
    owner: int | None = None  # the process with which the relays end; None: they outlive everyone
    links: str | None = None  # what the links are like, as LINKS of a record; None: there are none
    weights: tuple[int, ...] = ()  # consensus weights of the listed relays; none: all the same
    obfs4: str | None = None  # the program of obfs4 that bridges and their clients run

    @property
    def authorities(self) -> list[Relay]:
        return [relay for relay in self.relays if relay.authority]

    @property
    def listed(self) -> list[Relay]:
        """The relays that the consensus lists: all but the bridges."""
        return [relay for relay in self.relays if relay.role != "bridge"]

    @property
    def exits(self) -> list[Relay]:
        return [relay for relay in self.relays if relay.role == "exit"]

    @property
    def client_options(self) -> tuple[str, ...]:
        """The torrc lines with which a tor client uses this network."""
        return (*CLIENT_OPTIONS, *self.dir_authorities)

    def save(self, directory: Path) -> None:
        data = {
            "version": _STATE_VERSION,
            "owner": self.owner,
            "links": self.links,
            "weights": self.weights,
            "obfs4": self.obfs4,
            "dir_authorities": self.dir_authorities,
            "relays": [
                {
                    "nickname": relay.nickname,
                    "authority": relay.authority,
                    "or_port": relay.or_port,
                    "dir_port": relay.dir_port,
                    "address": relay.address,
                    "behind": relay.behind,
                    "outgoing": relay.outgoing,
                    "obfs4_port": relay.obfs4_port,
                    "obfs4_behind": relay.obfs4_behind,
                }
                for relay in self.relays
            ],
        }
        write_whole(directory / STATE_FILE, json.dumps(data, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> State | None:
        """The state of the network in ``directory``, None if there never was one. Raises ``TestnetError``."""
        path = directory / STATE_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise TestnetError(f"{path} cannot be read: {error}") from None
        try:
            return cls._from_json(directory, data)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise TestnetError(f"{path} is damaged: stop its tor processes and remove {directory}") from None

    @classmethod
    def _from_json(cls, directory: Path, data: Any) -> State:
        if data["version"] != _STATE_VERSION:
            raise ValueError(data["version"])
        relays = tuple(
            Relay(
                directory=directory / _nickname(relay["nickname"]),
                authority=bool(relay["authority"]),
                or_port=int(relay["or_port"]),
                dir_port=None if relay["dir_port"] is None else int(relay["dir_port"]),
                address=str(relay.get("address", LOOPBACK)),
                behind=relay.get("behind"),
                outgoing=relay.get("outgoing"),
                obfs4_port=relay.get("obfs4_port"),
                obfs4_behind=relay.get("obfs4_behind"),
            )
            for relay in data["relays"]
        )
        owner = None if data["owner"] is None else int(data["owner"])
        links, weights = data.get("links"), tuple(map(int, data.get("weights", ())))
        return cls(relays, tuple(map(str, data["dir_authorities"])), owner, links, weights, data.get("obfs4"))


def _nickname(name: str) -> str:
    if not re.fullmatch(r"[a-z]+[0-9]+", name):
        raise ValueError(name)
    return name


def knows_all(relay: Relay, state: State) -> bool:
    """Whether ``relay`` knows the whole network, so that it can tell clients of it, and takes them."""
    consensus = read_consensus(relay.directory)
    return (
        consensus is not None
        and consensus.lists([each.nickname for each in state.listed], [each.nickname for each in state.exits])
        and count_microdescriptors(relay.directory) >= len(state.listed)
        and (relay.obfs4_port is None or relay.obfs4_line.exists())
    )


@attrs.frozen
class Places:
    """Where relays are: all on loopback, each behind a proxy there, or each at an address of its own."""

    has_proxies: bool = False
    subnet: str | None = None  # three bytes of their addresses, whose first one is this machine's

    def address(self, number: int) -> str:
        """The address of a relay."""
        return LOOPBACK if self.subnet is None else f"{self.subnet}.{number + 2}"

    def fits(self, number: int, relay: Relay) -> bool:
        """Whether a relay of an earlier start is at the place that it would get."""
        has_proxies = relay.behind is not None and relay.outgoing is not None
        return relay.address == self.address(number) and has_proxies == self.has_proxies


def plan(
    directory: Path,
    names: Sequence[str],
    previous: State | None,
    places: Places = Places(),
    obfs4: str | None = None,
) -> State:
    """The relays of a network to be started: with the ports of ``previous`` if all are free, else new ones.

    With the program ``obfs4`` its bridges take obfs4 too.
    """
    same = previous is not None and [relay.nickname for relay in previous.relays] == list(names)
    if previous is not None and same and (previous.obfs4 is None) == (obfs4 is None):
        used = [port for relay in previous.relays for port in relay.ports]
        fit = all(places.fits(number, relay) for number, relay in enumerate(previous.relays))
        if fit and len(set(used)) == len(used) and all(map(_is_free, used)):
            return State(previous.relays, obfs4=obfs4)
    ports = iter(free_ports(6 * len(names)))
    found = []
    for number, name in enumerate(names):
        authority = name.startswith("auth")
        takes_obfs4 = obfs4 is not None and name.startswith("bridge")
        relay = Relay(
            directory=directory / name,
            authority=authority,
            or_port=next(ports),
            dir_port=next(ports) if authority else None,
            address=places.address(number),
            behind=next(ports) if places.has_proxies else None,
            outgoing=next(ports) if places.has_proxies else None,
            obfs4_port=next(ports) if takes_obfs4 else None,
            obfs4_behind=next(ports) if takes_obfs4 and places.has_proxies else None,
        )
        found.append(relay)
    return State(tuple(found), obfs4=obfs4)


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports that nobody uses on 127.0.0.1 at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As tor does it; otherwise connections that ended a moment ago would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def clear(relay: Relay) -> None:
    """Remove what a former run left in the relay's directory, all but its keys.

    Old consensuses and descriptors name old ports. Without them every start is like the first one.
    """
    make_private(relay.directory)
    for path in relay.directory.iterdir():
        if path != relay.keys:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@attrs.frozen
class Votes:
    """The fingerprints of the relays that authorities vote to be guards and exits; * are all."""

    guards: tuple[str, ...] = ("*",)
    exits: tuple[str, ...] = ("*",)


def torrc(relay: Relay, client_options: Iterable[str], voting: Voting, votes: Votes = Votes()) -> str:
    """The relay's whole torrc; ``votes`` and ``voting`` are an authority's."""
    lines = [
        "# Written by Perfd at each start of the private network.",
        f"Nickname {relay.nickname}",
        f"DataDirectory {quoted(relay.directory)}",
        f"PidFile {quoted(relay.pid_file)}",
        # Voting repeats every few seconds for as long as the network runs; its notices would fill the disk.
        "Log " + quoted(f"[~circ,~dir,~dirserv]notice [circ,dir,dirserv]warn file {relay.log}"),
        "RunAsDaemon 1",
        f"Address {relay.address}",
        *_or_ports(relay),
        *client_options,
        *_RELAY_OPTIONS,
    ]
    if relay.outgoing is not None:
        lines.append(f"TCPProxy haproxy {relay.address}:{relay.outgoing}")
    if relay.authority:
        lines += [f"DirPort {relay.address}:{relay.dir_port}", *_AUTHORITY_OPTIONS, *voting.options]
        lines += [
            f"TestingDirAuthVoteExit {','.join(votes.exits)}",
            f"TestingDirAuthVoteGuard {','.join(votes.guards)}",
        ]
        if votes != Votes():
            lines += ["TestingDirAuthVoteExitIsStrict 1", "TestingDirAuthVoteGuardIsStrict 1"]
        if relay.bandwidths.exists():
            lines.append(f"V3BandwidthsFile {quoted(relay.bandwidths)}")
    else:
        lines += _NO_AUTHORITY_OPTIONS
        lines += _EXIT_OPTIONS if relay.role == "exit" else ["ExitPolicy reject *:*"]
    return "\n".join(lines) + "\n"


def _or_ports(relay: Relay) -> list[str]:
    if relay.behind is None:
        return [f"ORPort {relay.address}:{relay.or_port}"]
    return [
        f"ORPort {relay.address}:{relay.behind} NoAdvertise",
        f"ORPort {relay.address}:{relay.or_port} NoListen",
    ]


def fingerprint(relay: Relay) -> str:
    """The relay's identity, 40 digits, once its keys exist. Raises ``TestnetError``."""
    words = (relay.directory / "fingerprint").read_text(encoding="ascii").split()
    if len(words) != 2:
        raise TestnetError(f"the keys in {relay.keys} are damaged: remove {relay.directory}")
    return words[1]
