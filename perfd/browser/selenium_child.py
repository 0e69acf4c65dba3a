"""The program that loads one page through Selenium, run by ``SeleniumBrowser`` as a process of its own.

Selenium's calls block, so they are made here. The parent writes one line of JSON, the job, and reads lines of JSON,
the reports: ``session`` (a browser runs), ``navigating`` (it was told to load the page), ``overdue`` (the page's
time is over) and ``finished``. What the reports mean is decided in ``selenium_results``.

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

# How long the page has rested, in ms.
_REST = """
const ends = performance.getEntriesByType("resource").map(entry => entry.responseEnd);
const [page] = performance.getEntriesByType("navigation");
return performance.now() - Math.max(0, page ? page.loadEventEnd : 0, ...ends);
"""

# The largest contentful paint is told to observers only, and later.
_QUESTION = """
const [most, done] = arguments;
const kinds = ["navigation", "resource", "paint"];
const answer = paints => done({
  origin: performance.timeOrigin,
  url: location.href,
  title: document.title,
  entries: kinds.flatMap(kind => performance.getEntriesByType(kind).slice(0, most)).map(entry => entry.toJSON()),
  paints: paints,
});
try {
  const observer = new PerformanceObserver(list => {
    clearTimeout(timer);
    answer(list.getEntries().map(entry => entry.startTime));
  });
  const timer = setTimeout(() => { observer.disconnect(); answer([]); }, 300);
  observer.observe({type: "largest-contentful-paint", buffered: true});
} catch (error) {
  answer([]);
}
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
    if job["selenium_url"]:
        with contextlib.suppress(*TROUBLE):
            driver.quit()


def _reports() -> Report:
    """Reports go to what stdout was; what anybody else writes there goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(event: str, **details: Any) -> None:
        out.write(json.dumps({"event": event, "at": time.time(), **details}) + "\n")
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
    driver.set_script_timeout(job["page_timeout"])
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
    error = None
    report("navigating")
    try:
        driver.get(job["url"])
    except TimeoutException as late:
        error = _described(late)
        report("overdue", downloaded=_downloaded(job))
    except WebDriverException as failed:
        error = _described(failed)
    answer: dict[str, Any] = {"error": error, "rested": error is None and _rested(driver, job["quiet"], give_up)}
    with contextlib.suppress(*TROUBLE if error else ()):
        answer["page"] = driver.execute_async_script(_QUESTION, MOST_RESOURCES)
        if job["screenshot"]:
            answer["screenshot"] = driver.get_screenshot_as_base64()
    return answer


def _rested(driver: WebDriver, quiet: float, give_up: float) -> bool:
    """Wait until nothing has arrived for ``quiet`` seconds; False if that takes until ``give_up``."""
    while True:
        rest = driver.execute_script(_REST)
        if not isinstance(rest, (int, float)):
            return False
        left = quiet - rest / 1000
        if left <= 0:
            return True
        if time.monotonic() + left > give_up:
            return False
        time.sleep(left)


def _downloaded(job: dict[str, Any]) -> bool:
    """Whether something was downloaded; the driver waits in vain for a page then."""
    return not job["selenium_url"] and any(Path(job["downloads"]).iterdir())


def _described(error: Exception) -> dict[str, str]:
    message = error.msg if isinstance(error, WebDriverException) and error.msg else str(error)
    return {"type": type(error).__name__, "message": message}


if __name__ == "__main__":
    main()
