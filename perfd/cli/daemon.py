"""Starting and stopping the daemon of an instance: ``perfd start|stop|restart|reload|status|run``.

The daemon is twistd with Perfd's plugin; nothing here that ``twistd perfd`` could not do, but with Perfd's
pid file, its log, clear messages and the exit codes of the Linux Standard Base (init scripts).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from perfd.cli.output import complain, say
from perfd.config import Config, ConfigError
from perfd.config.values import Address, address
from perfd.instance import FAILED as STATE_FAILED
from perfd.instance import READY, Instance, InstanceError, ReloadReport, umask
from perfd.processes.users import User, user_name
from perfd.variant import COLUMNS, Variant, names

# Exit codes of an init script (LSB 5.0, 22.2).
OK = 0
FAILED = 1
NO_PERMISSION = 4
STATUS_DEAD_WITH_PID_FILE = 1
STATUS_NOT_RUNNING = 3
STATUS_UNKNOWN = 4
NOT_CONFIGURED = 6
NOT_RUNNING = 7

MOST_HEALTH = 16 << 20
"""Bytes of the daemon's health; whatever else listens there may say more."""

QUIET = 2.0
"""Seconds after which a start says what it does."""

STOP_TIMEOUT = 60.0
"""Seconds: more than a clean stop takes with every part at its own limit."""

NO_LOG = "perfd.service.NoTwistdLog"
FOREGROUND_LOG = "perfd.logfile.foreground.ForegroundLog"
RELOAD_TIMEOUT = 60.0
"""Seconds for an answer to a reload, which takes some milliseconds where the disk does not hang."""

TWISTD = "from perfd.service import run_twistd; run_twistd()"


def twistd_arguments(config: Config, user: User, *, foreground: bool, logger: str | None = None) -> list[str]:
    """The command line that runs the instance's daemon."""
    return [
        sys.executable,
        "-P",  # the working directory is no place to look for modules: others may write there
        "-c",
        TWISTD,
        *(["--nodaemon"] if foreground else []),
        *("--logger", logger or (FOREGROUND_LOG if foreground else NO_LOG)),
        "--pidfile=",  # twistd would write it as root; the daemon does it when it has become its user
        "--rundir",
        str(config.directory),
        "--umask",
        f"{umask(config.server.results):04o}",
        *user.arguments(),
        "perfd",
        "--config",
        str(config.path.absolute()),
    ]


def start(config: Config, user: User) -> int:
    """Start the daemon; returns when it is ready (ports bound, database open, schedule running) or has failed."""
    instance = Instance(config.directory)
    pid = instance.daemon_pid()
    if pid is not None:
        say(f"perfd is already running (pid {pid})")
        return OK
    _remove_stale_pid_file(instance)
    done = subprocess.run(twistd_arguments(config, user, foreground=False), cwd=config.directory, check=False)
    trouble = _until_ready(instance)  # also of one that another command has started meanwhile
    if done.returncode != 0 and trouble is not None:
        complain(f"perfd did not start; the reason is above, or at the end of {instance.log_file}")
        return FAILED
    if trouble is not None:
        complain(f"perfd did not start: {trouble}; {instance.log_file} has more")
        return FAILED
    say(f"perfd {'started' if done.returncode == 0 else 'is already running'} (pid {instance.daemon_pid()})")
    if done.returncode != 0:
        return OK
    say(f"log: {instance.log_file}")
    _say_where(config)
    return OK


def _until_ready(instance: Instance) -> str | None:
    """Wait for the end of the start, and show what is done if that takes long; why it failed, if it did."""
    shown = time.monotonic() + QUIET
    last = ""
    while True:
        runs = instance.is_locked()  # before its state is read: the last words are written before the end
        state = instance.state()
        if state == READY and runs:
            return None
        if state.startswith(STATE_FAILED):
            return state.removeprefix(STATE_FAILED)
        if not runs:
            return "it ended at its start"
        if state != last and time.monotonic() > shown:
            last = state
            say(f"perfd is starting: {state}")
        time.sleep(0.05)


def stop(instance: Instance) -> int:
    """Stop the daemon; returns when it is gone, the run in flight recorded and its tor stopped."""
    pid = instance.daemon_pid()
    if pid is None:
        _remove_stale_pid_file(instance)
        say("perfd is not running")
        return OK
    try:
        instance.signal(pid, signal.SIGTERM)
    except PermissionError:
        complain(f"perfd (pid {pid}) belongs to another user; stop it as that user or as root")
        return NO_PERMISSION
    except ProcessLookupError:
        pass  # it has just ended
    deadline = time.monotonic() + STOP_TIMEOUT
    while instance.is_locked():
        if time.monotonic() > deadline:
            complain(f"perfd (pid {pid}) has not stopped within {STOP_TIMEOUT:.0f} s; see {instance.log_file}")
            return FAILED
        time.sleep(0.05)
    say(f"perfd stopped (pid {pid})")
    return OK


def restart(config: Config, user: User) -> int:
    """Stop the daemon, if it runs, and start it."""
    return stop(Instance(config.directory)) or start(config, user)


def reload(instance: Instance) -> int:
    """Have the daemon take over what perfd.conf says now, and say what that changed; returns when it is done."""
    pid = instance.daemon_pid()
    if pid is None:
        complain("perfd is not running")
        return NOT_RUNNING
    deadline = time.monotonic() + RELOAD_TIMEOUT
    before = instance.reload_report()
    while before is None and time.monotonic() < deadline and instance.is_locked():  # it is being written
        time.sleep(0.05)
        before = instance.reload_report()
    try:
        instance.signal(pid, signal.SIGUSR2)
    except PermissionError:
        complain(f"perfd (pid {pid}) belongs to another user; reload it as that user or as root")
        return NO_PERMISSION
    except ProcessLookupError:
        complain("perfd has just ended")
        return NOT_RUNNING
    while time.monotonic() < deadline and instance.is_locked():
        report = instance.reload_report()
        # One that had begun before may have read the file before it was changed.
        if report is not None and before is not None and report.done > before.begun:
            return _tell_reload(report)
        time.sleep(0.05)
    complain(f"perfd (pid {pid}) has not answered; see {instance.log_file}")
    return FAILED


def _tell_reload(report: ReloadReport) -> int:
    if report.problems:
        count = len(report.problems)
        for line in (*report.problems, f"{count} problem{'s' if count > 1 else ''}; perfd goes on as it was"):
            complain(line)
        return FAILED
    for line in report.changed or ("nothing has changed",):
        say(line)
    if report.restart:
        say("needs `perfd restart`:")
        for line in report.restart:
            say(f"  {line}")
    return OK


def status(instance: Instance, load: Callable[[], Config], *, as_json: bool) -> int:
    """Say whether the daemon runs and how its parts are, which needs the configuration that ``load`` gives.

    The exit codes are those of LSB's status action; a daemon that runs but is not healthy gives 1.
    """
    pid = instance.daemon_pid()
    if pid is None:
        dead = instance.pid_file.exists()
        text = f"perfd is dead, but {instance.pid_file} exists" if dead else "perfd is not running"
        _show(json.dumps({"running": False, "message": text}) if as_json else text)
        return STATUS_DEAD_WITH_PID_FILE if dead else STATUS_NOT_RUNNING
    try:
        config = load()
    except ConfigError as error:
        if as_json:
            _show(json.dumps({"running": True, "pid": pid, "health": None, "mistakes": error.problems}))
        else:
            _show("\n  ".join((f"perfd is running (pid {pid}); perfd.conf has mistakes:", *error.problems)))
        return FAILED
    health = read_health(listens_on(instance, config))
    healthy = health is not None and health.get("healthy") is True
    report = instance.reload_report() or ReloadReport()
    if as_json:
        _show(json.dumps({"running": True, "pid": pid, "health": health, "restart": report.restart}))
        return OK if healthy else FAILED
    _show(f"perfd is running (pid {pid}) as {_user_of(pid)}")
    for line in (*_health_lines(health, config.network), *_reload_lines(report)):
        _show(f"  {line}")
    return OK if healthy else FAILED


def listens_on(instance: Instance, config: Config) -> Address:
    """Where the daemon's web server is; perfd.conf may say already where it will be after a restart."""
    with suppress(ValueError):
        return address(instance.listens_on())
    return config.server.listen


def _reload_lines(report: ReloadReport) -> Sequence[str]:
    """What of perfd.conf did not come into force with the last reload."""
    refused = [f"the last reload was refused, perfd.conf has mistakes: {problem}" for problem in report.problems]
    return [*refused, *(f"needs `perfd restart`: {each}" for each in report.restart)]


def _user_of(pid: int) -> str:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return "another user"
    return user_name(uid)


def run(config: Config, user: User, *, log: bool = False) -> int:
    """Run in the foreground: on a terminal as what ``watch`` shows, elsewhere, and with ``log``, as the daemon
    itself, whose log is on standard output.
    """
    instance = Instance(config.directory)
    pid = instance.daemon_pid()
    if pid is not None:
        complain(f"perfd is already running (pid {pid})")
        return FAILED
    _remove_stale_pid_file(instance)
    if sys.stdout.isatty() and not log:
        from perfd.cli.watch import run_child  # noqa: PLC0415 - the rest must not wait for it

        arguments = twistd_arguments(config, user, foreground=True, logger=NO_LOG)
        return run_child(
            arguments,
            config.directory,
            lambda runs: _watch(config, runs, f"network: {config.network}   Ctrl-C stops it"),
        )
    say(f"log: {instance.log_file}")
    _say_where(config)
    say("stop: Ctrl-C")
    arguments = twistd_arguments(config, user, foreground=True)
    return os.execv(arguments[0], arguments)


def watch(config: Config) -> int:
    """Show what the running daemon does until it ends, or Ctrl-C ends the showing."""
    instance = Instance(config.directory)
    if not instance.is_locked():
        say("perfd is not running")
        return STATUS_NOT_RUNNING
    if not sys.stdout.isatty():
        complain("watch shows what changes in place, on a terminal; `perfd logs -f` writes lines")
        return FAILED
    with suppress(KeyboardInterrupt):
        _watch(config, instance.is_locked, f"network: {config.network}   Ctrl-C ends this view; perfd goes on")
    return OK


def _watch(config: Config, is_running: Callable[[], bool], how_to_stop: str) -> None:
    from rich.console import Console  # noqa: PLC0415

    from perfd.cli.watch import watch as show  # noqa: PLC0415

    instance = Instance(config.directory)
    log = instance.log_file
    footer = [f"page for a browser: {page_url(listens_on(instance, config))}   log: {log}", how_to_stop]
    show(log, lambda: read_health(listens_on(instance, config)), is_running, Console(highlight=False), footer)


def _say_where(config: Config) -> None:
    """Where people, and where programs, read what was measured."""
    page = page_url(config.server.listen)
    say(f"page for a browser: {page}")
    say(f"results: {page}results")


def page_url(listen: Address) -> str:
    """Where this machine reads how the daemon goes on, whose web server listens there."""
    host = Address("127.0.0.1", listen.port) if listen.is_any else listen
    return f"http://{host}/"


def read_health(listen: Address) -> dict[str, Any] | None:
    """The daemon's own /health; None when its web server does not answer."""
    import urllib.error  # noqa: PLC0415 - a fifth of the time that --help takes
    import urllib.request  # noqa: PLC0415
    from http.client import HTTPException  # noqa: PLC0415

    host = Address("127.0.0.1" if listen.host == "0.0.0.0" else "::1", listen.port) if listen.is_any else listen
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}/health", timeout=5) as response:
            return _json_or_none(response.read(MOST_HEALTH))
    except urllib.error.HTTPError as error:
        with error:
            return _json_or_none(error.read(MOST_HEALTH))
    except (OSError, ValueError, HTTPException):
        return None


def _json_or_none(body: bytes) -> dict[str, Any] | None:
    try:
        health = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return health if isinstance(health, dict) else None


def _health_lines(health: dict[str, Any] | None, network: str) -> Sequence[str]:
    if health is None:
        return ["its web server does not answer"]
    if "error" in health:  # results = none
        return [f"its health cannot be read: {health['error'].get('message')}"]
    tors = [
        f"proxy {tor['name']}: {tor['state']}"
        if network == "socks"
        else f"tor {tor['name']} {tor['version'] or '(version unknown)'}: "
        f"{'' if tor['healthy'] else 'UNHEALTHY, '}{tor['state']}"
        for tor in health.get("tors", [])
    ]
    experiments = [line for experiment in health.get("experiments", []) for line in _experiment_lines(experiment)]
    files = [_file_line(name, health) for name in ("database", "log") if name in health]
    comparisons = [
        f"comparison {each['name']}: waits, since {each['state']}"
        for each in health.get("comparisons", [])
        if each["state"] != "ok"
    ]
    return [*tors, *experiments, *comparisons, *files, *_address_lines(health)]


def _address_lines(health: dict[str, Any]) -> Sequence[str]:
    """Where our web server is not reached; nothing where it is."""
    state = health.get("public_address")
    return [] if state in (None, "ok") else [f"public-address: {state}"]


def _file_line(name: str, health: dict[str, Any]) -> str:
    replaced = health.get(f"{name}_replaced")
    note = "" if replaced is None else f"; it was deleted, moved or replaced at {replaced}"
    return f"{name}: {health.get(name)}{note}"


def _experiment_lines(experiment: dict[str, Any]) -> Sequence[str]:
    """A line for each variant."""
    variants = {
        Variant(**{name: each.get(name) for name in COLUMNS}): each for each in experiment.get("variants", [])
    }
    return [
        f"{name}: {'' if variants[variant]['healthy'] else 'UNHEALTHY, '}"
        f"last success {variants[variant]['last_success'] or 'never'}, {variants[variant]['failures']} failures"
        f"{' since' if variants[variant]['last_success'] else ''}, next {experiment['next_slot'] or 'never'}"
        for variant, name in names(experiment["name"], variants).items()
    ]


def _remove_stale_pid_file(instance: Instance) -> None:
    if os.path.lexists(instance.pid_file):
        try:
            instance.pid_file.unlink(missing_ok=True)
        except OSError as error:
            raise InstanceError(f"{instance.pid_file} cannot be removed ({error.strerror}); remove it") from None
        say(f"removed the pid file of a daemon that is no more: {instance.pid_file}")


def _show(text: str) -> None:
    """Write a line that was asked for. Raises OSError."""
    sys.stdout.write(f"{text}\n")
