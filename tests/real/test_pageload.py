"""Page loads of the daemon: real Firefoxes over real tors, good and bad pages, and what is killed meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perfd.browser.firefox import processes_of
from perfd.instance import Instance
from perfd.record import Error, Measurement, Outcome
from tests.support.browser_pages import LARGE, MISSING, command_of, ids_of
from tests.support.instance import TestInstance, free_port, is_alive, processes_in, wait_for
from tests.support.page_site import PageSite

firefox = pytest.mark.skipif(bool(MISSING), reason=MISSING)

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
[tor]
bootstrap-timeout = 120 s
[tor:plain]
torrc = ConfluxEnabled 0
[browser:one]
[browser:two]
profile = marked
[experiment:canonical]
type = pageload
server = public, onion
browser = one
interval = 1 min
offset = {soon}
timeout = 60 s
[experiment:pair]
type = pageload
page = light
optimistic = both
tor = plain
browser = two
interval = 10 s
timeout = 60 s
quiet = 500 ms
[experiment:hang]
type = pageload
url = {site}/unending
tor = plain
browser = two
interval = 2 s
timeout = 5 s
[experiment:browsers]
type = pageload
url = {site}/
tor = none
browser = one, two
interval = 30 s
timeout = 60 s
quiet = 500 ms
"""

BAD = """
[experiment:{name}]
type = pageload
url = {url}
browser = one
interval = 1 min
offset = {soon}
timeout = {timeout}
quiet = 500 ms
screenshot = no
"""

LATE = (Error.TIMEOUT, Error.STALL)

# The experiment: its path, its timeout in seconds, and how it ends.
PAGES: dict[str, tuple[str, int, tuple[Outcome, tuple[str | None, ...], int | None]]] = {
    "missing": ("/missing", 60, (Outcome.FAILED, (Error.STATUS,), 404)),
    "broken": ("/broken", 60, (Outcome.FAILED, (Error.STATUS,), 500)),
    "loop": ("/loop", 60, (Outcome.FAILED, (Error.REDIRECTS,), 302)),
    "file": ("/file", 60, (Outcome.FAILED, (Error.DOWNLOAD,), 200)),
    "endless": ("/endless", 3, (Outcome.TIMEOUT, LATE, 200)),
    "hung-image": ("/hung-image", 3, (Outcome.TIMEOUT, LATE, 200)),
    "busy": ("/busy", 3, (Outcome.TIMEOUT, (Error.TIMEOUT,), 200)),  # all of it came
    "large": ("/large", 60, (Outcome.OK, (None,), 200)),
}

ENOUGH = 300.0
"""Seconds in which everything has come, also on a slow machine."""


@pytest.fixture(scope="module")
def site() -> Iterator[PageSite]:
    """Pages that are good and bad in all ways."""
    made = PageSite()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, testnet: Any, site: PageSite) -> Iterator[TestInstance]:
    """A daemon that loads all of them, over two tors, in two browsers."""
    directory = tmp_path_factory.mktemp("pageload")
    urls = {name: site.url + path for name, (path, _, _) in PAGES.items()}
    urls |= {"secure": site.secure + "/", "closed": f"http://127.0.0.1:{free_port()}/"}
    config = CONFIG.replace("{testnet}", str(testnet.directory)).replace("{site}", site.url)
    for name, url in urls.items():
        timeout = PAGES[name][1] if name in PAGES else 60
        config += BAD.replace("{name}", name).replace("{url}", url).replace("{timeout}", str(timeout))
    # Each of them once a minute, and at first when the tors may be ready.
    config = config.replace("{soon}", str(int(time.time() + 10) % 60))
    (directory / "marked").mkdir()
    (directory / "marked" / "mark").touch()
    made = TestInstance(directory, config)
    made.start()
    yield made
    made.perfd("stop")
    for pid in {*processes_in(directory), *browsers(made)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def browsers(instance: TestInstance) -> list[int]:
    """All processes of the daemon's browsers."""
    profiles = Instance(instance.directory).browsers
    return [pid for profile in profiles.glob("*") for pid in processes_of(-1, profile)]


def firefox_two(instance: TestInstance) -> int:
    """The Firefox that runs as browser ``two``: its profile has the mark."""
    for pid in browsers(instance):
        _, _, rest = command_of(pid).partition(b"--profile\0")
        profile = Path(os.fsdecode(rest.partition(b"\0")[0]))
        if rest and ids_of(pid).parent == instance.pid and (profile / "mark").exists():
            return pid
    raise AssertionError("there is no such Firefox")


def measured(instance: TestInstance, experiment: str, after: float = 0.0) -> list[Measurement]:
    """The loads of an experiment that began after ``after``."""
    return [
        m
        for m in instance.logged()
        if m.experiment == experiment and m.outcome is not Outcome.SKIPPED and m.start > after
    ]


def wait_for_load(
    instance: TestInstance,
    experiment: str,
    errors: Collection[str | None] = (None,),
    *,
    after: float = 0.0,
    server: str | None = None,
) -> Measurement:
    """The first such load; the private network has moments in which it fails otherwise. No error is a success."""

    def fitting() -> list[Measurement]:
        return [
            m
            for m in measured(instance, experiment, after)
            if m.errorcode in errors and (server is None or m.server == server)
        ]

    found: list[Measurement] = wait_for(fitting, f"a load of {experiment} with {errors}", ENOUGH)
    return found[0]


@firefox
@pytest.mark.tor
class TestLoads:
    """One daemon for all of it; the last test ends it.

    What is killed belongs to one tor and browser, while the other ones get on with the bad pages.
    """

    @pytest.mark.long
    def test_optimistic(self, instance: TestInstance) -> None:
        """Pairs over a tor without Conflux: the optimistic load could use it, and asks before tor's reply."""
        wait_for(lambda: pairs(instance), "a pair of loads", ENOUGH)
        for strict, optimistic in pairs(instance):
            assert "OPTIMISTICUSED" not in strict.extra
            assert 1 <= int(optimistic.extra["OPTIMISTICUSED"]) <= int(optimistic.extra["CONNECTIONS"])
            assert (strict.tor, optimistic.tor, strict.slot) == ("plain", "plain", optimistic.slot)
            assert strict.datarequest > strict.response  # type: ignore[operator]
            assert optimistic.datarequest < optimistic.response  # type: ignore[operator]
        assert "cannot help" not in instance.log.read_text(encoding="utf-8")

    @pytest.mark.long
    def test_disturbed(self, instance: TestInstance, site: PageSite) -> None:
        """kill -9 of tor, kill -9 and SIGSTOP of Firefox during a load: each is a record, then loads work again."""
        (tor,) = processes_in(instance.directory / "tor" / "plain")
        m = self.disturbed(instance, site, lambda: os.kill(tor, signal.SIGKILL))
        # Half a document is none, although its end would be that of the connection.
        assert m.outcome is Outcome.FAILED
        assert m.errorcode in (Error.CONNECT, Error.CLOSED, Error.RESET), m
        # The next page that hangs is asked for over another tor,
        m = self.disturbed(instance, site, lambda: os.kill(firefox_two(instance), signal.SIGKILL))
        assert (m.outcome, m.errorcode) == (Outcome.FAILED, Error.BROWSER)
        # and the next one by another Firefox.
        m = self.disturbed(instance, site, lambda: os.kill(firefox_two(instance), signal.SIGSTOP))
        assert (m.outcome, m.errorcode) == (Outcome.FAILED, Error.BROWSER)
        assert (m.end or 0) - m.start < 5 + 10
        wait_for_load(instance, "pair", after=time.time())

    def disturbed(self, instance: TestInstance, site: PageSite, disturb: Callable[[], None]) -> Measurement:
        """The record of the load that was going on when ``disturb`` was called."""
        before = site.seen("/unending")
        wait_for(lambda: site.seen("/unending") > before, "a page that hangs", ENOUGH)
        time.sleep(0.5)  # what there is of it gets through
        now = time.time()
        disturb()
        found: list[Measurement] = wait_for(
            lambda: [m for m in measured(instance, "hang") if (m.end or 0) >= now - 0.1], "its record"
        )
        assert found[0].start <= now
        return found[0]

    def test_canonical(self, instance: TestInstance) -> None:
        """Our page over an exit and over our onion service: all figures, tor's view, a HAR file that knows both."""
        labels = set()
        for server in ("public", "onion"):
            m = wait_for_load(instance, "canonical", server=server)
            names = (
                *("start", "socket", "connect", "negotiate", "request", "response", "datarequest"),
                *("dataresponse", "datacomplete", "end"),
            )
            times = [getattr(m, name) for name in names]
            assert times == sorted(times)
            assert (m.status, m.filesize > 0, m.network) == (200, True, "testnet")
            assert m.used_by is not None
            assert m.circ_id is not None
            assert len(m.path or ()) >= 3
            extra = m.extra
            figures = [extra[key] for key in ("NAVIGATIONSTART", "FIRSTCONTENTFULPAINT", "LOAD", "FULLYLOADED")]
            assert figures == sorted(figures)
            assert (extra["BROWSER"], extra["DRIVER"], extra["REQUESTSFAILED"]) == ("one", "bidi", 0)
            assert int(extra["CONNECTIONS"]) - int(extra["CONNECTIONSUNUSED"]) >= 3
            assert (m.payloadbytes or 0) >= m.filesize
            assert ("HSRENDJOINED" in extra) is (server == "onion")
            labels.add(extra["PAGE"])
            self.check_har(instance, m)
        assert len(labels) == 1

    def check_har(self, instance: TestInstance, m: Measurement) -> None:
        wait_for(lambda: instance.get(f"/results/{m.id}")[0] == 200, "the result")
        status, body = instance.get(f"/results/{m.id}/har")
        assert status == 200
        entries = json.loads(gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body)["log"]["entries"]
        assert len(entries) == m.extra["REQUESTS"]
        assert instance.get(f"/results/{m.id}/screenshot")[0] == 200

    @pytest.mark.long
    def test_bad_pages(self, instance: TestInstance, site: PageSite) -> None:
        """Each ends as a record with its own error code, whatever it does."""
        for name, (path, timeout, (outcome, errors, status)) in PAGES.items():
            m = wait_for_load(instance, name, errors)
            assert (m.outcome, m.status) == (outcome, status), (name, m)
            assert (m.server, m.extra["PAGE"], m.hostnameremote) == ("url", site.url + path, "127.0.0.1")
            assert (m.reason is None) is (outcome is Outcome.OK)
            assert m.circ_id is not None, name
            for each in measured(instance, name):
                assert (each.end or 0) - each.start < timeout + 10, each
            wait_for(lambda m=m: instance.get(f"/results/{m.id}")[0] == 200, "the result")
        assert (wait_for_load(instance, "large").payloadbytes or 0) > LARGE
        assert wait_for_load(instance, "secure", (Error.TLS,)).outcome is Outcome.FAILED
        # Tor's word for a refused connection is another one on this machine than on the internet.
        assert wait_for_load(instance, "closed", ("TOR/END/MISC", "TOR/END/CONNECTREFUSED")).circ_id is not None

    @pytest.mark.long
    def test_browsers(self, instance: TestInstance) -> None:
        """Several browsers: each has its own record in each slot; without tor, nothing of tor is in it."""
        found: list[Measurement] = wait_for(
            lambda: in_both(measured(instance, "browsers")), "a load in each browser", ENOUGH
        )
        assert {m.extra["BROWSER"] for m in found} == {"one", "two"}
        assert {(m.tor, m.torversion, m.circ_id) for m in found} == {("none", None, None)}

    def test_killed_daemon(self, instance: TestInstance, site: PageSite) -> None:
        """kill -9 of the daemon takes its browsers with it."""
        before = site.seen("/unending")
        wait_for(lambda: site.seen("/unending") > before, "a page that hangs", ENOUGH)
        left = browsers(instance)
        assert firefox_two(instance) in left
        instance.kill()
        wait_for(lambda: not any(map(is_alive, left)) and not browsers(instance), "the end of Firefox")


def in_both(loads: list[Measurement]) -> list[Measurement]:
    """The successful ones, once there are some of two browsers."""
    succeeded = [m for m in loads if m.outcome is Outcome.OK]
    return succeeded if len({m.extra["BROWSER"] for m in succeeded}) > 1 else []


def pairs(instance: TestInstance) -> list[tuple[Measurement, Measurement]]:
    """The pairs of which both loads succeeded: without, and with optimistic data."""
    loads = [m for m in measured(instance, "pair") if m.outcome is Outcome.OK]
    strict = {m.extra["PAIR"]: m for m in loads if m.extra["OPTIMISTIC"] == 0}
    return [(strict[m.extra["PAIR"]], m) for m in loads if m.extra["OPTIMISTIC"] and m.extra["PAIR"] in strict]


@firefox
def test_measure(site: PageSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``perfd measure`` loads any page, without a perfd.conf and without tor."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = (
        "--type",
        "pageload",
        "--url",
        site.url + "/",
        "--network",
        "socks",
        "--count",
        "1",
        "-o",
        "quiet=500 ms",
        "--json",
    )
    instance = TestInstance(tmp_path)
    (tmp_path / "perfd.conf").unlink()
    done = instance.perfd("measure", *options)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert (record["outcome"], record["status"], record["server"]) == ("ok", 200, "url")
    assert record["extra"]["REQUESTS"] == 6


@pytest.mark.long
def test_no_firefox(tmp_path: Path) -> None:
    """Without Firefox nothing is started, and what to install is said."""
    config = "[perfd]\nnetwork = socks\n[browser]\nbinary = {binary}\n[experiment:page]\ntype = pageload\n"
    instance = TestInstance(tmp_path)
    for binary in ("/nonexistent/firefox", "no-such-firefox"):
        instance.configure(config.replace("{binary}", binary))
        for command in (["measure", "--experiment", "page"], ["measure", "--type", "pageload"], ["start"]):
            done = instance.perfd(*command)
            assert done.returncode == 1, (command, done.stderr)
            assert (
                f"[browser:default] binary: {'' if '/' in binary else 'there is no program '}{binary}"
                in done.stderr
            )
            assert "apt-get install firefox-esr" in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "measure") == ["perfd.conf"]
