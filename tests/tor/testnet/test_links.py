"""Links: what perfd.conf says of them, when what is sent over them arrives, and the proxies before relays."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from perfd.config import ConfigError, parse_config
from perfd.config.testnet import Link, TestnetConfig, nicknames
from perfd.processes.alive import is_alive
from perfd.processes.modules import module_command, module_environment
from perfd.tor.testnet import link_process
from perfd.tor.testnet.links import netns, proxy
from perfd.tor.testnet.links.line import Agenda, Lane, new_loop
from perfd.tor.testnet.links.plan import PID_FILE, PROGRAM, Endpoint, LinkPlan
from perfd.tor.testnet.links.program import NICE
from perfd.tor.testnet.relays import TestnetError
from perfd.tor.testnet.weights import drawn_weights
from tests.support.instance import wait_for

T = TypeVar("T")


def read(text: str) -> TestnetConfig:
    return parse_config(f"[testnet]\n{text}", Path("perfd.conf")).private_network


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read(text)
    return str(raised.value)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` in the loop that the links have."""

    async def awaited() -> T:
        return await main()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(awaited())


def test_values() -> None:
    """All values are read; without any of a link there are none."""
    assert read("") == TestnetConfig()
    config = read("relays = 8\ndelay = 25 ms\njitter = 5ms\nrate = 20 Mbit/s\nloss = 0.1 %\nseed = 7\nkeep = 1 min")
    assert config.link == Link(delay=0.025, jitter=0.005, rate=20e6, loss=0.001)
    assert (config.relays, config.links, config.seed, config.keep) == (8, "auto", 7, 60.0)
    assert read("links = proxy").links == "proxy"


def test_presets() -> None:
    """A preset is a set of defaults."""
    config = read("preset = world\nrate = 5 Mbit/s")
    assert (config.relays, config.link.delay, config.link.rate, config.seed) == (20, 0.04, 5e6, 1)


def test_mistakes() -> None:
    """What cannot be is refused with what would be right."""
    assert "jitter: must not be more than delay" in mistakes("jitter = 5 ms")
    assert "needs links = netns: through a proxy, a loss would end connections" in mistakes(
        "links=proxy\nloss = 1 %"
    )
    assert "must be 4 to 50" in mistakes("relays = 3")
    assert "rate: unknown unit 'MB'; a rate is" in mistakes("rate = 5 MB/s")
    assert "loss: '1' is not a percentage such as 0.1 %" in mistakes("loss = 1")
    assert "unknown option; did you mean 'delay'?" in mistakes("dealy = 1 ms")


def test_links_file() -> None:
    """Single relays have links of their own, for which the others' values are defaults."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "links.ini"
        file.write_text("[exit1]\ndelay = 80 ms\n")
        config = read(f"delay = 25 ms\nrate = 10 Mbit/s\nlinks-file = {file}")
        assert config.link_of("exit1") == Link(delay=0.08, rate=10e6)
        assert config.link_of("exit2") == Link(delay=0.025, rate=10e6)
        file.write_text("[exit1]\ndelay = 80 ms  # far away\n")
        assert read(f"links-file = {file}").link_of("exit1") == Link(delay=0.08)
        file.write_text("delay = 80 ms\n[exit1]\nrate\n[exit1]\n")
        found = mistakes(f"links-file = {file}")
        assert f"{file}: line 1: 'delay = 80 ms' is in no section such as [exit1]" in found
        assert f"{file}: line 4: there is a section [exit1] above" in found
        assert len(found.splitlines()) == 1
        file.write_text("[exit9]\ndelay = 80 ms\n")
        assert "[exit9]: there is no such relay; did you mean 'exit" in mistakes(f"links-file = {file}")


def test_nicknames() -> None:
    """Networks of the usual size are authorities and exits; larger ones have guards and middles."""
    assert nicknames(6) == ["auth1", "auth2", "auth3", "exit1", "exit2", "exit3"]
    for size in (8, 20, 50):
        names = nicknames(size)
        assert len(names) == len(set(names)) == size
        assert {"guard2", "middle1", "exit2"} <= set(names)


def test_weights() -> None:
    """They are of the seed."""
    names = nicknames(20)
    assert drawn_weights(names, 1) == drawn_weights(names, 1) != drawn_weights(names, 2)
    assert max(drawn_weights(names, 1)) > 5 * min(drawn_weights(names, 1))


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` is netns where that can be, else proxy, but for losses."""
    lossy = Link(delay=0.01, loss=0.01)
    assert link_process.choose_mode(TestnetConfig()) is None
    monkeypatch.setattr(netns, "trouble", lambda: "it needs root")
    assert link_process.choose_mode(TestnetConfig(links="auto")) == "proxy"
    with pytest.raises(TestnetError, match="loss needs links = netns, which cannot be used: it needs root"):
        link_process.choose_mode(TestnetConfig(links="auto", link=lossy))
    with pytest.raises(TestnetError, match="links = netns cannot be used: it needs root; links = proxy"):
        link_process.choose_mode(TestnetConfig(links="netns"))
    monkeypatch.setattr(netns, "trouble", lambda: None)
    assert link_process.choose_mode(TestnetConfig(links="auto", link=lossy)) == "netns"


def test_no_tun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the device of TUN the reason says so."""

    def missing(*_: object) -> int:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.os, "open", missing)
    assert netns.trouble() == "/dev/net/tun cannot be opened: No such file or directory"


@pytest.mark.skipif(netns.trouble() is not None, reason="netns cannot be used here")
def test_a_container_that_allows_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where namespaces can be made, but /proc/sys is read-only, auto takes proxies; netns says why it cannot be."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(netns, "_set", refuse)
    assert netns.trouble() == "the system does not allow it here: Read-only file system"
    assert link_process.choose_mode(TestnetConfig(links="auto", link=Link(delay=0.01))) == "proxy"
    with pytest.raises(TestnetError, match="Read-only file system; links = proxy can be used everywhere"):
        link_process.choose_mode(TestnetConfig(links="netns", link=Link(delay=0.01)))


def test_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of 10.0.0.0/8 is behind a route, as of a VPN, the links are in another private network."""
    directory = Path("/tmp/network")
    first = link_process.places("netns", directory).subnet or ""
    taken = "10."
    monkeypatch.setattr(netns, "is_free", lambda subnet: not subnet.startswith(taken))
    other = link_process.places("netns", directory).subnet or ""
    assert [first.partition(".")[0], other.partition(".")[0]] == ["10", "172"]
    assert 16 <= int(other.split(".")[1]) < 32
    taken = ""
    with pytest.raises(TestnetError, match="no free private subnet was found for the links; links = proxy"):
        link_process.places("netns", directory)


def test_rate() -> None:
    """Packets pass a bottleneck one after the other, and wait behind it no longer than it takes."""
    lane = Lane(Link(rate=8e6), Random(1))
    assert [round(lane.passes(1.0, 1000), 9) for _ in range(3)] == [1.001, 1.002, 1.003]
    assert lane.backlog(1.0) == pytest.approx(0.003)
    assert lane.passes(2.0, 1000) == pytest.approx(2.001)


def test_loss() -> None:
    """So many are lost as was asked, within four standard deviations."""
    lane = Lane(Link(delay=0.01, loss=0.01), Random(1))
    lost = sum(lane.loses() for _ in range(100_000))
    assert abs(lost - 1000) < 4 * (1000 * 0.99) ** 0.5


def test_failure() -> None:
    """What fails when it is due does not keep the others waiting."""

    async def main() -> list[str]:
        loop, done = asyncio.get_running_loop(), list[str]()
        loop.set_exception_handler(lambda *_: done.append("failed"))
        agenda = Agenda(loop)
        agenda.at(agenda.time() + 0.01, lambda: 1 / 0)
        agenda.at(agenda.time() + 0.02, lambda: done.append("done"))
        await asyncio.sleep(0.1)
        return done

    assert run(main) == ["failed", "done"]


def echo() -> socket.socket:
    """A server that sends back what it gets."""
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listening


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def through_proxies(work: Callable[[LinkPlan], T], link: Link) -> T:
    """What ``work`` gives, in a thread, while the proxies of two relays with this link run."""
    with echo() as server:
        relays = [
            Endpoint(
                nickname=name,
                link=link,
                address="127.0.0.1",
                port=free_port(),
                behind=server.getsockname()[1],
                outgoing=free_port(),
            )
            for name in ("guard1", "exit1")
        ]
        plan = LinkPlan(mode="proxy", seed=1, relays=tuple(relays))

        async def main() -> T:
            await proxy.serve(plan, proxy.listen(plan))
            return await asyncio.to_thread(work, plan)

        return run(main)


def round_trip(connection: socket.socket) -> float:
    began = time.monotonic()
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    return time.monotonic() - began


def test_round_trips() -> None:
    """A client's connection crosses one link, a relay's two: the one that made it is known."""

    def work(plan: LinkPlan) -> tuple[float, float]:
        guard, exit_ = plan.relays
        with socket.create_connection(("127.0.0.1", exit_.port), timeout=5) as client:
            one = statistics.median(round_trip(client) for _ in range(7))
        with socket.create_connection(("127.0.0.1", guard.outgoing or 0), timeout=5) as relay:
            relay.sendall(f"PROXY TCP4 0.0.0.0 127.0.0.1 0 {exit_.port}\r\n".encode())
            two = statistics.median(round_trip(relay) for _ in range(7))
        return one, two

    one, two = through_proxies(work, Link(delay=0.025))
    assert 0.05 <= one < 0.065
    assert 0.1 <= two < 0.12


def test_bulk() -> None:
    """What goes through has the rate of the link, arrives whole, and its end behind it."""
    data = bytes(range(256)) * 4000

    def work(plan: LinkPlan) -> float:
        with socket.create_connection(("127.0.0.1", plan.relays[0].port), timeout=20) as client:
            began = time.monotonic()
            threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR))).start()
            found = bytearray()
            while piece := client.recv(65536):
                found += piece
            assert found == data
            return 8 * len(data) / (time.monotonic() - began)

    assert 6.5e6 < through_proxies(work, Link(delay=0.01, rate=8e6)) < 8.2e6


def test_strangers() -> None:
    """Who asks for another place, or in another way, is turned away."""

    def work(plan: LinkPlan) -> list[bytes]:
        found = []
        for words in (b"PROXY TCP4 0.0.0.0 127.0.0.1 0 1\r\n", b"GET / HTTP/1.1\r\n", b"x" * 200):
            with socket.create_connection(("127.0.0.1", plan.relays[0].outgoing or 0), timeout=5) as client:
                client.sendall(words)
                try:
                    found.append(client.recv(1))
                except ConnectionResetError:
                    found.append(b"")
        return found

    assert through_proxies(work, Link(delay=0.001)) == [b"", b"", b""]


def test_packets_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many packets the devices have, what is due is not held back by more than one small batch."""
    names = nicknames(8)
    relays = [
        Endpoint(nickname=name, link=Link(), address=f"10.0.0.{n + 2}", port=1) for n, name in enumerate(names)
    ]
    plan = LinkPlan(mode="netns", seed=1, relays=tuple(relays), device="", gateway="10.0.0.1")
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(len(names) + 1)]
    for pair in pairs:
        pair[0].setblocking(False)
    machine, *devices = (pair[0].fileno() for pair in pairs)
    packet = bytes([0x45]) + bytes(15) + bytes([10, 0, 0, 1])
    for _, relay in pairs[1:]:
        for _ in range(8):
            relay.send(packet)
    read, waiting, most = os.read, 0, 0

    def reading(descriptor: int, size: int) -> bytes:
        nonlocal waiting, most
        found = read(descriptor, size)
        if descriptor in devices:
            waiting += 1
            most = max(most, waiting)
        return found

    def written(descriptor: int, data: bytes) -> int:
        nonlocal waiting
        waiting -= 1
        return len(data)

    monkeypatch.setattr(netns.os, "read", reading)
    monkeypatch.setattr(netns.os, "write", written)

    async def main() -> None:
        netns.Switch(plan, netns.Namespaces(machine, tuple(devices), ())).start()
        await asyncio.sleep(0.05)

    run(main)
    for pair in pairs:
        for each in pair:
            each.close()
    assert (waiting, 8 <= most <= 16) == (0, True)


def test_priority(tmp_path: Path) -> None:
    """The process of the links is woken in time; as root, before others."""
    links = Endpoint(nickname="a", link=Link(), address="127.0.0.1", port=free_port(), outgoing=free_port())
    plan = LinkPlan(mode="proxy", seed=1, relays=(links,))
    plan.save(tmp_path / "plan.json")
    argv = [*module_command(PROGRAM), "-f", str(tmp_path / "plan.json"), str(os.getpid())]
    subprocess.run(argv, check=True, timeout=60, env=module_environment())
    pid = int((tmp_path / PID_FILE).read_text())
    try:
        if os.geteuid() == 0:
            wait_for(lambda: os.getpriority(os.PRIO_PROCESS, pid) == NICE, "its priority")
        slack = Path(f"/proc/{pid}/timerslack_ns")
        if slack.exists():
            wait_for(lambda: slack.read_text() == "1\n", "the precision of its timers")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_alive(pid), "its end")
