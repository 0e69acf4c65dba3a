"""Links of packets: a network namespace and a TUN device for each relay, and a switch between them (Linux, root).

The machine itself has a device too, and no link: what goes to or from it crosses one link. Exits reach servers on
127.0.0.1 of the machine as well: in their namespaces that address is behind the device, and the machine's device
takes packets to it (route_localnet, Documentation/networking/ip-sysctl.rst of Linux). Nothing is translated.

Namespaces and devices have no names elsewhere, and none is persistent: they end with the processes that hold them.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs

from perfd.processes.programs import ProgramMissingError, find_program
from perfd.tor.testnet.links.line import Agenda, Lane, Way
from perfd.tor.testnet.links.plan import LinkPlan
from perfd.tor.testnet.links.proxy import make_lanes

QUEUE = 0.1
"""Seconds of backlog behind which packets are dropped."""

MTU = 1500

_CLONE_NEWNET = 0x40000000  # sched.h
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN_NO_PI = 0x1001
_BATCH = 16  # packets that are read from one device before what is due, and the other devices, have their turn
_PREFIX = 24


class NamespaceError(Exception):
    """Namespaces or devices cannot be made; the message says why."""


@attrs.frozen
class Namespaces:
    """Descriptors: the machine's device, and device and namespace of each relay, in the order of the plan."""

    machine: int
    devices: tuple[int, ...]
    namespaces: tuple[int, ...]


def trouble() -> str | None:
    """Why there can be no namespaces here; None if they can be made."""
    if os.geteuid() != 0:
        return "it needs root"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {error.strerror}"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        try:
            find_program(program, package)
        except ProgramMissingError as error:
            return str(error)
    pid = os.fork()
    if pid == 0:  # only the kernel knows what a container allows
        os._exit(_try())
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"the system does not allow it here: {os.strerror(number)}" if number else None


def _try() -> int:
    """Make a namespace with a device, as for a relay; the number of the error. Not for a process that goes on."""
    try:
        _check(_libc().unshare(_CLONE_NEWNET), "unshare")
        _device("tun0")
        _set("tun0", "route_localnet")
    except OSError as error:
        return error.errno or errno.EPERM
    return 0


def is_free(subnet: str) -> bool:
    """Whether no route of this machine leads into ``subnet``, three bytes such as 10.1.2."""
    wanted = int.from_bytes(bytes([*map(int, subnet.split(".")), 0]), "big")
    try:
        lines = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return True
    for line in lines:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        network, bits = (int.from_bytes(bytes.fromhex(word)[::-1], "big") for word in (destination, mask))
        if bits and (wanted & bits == network or network & 0xFFFFFF00 == wanted):
            return False
    return True


def set_up(plan: LinkPlan) -> Namespaces:
    """Make all namespaces and devices. Raises NamespaceError. The process is in its own namespace again then."""
    if why := trouble():
        raise NamespaceError(f"links = netns cannot be used: {why}")
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    devices, namespaces = [], []
    try:
        for relay in plan.relays:
            _check(_libc().unshare(_CLONE_NEWNET), "unshare")
            namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
            devices.append(_device("tun0"))
            _ip(
                "link set lo up",
                f"addr add {relay.address}/{_PREFIX} dev tun0",
                f"link set tun0 mtu {MTU} up",
                "route del local 127.0.0.1 table local",
                "route del local 127.0.0.0/8 table local",
                "route add 127.0.0.0/8 dev tun0",
            )
            _set("tun0", "route_localnet")
            _set("tun0", "accept_local")  # 127.0.0.1 is lo's here too
        _check(_libc().setns(host, _CLONE_NEWNET), "setns")
        machine = _device(plan.device)
        _ip(f"addr add {plan.gateway}/{_PREFIX} dev {plan.device}", f"link set {plan.device} mtu {MTU} up")
        _set(plan.device, "route_localnet")
    except OSError as error:
        raise NamespaceError(f"links = netns cannot be used: {error}") from None
    finally:
        os.close(host)
    return Namespaces(machine, tuple(devices), tuple(namespaces))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _device(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), _IFF_TUN_NO_PI))
    return descriptor


def _ip(*commands: str) -> None:
    program = find_program("ip", "iproute2")
    text = "\n".join(commands) + "\n"
    done = subprocess.run([program, "-batch", "-"], input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise NamespaceError(f"links = netns cannot be used: ip: {done.stderr.strip()}")


def _set(device: str, name: str) -> None:
    Path(f"/proc/sys/net/ipv4/conf/{device}/{name}").write_text("1", encoding="ascii")


class Switch:
    """Takes packets from each device, and gives them to that of their destination when they have arrived."""

    def __init__(self, plan: LinkPlan, namespaces: Namespaces) -> None:
        loop = asyncio.get_running_loop()
        self._agenda = Agenda(loop)
        self._devices = {plan.gateway: namespaces.machine}
        self._devices |= dict(zip((relay.address for relay in plan.relays), namespaces.devices, strict=True))
        self._by_bytes = {bytes(map(int, address.split("."))): address for address in self._devices}
        self._machine = plan.gateway
        lanes = make_lanes(plan)
        self._lanes = {relay.address: lanes[relay.nickname] for relay in plan.relays}
        self._ways: dict[tuple[str, str], Way] = {}

    def start(self) -> None:
        """Begin; it goes on as long as the loop runs."""
        loop = asyncio.get_running_loop()
        for address, device in self._devices.items():
            loop.add_reader(device, self._read, address, device)

    def _read(self, source: str, device: int) -> None:
        with suppress(OSError):  # none is left, or the device is gone with its namespace
            for _ in range(_BATCH):
                self._forward(source, os.read(device, 65536))
        # With many devices that have packets it would be late once all of them were read.
        self._agenda.catch_up()

    def _forward(self, source: str, packet: bytes) -> None:
        if packet[0] >> 4 != 4:
            return
        # What is for nobody here, such as 127.0.0.1, is for the machine.
        destination = self._by_bytes.get(packet[16:20], self._machine)
        way = self._ways.get((source, destination))
        if way is None:
            way = Way(self._agenda, self._lanes_of(source, destination), QUEUE)
            self._ways[source, destination] = way
        way.send(len(packet), partial(_write, self._devices[destination], packet))

    def _lanes_of(self, source: str, destination: str) -> tuple[Lane, ...]:
        up = (self._lanes[source].up,) if source in self._lanes else ()
        return (*up, self._lanes[destination].down) if destination in self._lanes else up


def _write(device: int, packet: bytes) -> None:
    with suppress(OSError):  # its queue is full, or it is gone
        os.write(device, packet)
