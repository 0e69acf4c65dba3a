"""How a real Firefox ends, and what comes after: crashes, kills, hangs, cancels, and the end of Perfd itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.error import NotConnectingError
from twisted.internet.task import deferLater

from perfd.browser import bidi_browser
from perfd.browser.firefox import FirefoxOptions, Profiles
from perfd.record import Error, Outcome
from tests.support.browser_pages import MISSING, BrowserTestCase, RecordingSocks, command_of, reactor

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

PARENT = """
import sys
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from perfd.browser.bidi_browser import BidiBrowser
from perfd.browser.firefox import FirefoxOptions
from perfd.browser.records import PageTask
from perfd.clock import Clock

async def main(reactor):
    browser = BidiBrowser(reactor, Clock(), FirefoxOptions(directory=Path(sys.argv[1])))
    await browser.load(PageTask(url=sys.argv[2], proxy_port=int(sys.argv[3]), timeout=600))

react(main)
"""


class EndTests(BrowserTestCase):
    """A browser that ends is told, and costs one load at most."""

    @pytest.mark.long
    async def test_crash_and_kill(self) -> None:
        """A page's crashed process and a killed Firefox have error codes; the next load has a new Firefox."""
        crashing = self.start("/hung-image")
        await self.until(lambda: "/hang" in self.pages.seen)
        first = self.main_process()
        for pid in self.processes():
            if b"-isForBrowser" in command_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        crashed = await crashing
        self.assertEqual((crashed.outcome, crashed.errorcode), (Outcome.FAILED, Error.CRASH))

        killing = self.start("/hang")
        await self.until(lambda: self.pages.seen.count("/hang") == 2)
        second = self.main_process()
        self.assertNotEqual(second, first)
        os.kill(second, signal.SIGKILL)
        killed = await killing
        self.assertEqual((killed.outcome, killed.errorcode), (Outcome.FAILED, Error.BROWSER))
        self.assertEqual(killed.requests[0].url, self.url + "/hang")

        self.assertEqual((await self.load()).outcome, Outcome.OK)
        idle = self.main_process()
        os.kill(idle, signal.SIGKILL)
        self.assertEqual((await self.load()).outcome, Outcome.OK)
        self.assertNotEqual(self.main_process(), idle)

    @pytest.mark.long
    async def test_stopped(self) -> None:
        """A Firefox that hangs is told from a page that does, and killed."""
        hanging = self.start("/hang", timeout=2)
        await self.until(lambda: "/hang" in self.pages.seen)
        stopped = self.main_process()
        os.kill(stopped, signal.SIGSTOP)
        loaded = await hanging
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.FAILED, Error.BROWSER))
        await self.until(lambda: not self.profiles())
        self.assertFalse(Path(f"/proc/{stopped}").exists())

    @pytest.mark.long
    async def test_cancelled(self) -> None:
        """A cancelled load ends at once, at the start of its browser as well as later; nothing of it stays."""
        starting = self.start("/")
        await self.until(self.processes)
        starting.cancel()
        self.assertEqual(self.successResultOf(starting).outcome, Outcome.CANCELLED)
        await self.until(lambda: not self.profiles())

        loading = self.start("/hang")
        waiting = self.start("/")
        await self.until(lambda: "/hang" in self.pages.seen)
        process = self.main_process()
        waiting.cancel()
        self.assertEqual(self.successResultOf(waiting).outcome, Outcome.CANCELLED)
        loading.cancel()
        cancelled = self.successResultOf(loading)
        self.assertEqual((cancelled.outcome, cancelled.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertEqual((await self.load()).outcome, Outcome.OK)
        self.assertEqual(self.main_process(), process)

        closing = self.start("/hang")
        await self.until(lambda: self.pages.seen.count("/hang") == 2)
        await self.browser.close()
        self.assertEqual((await closing).outcome, Outcome.CANCELLED)
        self.assertEqual(self.processes(), [])
        self.assertIn("closed", self.browser.not_ready or "")
        self.assertEqual((await self.load()).outcome, Outcome.CANCELLED)

    async def test_closed_at_its_start(self) -> None:
        """A browser that is closed while its process starts leaves none."""
        starting = self.start("/")
        await self.until(lambda: len(self.processes()) > 2)
        await self.browser.close()
        self.assertEqual((await starting).outcome, Outcome.CANCELLED)
        self.assertEqual(self.processes(), [])


class FreshTests(BrowserTestCase):
    """A browser with a process for each load."""

    options = {"warm": False}

    @pytest.mark.long
    async def test_fresh_process(self) -> None:
        """No process is used twice; a given profile is copied; a warm process is replaced when it is old."""
        template = self.directory.with_name("template")
        template.mkdir()
        (template / "mark").write_text("x", encoding="utf-8")
        loading = self.start("/")
        await self.until(lambda: "/" in self.pages.seen)
        first = self.main_process()
        self.assertEqual((await loading).outcome, Outcome.OK)
        await self.until(lambda: not self.profiles())

        await self.browser.close()
        self.browser = self.make_browser(profile=template, loads_per_process=2)
        await self.load()
        second = self.main_process()
        self.assertNotEqual(second, first)
        self.assertEqual([(profile / "mark").read_text() for profile in self.profiles()], ["x"])
        await self.load()
        await self.until(lambda: not self.profiles())


class MissingTests(BrowserTestCase):
    """A browser that cannot be started."""

    async def test_not_there(self) -> None:
        """What to install is said, and a load fails with the same words."""
        self.browser = self.make_browser(binary="no-such-firefox")
        self.assertIn("apt install firefox-esr", self.browser.not_ready or "")
        loaded = await self.load()
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.FAILED, Error.BROWSER))
        self.assertIn("no-such-firefox", loaded.reason or "")

    async def test_unforeseen(self) -> None:
        """Whatever hinders its start, it is the browser that failed."""

        def raise_error(*_: object) -> None:
            raise NotConnectingError

        self.patch(bidi_browser, "find_program", raise_error)
        loaded = await self.load()
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.FAILED, Error.BROWSER))

    async def test_ends_at_its_start(self) -> None:
        """A program that is no Firefox is told with its last words, and leaves nothing."""
        script = self.directory.with_name("no-firefox")
        script.write_text("#!/bin/sh\necho cannot do this >&2\nexit 3\n", encoding="utf-8")
        script.chmod(0o755)
        self.browser = self.make_browser(binary=str(script))
        self.assertIsNone(self.browser.not_ready)
        loaded = await self.load()
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.FAILED, Error.BROWSER))
        self.assertIn("exit code 3: cannot do this", loaded.reason or "")


class ParentKilledTests(BrowserTestCase):
    """What becomes of Firefox when Perfd is killed."""

    async def test_no_firefox_left(self) -> None:
        """It ends with all of its processes, even a busy one; the profile goes at Perfd's next start."""
        arguments = [str(self.directory), self.url + "/busy", str(self.socks.port)]
        parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stderr=subprocess.DEVNULL)
        try:
            await self.until(lambda: "/busy" in self.pages.seen)
            self.assertGreater(len(self.processes()), 2)
        finally:
            parent.kill()
            parent.wait()
        await self.until(lambda: not self.processes())
        self.assertEqual(len(self.profiles()), 1)
        Profiles(FirefoxOptions(directory=self.directory)).remove_leftovers()


class SilenceTests(BrowserTestCase):
    """What Firefox sends without being asked to: nothing."""

    async def test_only_the_page(self) -> None:
        """The load's proxy sees the page's connections alone, the default proxy none; no other socket is used."""
        default = RecordingSocks()
        trace = Path(self.mktemp()).absolute()
        binary = _traced(trace) if _can_trace() else "firefox-esr"
        self.browser = self.make_browser(binary=binary, prefs={"network.proxy.socks_port": default.port})
        loading = self.start("/", quiet=6)
        strange: set[str] = set()
        while not loading.called:
            strange |= _strange_sockets(self.processes())
            await deferLater(reactor, 0.1)
        loaded = await loading
        self.assertEqual(loaded.outcome, Outcome.OK)
        port = self.site.getHost().port
        self.assertEqual({(r.host, r.port) for r in self.socks.requests}, {("pages.example", port)})
        self.assertEqual(
            sorted(set(self.pages.seen)), sorted({r.url.removeprefix(self.url) for r in loaded.requests})
        )
        self.assertEqual(default.requests, [])
        self.assertEqual(strange, set())
        await self.browser.close()
        await default.stop()
        if trace.exists():
            proxy = f'sin_port=htons({self.socks.port}), sin_addr=inet_addr("127.0.0.1")'
            connects = [line for line in trace.read_text("latin-1").splitlines() if "AF_INET" in line]
            self.assertTrue(connects)
            self.assertEqual([line for line in connects if proxy not in line], [])


def _can_trace() -> bool:
    command = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=connect", "true"]
    return (
        bool(shutil.which("strace")) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def _traced(trace: Path) -> str:
    """A program that runs Firefox and writes down all that it connects to."""
    script = trace.with_suffix(".sh")
    command = f"exec strace -f -qq --seccomp-bpf -e trace=connect -o '{trace}' firefox-esr \"$@\""
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def _strange_sockets(pids: list[int]) -> set[str]:
    """The processes' UDP sockets, and TCP connections to somewhere else than this machine."""
    inodes = set()
    for pid in pids:
        try:
            links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            remote = fields[2].split(":")[0]
            elsewhere = remote not in ("0100007F", "00000000", "0" * 32)
            if fields[9] in inodes and (elsewhere or table.startswith("udp")):
                found.add(f"{table} {fields[1]} {fields[2]}")
    return found
