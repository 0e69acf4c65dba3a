"""The program that loads one page through Selenium, run by ``SeleniumBrowser`` as a process of its own.

Selenium's calls block, so they are made here. The parent writes one line of JSON, the job, and reads lines of JSON,
the reports: ``session`` (a browser runs), ``navigating`` (it was told to load the page), ``asking`` (the browser
answers, and the page is asked about itself), ``loaded`` (its first answer after its load event), ``overdue`` (the
page's time is over) and ``finished``. What the reports mean is decided in ``selenium_results``.

It leads a session of its own, in which geckodriver and the browser are too. When the parent dies, its end of stdin
closes, and this process ends them all and removes their files. (A signal to this process at the parent's death, as
``setpriv --pdeathsig`` would give, would end this process alone.)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.firefox.firefox_profile import FirefoxProfile
from selenium.webdriver.firefox.options import Options
from selenium.webdriver.firefox.service import Service
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.webdriver import WebDriver

Report = Callable[..., None]

TROUBLE = (WebDriverException, urllib3.exceptions.HTTPError, OSError, ValueError)
"""What Selenium raises if a browser or a geckodriver cannot be talked to."""

MOST_RESOURCES = 5000
LONGEST_TEXT = 20_000

_PAUSE = 0.1  # between questions to a page that has not loaded, or whose prompts are in the way

# By the prototypes, as a page may put something else in their place: a form named "title" is document.title.
_QUESTION = """
const [most, longest] = arguments;
const read = (kind, name, object) => Object.getOwnPropertyDescriptor(kind.prototype, name).get.call(object);
const entries = kind => Performance.prototype.getEntriesByType.call(performance, kind);
const text = value => {
  const start = String(value).slice(0, longest);
  return start.toWellFormed?.() ?? start;
};
const plain = entry => {
  const values = Object.entries(entry.toJSON());
  const kept = values.filter(([, value]) => typeof value === "number" || typeof value === "string");
  return Object.fromEntries(kept.map(([name, value]) => [name, typeof value === "string" ? text(value) : value]));
};
const observer = new PerformanceObserver(() => {});
observer.observe({type: "largest-contentful-paint", buffered: true});
const paints = observer.takeRecords().map(entry => entry.startTime);
observer.disconnect();
const [page] = entries("navigation");
const resources = entries("resource");
const loaded = page ? page.loadEventStart : 0;
const last = resources.reduce((latest, entry) => Math.max(latest, entry.responseEnd), loaded);
return {
  loaded: page ? loaded > 0 : document.readyState === "complete",
  rest: performance.now() - last,
  origin: read(Performance, "timeOrigin", performance),
  url: text(location.href),
  title: text(read(Document, "title", document)),
  entries: [page, ...resources.slice(0, most), ...entries("paint").slice(0, most)].filter(Boolean).map(plain),
  paints: paints.slice(-1),
};
"""


class _Geckodriver(Service):
    """A geckodriver of any age: BiDi, which Selenium would ask for, is not used, and old ones do not know it."""

    def command_line_args(self) -> list[str]:
        return ["--port", str(self.port)]


def main() -> None:
    """Do the job that comes on stdin."""
    os.setsid()
    report = _reports()
    job = json.loads(sys.stdin.readline())
    watching = threading.Thread(target=_end_with_parent, args=(Path(job["directory"]),), daemon=True)
    watching.start()
    geckodriver = _Geckodriver(executable_path=job["geckodriver"])  # which ends when it is forgotten
    with contextlib.suppress(BrokenPipeError):  # the parent is dead
        _work(job, geckodriver, report)
    if not job["selenium_url"]:
        watching.join()  # the parent kills us, with all that we started; or it dies, and we have to do that


def _work(job: dict[str, Any], geckodriver: Service, report: Report) -> None:
    try:
        if not job["selenium_url"]:
            geckodriver.start()
        driver = _session(job, job["selenium_url"] or geckodriver.service_url)
    except TROUBLE as error:
        report("finished", error=_described(error))
        return
    capabilities = driver.capabilities
    report("session", browser=capabilities.get("browserName"), version=capabilities.get("browserVersion"))
    try:
        report("finished", **_load(driver, job, report))
    except TROUBLE as error:
        report("finished", error=_described(error))
    # A browser of this machine is killed with the session; one elsewhere would run on.
    if job["selenium_url"]:
        with contextlib.suppress(*TROUBLE):
            driver.quit()


def _reports() -> Report:
    """Reports go to what stdout was; what anybody else writes there goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(event: str, **details: Any) -> None:
        # A page that tampers with what it is asked may answer with elements, which JSON does not have.
        out.write(json.dumps({"event": event, "at": time.time(), **details}, default=lambda _: None) + "\n")
        out.flush()

    return report


def _end_with_parent(directory: Path) -> None:
    sys.stdin.read()
    for process in _session_members():
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _session_members() -> list[int]:
    """The other processes of this session."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with contextlib.suppress(OSError, ValueError):
            if int(entry) != os.getpid() and os.getsid(int(entry)) == os.getpid():
                found.append(int(entry))
    return found


def _session(job: dict[str, Any], address: str) -> WebDriver:
    """A browser of the server at ``address``, started for this job."""
    # Longer than anything takes: the parent ends us in time.
    config = ClientConfig(remote_server_addr=address, timeout=int(job["timeout"]) + 60)
    driver = WebDriver(command_executor=address, options=_options(job), client_config=config)
    driver.set_page_load_timeout(job["page_timeout"])
    driver.set_script_timeout(job["timeout"])
    return driver


def _options(job: dict[str, Any]) -> Options:
    options = Options()
    options.capabilities.pop("moz:debuggerAddress", None)  # old geckodrivers refuse what they do not know
    options.add_argument("-headless")
    options.accept_insecure_certs = job["insecure"]
    options.unhandled_prompt_behavior = "dismiss"
    if job["binary"]:
        options.binary_location = job["binary"]
    if job["profile"]:
        options.profile = FirefoxProfile(job["profile"])  # a copy
    for name, value in job["prefs"].items():
        options.set_preference(name, value)
    return options


def _load(driver: WebDriver, job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Load the page, and ask about it."""
    give_up = time.monotonic() + job["page_timeout"]
    page = _Page(driver, report)
    answer: dict[str, Any] = {"error": None, "rested": False}
    report("navigating")
    try:
        driver.get(job["url"])
        answer["rested"] = page.rested(job["quiet"], give_up)
    except TimeoutException as late:
        answer["error"] = _described(late)
        report("overdue", downloaded=_downloaded(job))
    except WebDriverException as failed:
        answer["error"] = _described(failed)
    with contextlib.suppress(*TROUBLE if answer["error"] else ()):
        if answer["error"]:
            page.ask()
        answer["page"] = page.answer
        if job["screenshot"]:
            page.about_to_ask()
            answer["screenshot"] = driver.get_screenshot_as_base64()
    return answer


class _Page:
    """The page that the browser shows.

    One that is busy does not answer, and holds up all further commands too; a browser that hangs does the same. So
    before every question to the page there is one to the browser, and a report that it was answered.
    """

    def __init__(self, driver: WebDriver, report: Report) -> None:
        self.answer: dict[str, Any] | None = None
        self._driver = driver
        self._report = report
        self._loaded = False

    def rested(self, quiet: float, give_up: float) -> bool:
        """Wait until nothing has arrived for ``quiet`` seconds; False if that takes until ``give_up``.

        The page may not have loaded yet: the driver does not wait behind a prompt (``alert()``), which the next
        question dismisses, and the page may go on to another. Raises ``TimeoutException`` if it does not load.
        """
        while True:
            rest = self.ask()
            left = _PAUSE if rest is None else quiet - rest / 1000
            if left <= 0:
                return True
            if time.monotonic() + left > give_up:
                break
            time.sleep(left)
        if not self._loaded:
            raise TimeoutException("the page was not loaded in time")
        return False

    def ask(self) -> float | None:
        """Ask the page about itself: for how many ms it has rested since it loaded, None if it has not."""
        self.about_to_ask()
        answer = self._driver.execute_script(_QUESTION, MOST_RESOURCES, LONGEST_TEXT)
        if not isinstance(answer, dict):  # a prompt was in the way
            return None
        self.answer = answer
        was_loaded, self._loaded = self._loaded, bool(answer.get("loaded"))
        if self._loaded and not was_loaded:
            self._report("loaded", page=answer)
        rest = answer.get("rest")
        return float(rest) if self._loaded and isinstance(rest, (int, float)) else None

    def about_to_ask(self) -> None:
        """See that the browser answers, and report it."""
        self._report("asking", loaded=self._loaded, windows=len(self._driver.window_handles))


def _downloaded(job: dict[str, Any]) -> bool:
    """Whether something was downloaded; the driver waits in vain for a page then."""
    return not job["selenium_url"] and any(Path(job["downloads"]).iterdir())


def _described(error: Exception) -> dict[str, str]:
    message = error.msg if isinstance(error, WebDriverException) and error.msg else str(error)
    return {"type": type(error).__name__, "message": message}


if __name__ == "__main__":
    main()
