"""A program that takes the place of Arti 2.5: it reads its configuration, and is as strict as Arti towards clients.

``PYTHON fake_arti.py [--version | proxy --config FILE]``. Streams are connected directly. Unlike Arti it writes
each isolation key (listener, client, user name, password) to the file ``keys`` beside its configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

GENERAL_FAILURE = 1
OPTIONS: dict[str, dict[str, type]] = {
    "proxy": {"socks_listen": str},
    "storage": {"cache_dir": str, "state_dir": str, "port_info_file": str},
    "circuit_timing": {"disused_circuit_timeout": str},
    "logging": {"console": str},
    "address_filter": {"allow_local_addrs": bool},
    "path_rules": {"ipv4_subnet_family_prefix": int, "ipv6_subnet_family_prefix": int},
    "vanguards": {"mode": str},
    "tor_network": {"authorities": dict, "fallback_caches": list},
}


def check(config: dict[str, Any]) -> None:
    """Raises ValueError for what Arti would not take, or would have us wait an hour for."""
    for section, values in config.items():
        for option, value in values.items():
            if not isinstance(value, OPTIONS[section][option]):
                raise TypeError(f"{section}.{option} = {value!r}")
    if config["proxy"]["socks_listen"] != "auto":
        raise ValueError("not auto")
    if config["circuit_timing"]["disused_circuit_timeout"] not in ("1 minute", "2 minutes"):
        raise ValueError("circuits would pile up")
    if network := config.get("tor_network"):
        idents = network["authorities"]["v3idents"]
        if not idents or not all(re.fullmatch(r"[0-9A-F]{40}", each) for each in idents):
            raise ValueError(f"v3idents = {idents}")
        for cache in network["fallback_caches"]:
            check_fallback(**cache)


def check_fallback(rsa_identity: str, ed_identity: str, orports: list[str]) -> None:
    """Raises ValueError if it is none."""
    if not re.fullmatch(r"[0-9A-F]{40}", rsa_identity) or not re.fullmatch(r"[A-Za-z0-9+/]{43}", ed_identity):
        raise ValueError(f"identities {rsa_identity}, {ed_identity}")
    for place in orports:
        host, _, port = place.rpartition(":")
        ipaddress.ip_address(host)
        int(port)


class Proxy:
    """The SOCKS 5 port of one configuration."""

    def __init__(self, config: dict[str, Any], keys: Path) -> None:
        self._allows_local = config.get("address_filter", {}).get("allow_local_addrs", False)
        self._keys = keys

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if version != 5:
            return
        user = password = b""
        if 2 in methods:
            writer.write(b"\5\2")
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            if user.startswith(b"<torS0X>"):
                writer.write(b"\1\1")
                return
            writer.write(b"\1\0")
        else:
            writer.write(b"\5\0")
        _, command, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        # What came with the request is in the buffer by now.
        await asyncio.sleep(0)
        if command != 1 or reader._buffer:  # type: ignore[attr-defined]
            writer.write(bytes([5, GENERAL_FAILURE, 0, 1]) + bytes(6))
            return
        listener, client = writer.get_extra_info("sockname")[1], writer.get_extra_info("peername")[0]
        with self._keys.open("a") as file:
            file.write(json.dumps([listener, client, user.decode(), password.decode()]) + "\n")
        try:
            there, out = await self._connect(host, port)
        except (OSError, ValueError):
            writer.write(bytes([5, GENERAL_FAILURE, 0, 1]) + bytes(6))
            return
        writer.write(bytes([5, 0, 0, 1]) + bytes(6))
        await asyncio.gather(copy(reader, out), copy(there, writer))

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self._allows_local and ipaddress.ip_address(host).is_loopback:
            raise ValueError(host)
        return await asyncio.open_connection(host, port)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, to its end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def main(path: Path) -> None:
    """Listen as ``path`` says, for ever."""
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    check(config)
    server = await asyncio.start_server(Proxy(config, path.with_name("keys")).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    told = [
        {"protocol": "dns_udp", "address": "inet:127.0.0.1:1"},
        {"protocol": "socks", "address": "unix:/nowhere"},
        {"protocol": "socks", "address": None},
        {"protocol": "socks", "address": f"inet:127.0.0.1:{port}"},
    ]
    Path(config["storage"]["port_info_file"]).write_text(json.dumps({"ports": told, "more": 1}))
    sys.stdout.write("the SOCKS port works\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("arti 2.5.1\n")
    elif sys.argv[1:3] == ["proxy", "--config"] and len(sys.argv) == 4:
        asyncio.run(main(Path(sys.argv[3])))
    else:
        sys.exit(f"error: unexpected arguments {sys.argv[1:]}")
