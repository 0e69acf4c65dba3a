"""An Arti that Perfd launches: its configuration, and where it says that it listens.

The options are those of Arti 2.5 (its ``arti-example-config.toml``), the file is that of its ``port_info`` module.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from perfd.tor.files import make_private, write_whole
from perfd.tor.testnet.authorities import Authority

DISUSED_CIRCUIT_TIMEOUT = "2 minutes"
"""How long a circuit stays that nothing uses. By default it is an hour, and each run has circuits of its own."""


class ArtiDirectory:
    """The directory of one Arti."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.configuration = self.path / "arti.toml"
        self._port_info = self.path / "port-info.json"

    @property
    def arguments(self) -> list[str]:
        """What follows the program in its command line."""
        return ["proxy", "--config", str(self.configuration)]

    def prepare(self, authorities: Sequence[Authority]) -> None:
        """Make the directory, and write the configuration. Raises ``OSError``.

        ``authorities`` are those of the private network, or none for the public one.
        """
        make_private(self.path)
        # Arti does not take it away: it may be of another life, with a port that is somebody else's now.
        self._port_info.unlink(missing_ok=True)
        write_whole(self.configuration, self._text(authorities))

    def _text(self, authorities: Sequence[Authority]) -> str:
        lines = [
            "# Written by Perfd at each launch.",
            "[proxy]",
            'socks_listen = "auto"',
            "[storage]",
            f"cache_dir = {_string(self.path / 'cache')}",
            f"state_dir = {_string(self.path / 'state')}",
            f"port_info_file = {_string(self._port_info)}",
            "[circuit_timing]",
            f'disused_circuit_timeout = "{DISUSED_CIRCUIT_TIMEOUT}"',
            "[logging]",
            'console = "info"',
            *(_private(authorities) if authorities else ()),
        ]
        return "\n".join([*lines, ""])

    def socks_address(self) -> tuple[str, int] | None:
        """Where it listens, None as long as it does not say."""
        try:
            told = json.loads(self._port_info.read_bytes())
            addresses = [each["address"] for each in told["ports"] if each.get("protocol") == "socks"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        for address in addresses:
            if isinstance(address, str) and address.startswith("inet:"):
                host, _, port = address.removeprefix("inet:").rpartition(":")
                try:
                    return str(ipaddress.ip_address(host.strip("[]"))), int(port)
                except ValueError:
                    continue
        return None


def _private(authorities: Sequence[Authority]) -> list[str]:
    """A network on one machine: its authorities, and that addresses of relays and servers are alike and local."""
    lines = [
        "[address_filter]",
        "allow_local_addrs = true",
        "[path_rules]",
        "ipv4_subnet_family_prefix = 33",
        "ipv6_subnet_family_prefix = 129",
        "[vanguards]",
        'mode = "disabled"',
        "[tor_network.authorities]",
        f"v3idents = [{', '.join(_string(each.v3_identity) for each in authorities)}]",
    ]
    for each in authorities:
        lines += [
            "[[tor_network.fallback_caches]]",
            f"rsa_identity = {_string(each.fingerprint)}",
            f"ed_identity = {_string(each.ed25519_identity)}",
            f"orports = [{_string(f'{each.address}:{each.or_port}')}]",
        ]
    return lines


def _string(value: object) -> str:
    """A basic string of TOML, which what JSON writes is but for characters beyond the first plane (TOML 1.0)."""
    return json.dumps(str(value), ensure_ascii=False)
