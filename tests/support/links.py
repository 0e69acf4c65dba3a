"""Links with namespaces that no tor uses: what is sent over them, and when it arrives."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import attrs

from perfd.config.testnet import Link
from perfd.processes.modules import module_command, module_environment
from perfd.tor.testnet import link_process
from perfd.tor.testnet.links.plan import NAMESPACES, PROGRAM, Endpoint, LinkPlan
from tests.support.instance import is_alive, wait_for

PACKET = 1500
"""Bytes of the largest IP packet."""

_UDP_PAYLOAD = PACKET - 28
_TCP_PAYLOAD = PACKET - 52  # with the option of timestamps
_CLONE_NEWNET = 0x40000000  # sched.h
_BURST = 0.002  # seconds between what a flood sends at once
_GRACE = 2.0  # seconds for answers that are still on their way


@attrs.frozen
class RunningLinks:
    """The links, by the nicknames of their relays."""

    plan: LinkPlan
    pid: int
    namespaces: dict[str, int]

    def address(self, nickname: str) -> str:
        return next(relay.address for relay in self.plan.relays if relay.nickname == nickname)

    def socket(self, nickname: str, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of IPv4 in the namespace of a relay."""
        made: list[socket.socket] = []

        def make() -> None:  # in a thread that ends then: only it is in the namespace
            with open(f"/proc/{self.pid}/fd/{self.namespaces[nickname]}", "rb") as namespace:
                assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) == 0
            made.append(socket.socket(socket.AF_INET, kind, protocol))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


@contextmanager
def running_links(directory: Path, link: Link, *nicknames: str) -> Iterator[RunningLinks]:
    """Links of relays with these names while the block runs."""
    places = link_process.places("netns", directory)
    relays = [
        Endpoint(nickname=name, link=link, address=places.address(number), port=1)
        for number, name in enumerate(nicknames)
    ]
    name = sha256(bytes(directory)).hexdigest()[:8]
    plan = LinkPlan(
        mode="netns", seed=1, relays=tuple(relays), device=f"perfd-{name}", gateway=f"{places.subnet}.1"
    )
    file = link_process.plan_file(directory)
    file.parent.mkdir(parents=True)
    plan.save(file)
    argv = [*module_command(PROGRAM), "-f", str(file), str(os.getpid())]
    subprocess.run(argv, check=True, timeout=60, env=module_environment())
    pid = link_process.running(directory)
    assert pid is not None
    try:
        yield RunningLinks(plan, pid, json.loads(file.with_name(NAMESPACES).read_text()))
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_alive(pid), "the end of the links")


def raw_icmp() -> socket.socket:
    """A socket of this machine for ``pings``."""
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def pings(own: socket.socket, address: str, count: int, interval: float) -> list[float | None]:
    """The round trip of each of so many pings to ``address``, in seconds; None: there was no answer."""
    sent, found = list[float](), list[float | None]([None] * count)
    identity, began = os.getpid() & 0xFFFF, time.monotonic()
    end = began + count * interval + _GRACE
    while (now := time.monotonic()) < end and (len(sent) < count or None in found):
        due = began + len(sent) * interval if len(sent) < count else end
        if now >= due:
            own.sendto(_echo_request(identity, len(sent)), (address, 0))
            sent.append(now)
        elif select.select([own], [], [], due - now)[0]:
            packet, came = own.recv(PACKET), time.monotonic()
            answer = packet[(packet[0] & 15) * 4 :]
            number = struct.unpack("!H", answer[6:8])[0]
            if answer[0] == 0 and answer[4:6] == struct.pack("!H", identity) and number < len(sent):
                found[number] = came - sent[number]
    return found


def _echo_request(identity: int, number: int) -> bytes:
    """RFC 792; the checksum is that of RFC 1071."""
    words = (0x0800, 0, identity, number)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!4H", words[0], ~(total + (total >> 16)) & 0xFFFF, *words[2:])


def udp_rate(links: RunningLinks, nickname: str, sent: float, seconds: float, skip: float) -> float:
    """How many bit/s of IP packets come to a relay of ``sent``, after the first ``skip`` seconds."""
    over, came = threading.Event(), list[float]()
    with (
        links.socket(nickname, socket.SOCK_DGRAM) as target,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        target.bind((links.address(nickname), 0))
        target.settimeout(0.5)
        place = target.getsockname()

        def send() -> None:
            payload, began, count = bytes(_UDP_PAYLOAD), time.monotonic(), 0
            while (passed := time.monotonic() - began) < seconds:
                while count < passed * sent / 8 / PACKET:
                    source.sendto(payload, place)
                    count += 1
                time.sleep(_BURST)
            over.set()

        thread = threading.Thread(target=send)
        thread.start()
        while True:
            try:
                target.recv(PACKET)
            except TimeoutError:
                if over.is_set():
                    break
                continue
            came.append(time.monotonic())
        thread.join()
    kept = [when for when in came if when >= came[0] + skip]
    return 8 * PACKET * (len(kept) - 1) / (kept[-1] - kept[0])


def tcp_rate(links: RunningLinks, nickname: str, seconds: float, skip: float) -> float:
    """How many bit/s of IP packets one TCP flow (cubic) brings to a relay, after the first ``skip`` seconds."""
    came = list[tuple[float, int]]()
    with links.socket(nickname, socket.SOCK_STREAM) as listening:
        listening.bind((links.address(nickname), 0))
        listening.listen(1)
        place = listening.getsockname()

        def receive() -> None:
            with listening.accept()[0] as accepted:
                while data := accepted.recv(65536):
                    came.append((time.monotonic(), len(data)))

        thread = threading.Thread(target=receive)
        thread.start()
        with socket.socket() as source:
            # That of the machine may be another one.
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
            source.connect(place)
            payload, began = bytes(65536), time.monotonic()
            while time.monotonic() - began < seconds:
                source.sendall(payload)
        thread.join()
    first = came[0][0]
    kept = [(when, size) for when, size in came if first + skip <= when <= first + seconds]
    payload_rate = 8 * sum(size for _, size in kept[1:]) / (kept[-1][0] - kept[0][0])
    return payload_rate * PACKET / _TCP_PAYLOAD
