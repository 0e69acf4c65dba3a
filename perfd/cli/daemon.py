"""Starting and stopping the daemon of an instance: ``perfd start|stop|restart|status|run``.

The daemon is twistd with Perfd's plugin; nothing here that ``twistd perfd`` could not do, but with Perfd's
pid file, its log, clear messages and the exit codes of the Linux Standard Base (init scripts).
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from perfd.config import Config, ConfigError
from perfd.config.values import Address
from perfd.instance import Instance, InstanceError
from perfd.variant import COLUMNS, Variant, names

# Exit codes of an init script (LSB 5.0, 22.2).
OK = 0
FAILED = 1
NO_PERMISSION = 4
STATUS_DEAD_WITH_PID_FILE = 1
STATUS_NOT_RUNNING = 3

STOP_TIMEOUT = 60.0
"""Seconds: more than a clean stop takes with every part at its own limit."""

TWISTD = "from perfd.service import run_twistd; run_twistd()"


@attrs.frozen
class User:
    """The user and group that the daemon changes to after its port is bound; twistd's --uid and --gid."""

    uid: str | None = None
    gid: str | None = None

    def arguments(self) -> list[str]:
        given = (("--uid", self.uid), ("--gid", self.gid))
        return [word for option, value in given if value is not None for word in (option, value)]

    def entry(self) -> pwd.struct_passwd | None:
        """The user's entry; None when privileges are kept. Raises InstanceError for an unknown user."""
        if self.uid is None:
            return None
        try:
            return pwd.getpwuid(int(self.uid)) if self.uid.isdigit() else pwd.getpwnam(self.uid)
        except KeyError:
            raise InstanceError(f"--uid {self.uid}: there is no such user") from None

    def check_group(self) -> None:
        """Raises InstanceError for an unknown group."""
        if self.gid is None:
            return
        try:
            grp.getgrgid(int(self.gid)) if self.gid.isdigit() else grp.getgrnam(self.gid)
        except KeyError:
            raise InstanceError(f"--gid {self.gid}: there is no such group") from None


def twistd_arguments(config: Config, user: User, *, foreground: bool) -> list[str]:
    """The command line that runs the instance's daemon."""
    instance = Instance(config.directory)
    return [
        sys.executable,
        "-c",
        TWISTD,
        *(["--nodaemon"] if foreground else ["--logger", "perfd.service.NoTwistdLog"]),
        "--pidfile",
        str(instance.pid_file),
        "--rundir",
        str(config.directory),
        "--umask",
        "0022",
        *user.arguments(),
        "perfd",
        "--config",
        str(config.path.absolute()),
    ]


def start(config: Config, user: User) -> int:
    """Start the daemon; returns when its ports are bound and its services are started."""
    instance = Instance(config.directory)
    pid = instance.daemon_pid()
    if pid is not None:
        _say(f"perfd is already running (pid {pid})")
        return OK
    _remove_stale_pid_file(instance)
    if not _can_become(user, config):
        return NO_PERMISSION
    done = subprocess.run(twistd_arguments(config, user, foreground=False), cwd=config.directory, check=False)
    if done.returncode != 0:
        pid = instance.daemon_pid()
        if pid is not None:  # another command was faster
            _say(f"perfd is already running (pid {pid})")
            return OK
        _complain(f"perfd did not start; the reason is above, or at the end of {instance.log_file}")
        return FAILED
    _say(f"perfd started (pid {instance.daemon_pid()})")
    _say(f"log: {instance.log_file}")
    _say(f"results: {results_url(config)}")
    return OK


def stop(instance: Instance) -> int:
    """Stop the daemon; returns when it is gone, the run in flight recorded and its tor stopped."""
    pid = instance.daemon_pid()
    if pid is None:
        _remove_stale_pid_file(instance)
        _say("perfd is not running")
        return OK
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        _complain(f"perfd (pid {pid}) belongs to another user; stop it as that user or as root")
        return NO_PERMISSION
    except ProcessLookupError:
        pass  # it has just ended
    deadline = time.monotonic() + STOP_TIMEOUT
    while instance.is_locked():
        if time.monotonic() > deadline:
            _complain(f"perfd (pid {pid}) has not stopped within {STOP_TIMEOUT:.0f} s; see {instance.log_file}")
            return FAILED
        time.sleep(0.05)
    _say(f"perfd stopped (pid {pid})")
    return OK


def restart(config: Config, user: User) -> int:
    """Stop the daemon, if it runs, and start it."""
    if not _can_become(user, config):
        return NO_PERMISSION
    return stop(Instance(config.directory)) or start(config, user)


def status(instance: Instance, load: Callable[[], Config], *, as_json: bool) -> int:
    """Say whether the daemon runs and how its parts are, which needs the configuration that ``load`` gives.

    The exit codes are those of LSB's status action; a daemon that runs but is not healthy gives 1.
    """
    pid = instance.daemon_pid()
    if pid is None:
        dead = instance.pid_file.exists()
        text = f"perfd is dead, but {instance.pid_file} exists" if dead else "perfd is not running"
        _say(json.dumps({"running": False, "message": text}) if as_json else text)
        return STATUS_DEAD_WITH_PID_FILE if dead else STATUS_NOT_RUNNING
    try:
        config = load()
    except ConfigError as error:
        if as_json:
            _say(json.dumps({"running": True, "pid": pid, "health": None, "mistakes": error.problems}))
        else:
            _say("\n  ".join((f"perfd is running (pid {pid}); perfd.conf has mistakes:", *error.problems)))
        return FAILED
    health = read_health(config.server.listen)
    healthy = health is not None and health.get("healthy") is True
    if as_json:
        _say(json.dumps({"running": True, "pid": pid, "health": health}))
        return OK if healthy else FAILED
    _say(f"perfd is running (pid {pid})")
    for line in _health_lines(health, config.network):
        _say(f"  {line}")
    return OK if healthy else FAILED


def run(config: Config, user: User) -> int:
    """Become the daemon in the foreground; only returns on failure."""
    instance = Instance(config.directory)
    pid = instance.daemon_pid()
    if pid is not None:
        _complain(f"perfd is already running (pid {pid})")
        return FAILED
    _remove_stale_pid_file(instance)
    if not _can_become(user, config):
        return NO_PERMISSION
    _say(f"log: {instance.log_file}")
    _say(f"results: {results_url(config)}")
    _say("stop: Ctrl-C")
    sys.stdout.flush()
    arguments = twistd_arguments(config, user, foreground=True)
    return os.execv(arguments[0], arguments)


def results_url(config: Config) -> str:
    """Where this machine reads the results."""
    listen = config.server.listen
    host = Address("127.0.0.1", listen.port) if listen.is_any else listen
    return f"http://{host}/results"


def read_health(listen: Address) -> dict[str, Any] | None:
    """The daemon's own /health; None when its web server does not answer."""
    host = Address("127.0.0.1" if listen.host == "0.0.0.0" else "::1", listen.port) if listen.is_any else listen
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}/health", timeout=5) as response:
            health = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return _json_or_none(error.read())
    except (OSError, ValueError):
        return None
    return health if isinstance(health, dict) else None


def _json_or_none(body: bytes) -> dict[str, Any] | None:
    try:
        health = json.loads(body)
    except ValueError:
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
        else f"tor {tor['name']} {tor['version'] or '(version unknown)'}: {tor['state']}"
        for tor in health.get("tors", [])
    ]
    experiments = [line for experiment in health.get("experiments", []) for line in _experiment_lines(experiment)]
    return [*tors, *experiments, f"database: {health.get('database')}"]


def _experiment_lines(experiment: dict[str, Any]) -> Sequence[str]:
    """A line for each variant."""
    variants = {Variant(**{name: each[name] for name in COLUMNS}): each for each in experiment.get("variants", [])}
    return [
        f"{name}: {'' if variants[variant]['healthy'] else 'UNHEALTHY, '}"
        f"last success {variants[variant]['last_success'] or 'never'}, "
        f"{variants[variant]['failures']} failures since, next {experiment['next_slot'] or 'never'}"
        for variant, name in names(experiment["name"], variants).items()
    ]


def _remove_stale_pid_file(instance: Instance) -> None:
    if instance.pid_file.exists():
        instance.pid_file.unlink(missing_ok=True)
        _say(f"removed the pid file of a daemon that is no more: {instance.pid_file}")


def _can_become(user: User, config: Config) -> bool:
    """Whether the daemon can change to ``user`` and write in its directory; complains if not."""
    entry = user.entry()
    user.check_group()
    if user == User():
        return True
    if os.geteuid() != 0:
        _complain("--uid and --gid need root")
        return False
    if entry is None:
        return True
    for path in _written(config):
        if path.exists() and (owner := path.stat().st_uid) != entry.pw_uid:
            _complain(
                f"{path} belongs to user id {owner}; the daemon writes there as {entry.pw_name}: "
                f"chown -R {entry.pw_name} {config.directory if path.is_relative_to(config.directory) else path}"
            )
            return False
    return True


def _written(config: Config) -> Sequence[Path]:
    """What the daemon opens for writing at its start."""
    instance = Instance(config.directory)
    database = config.directory / config.database.removeprefix("sqlite:///")
    return (config.directory, instance.lock_file, instance.log_file, database)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"perfd: {text}\n")
