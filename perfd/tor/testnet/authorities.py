"""The directory authorities of the private network, as tors and other clients have to know them."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import attrs

from perfd.tor.testnet.consensus import time_in
from perfd.tor.testnet.relays import Relay, State, TestnetError, fingerprint

_ONE_MONTH = 30 * 86400


def certificate_is_usable(relay: Relay, now: float) -> bool:
    """Whether the authority's certificate exists and lasts for at least another month."""
    try:
        text = (relay.keys / "authority_certificate").read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    expires = time_in(text, "dir-key-expires")
    complete = all((relay.keys / name).exists() for name in ("authority_identity_key", "authority_signing_key"))
    return complete and expires is not None and expires > now + _ONE_MONTH


@attrs.frozen
class Authority:
    """A directory authority as clients have to know it: its identities, and where it is."""

    v3_identity: str  # of its votes and consensuses: 40 hexadecimal digits
    fingerprint: str  # of its RSA identity, the same way
    ed25519_identity: str  # unpadded Base64
    address: str
    or_port: int

    @classmethod
    def of(cls, relay: Relay) -> Authority:
        """The authority whose keys exist. Raises ``TestnetError``, ``OSError``."""
        # 32 bytes that say what it is, "== ed25519v1-public: type0 ==" filled up with NUL, and the key.
        ed25519 = (relay.keys / "ed25519_master_id_public_key").read_bytes()[32:]
        return cls(
            v3_identity=_v3_identity(relay),
            fingerprint=fingerprint(relay),
            ed25519_identity=b64encode(ed25519).decode("ascii").rstrip("="),
            address=relay.address,
            or_port=relay.or_port,
        )


def dir_authority_line(relay: Relay) -> str:
    """The ``DirAuthority`` line of an authority whose keys exist. Raises ``TestnetError``."""
    return (
        f"DirAuthority {relay.nickname} orport={relay.or_port} v3ident={_v3_identity(relay)}"
        f" {relay.address}:{relay.dir_port} {fingerprint(relay)}"
    )


def _v3_identity(relay: Relay) -> str:
    certificate = (relay.keys / "authority_certificate").read_text(encoding="ascii")
    identity = re.search(r"^fingerprint ([0-9A-F]{40})$", certificate, re.MULTILINE)
    if identity is None:
        raise TestnetError(f"the keys in {relay.keys} are damaged: remove {relay.directory}")
    return identity[1]


def authorities_in(directory: Path) -> tuple[Authority, ...]:
    """Those of the network in ``directory``. Raises ``TestnetError`` if there is none, ``OSError``."""
    state = State.load(directory)
    if state is None:
        raise TestnetError(f"there is no private network in {directory}; start it first")
    return tuple(Authority.of(relay) for relay in state.authorities)
