"""The commands that start and stop the daemon, and the lock that they look at, without a daemon."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from perfd import instance
from perfd.cli import daemon, privileges
from perfd.cli.command import main
from perfd.cli.privileges import daemon_user
from perfd.cli.standalone import NotReadyError, prepare
from perfd.config import ConfigError, load_config
from perfd.config.values import Address
from perfd.daemon.files import LockService
from perfd.daemon.order import StartError
from perfd.instance import FAILED, READY, Instance, InstanceError, InstanceLock
from perfd.preflight import check_machine
from perfd.processes.users import User
from perfd.service import run_twistd
from tests.support.instance import SOCKS_CONFIG, free_port

BROKEN = "[perfd]\nnetwrok = tor\n"


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An instance directory with a good configuration."""
    (tmp_path / "perfd.conf").write_text(SOCKS_CONFIG.replace("{port}", str(free_port())))
    return tmp_path


@pytest.fixture
def held(directory: Path) -> Iterator[InstanceLock]:
    """The lock of that directory, held as a daemon with our process id would."""
    lock = InstanceLock(Instance(directory).lock_file)
    lock.write_state("")
    yield lock
    lock.release()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock."""
    monkeypatch.setattr(instance, "PATIENCE", 0.0)


def run(command: str, directory: Path, *more: str) -> int:
    return main([command, "--config", str(directory / "perfd.conf"), *more])


def test_looks_do_not_disturb_each_other(directory: Path) -> None:
    """A look at the lock is not taken for a daemon by another look, nor by a daemon that starts."""
    path = Instance(directory).lock_file
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert not Instance(directory).is_locked()
    looked = threading.Timer(0.2, os.close, (fd,))
    looked.start()
    InstanceLock(path).release()
    looked.join()


@pytest.mark.usefixtures("impatient")
def test_lock_is_exclusive(directory: Path, held: InstanceLock) -> None:
    """A second holder is refused and told the first one's process id."""
    with pytest.raises(InstanceError, match=f"already running here .pid {os.getpid()}"):
        InstanceLock(Instance(directory).lock_file)
    assert Instance(directory).daemon_pid() == os.getpid()


@pytest.mark.usefixtures("held")
def test_starting_daemon_is_no_problem_of_restart(directory: Path) -> None:
    """The daemon that is to be replaced is no reason against it; to a second one it is."""
    config = load_config(directory)
    check_machine(config, may_run=True)
    with pytest.raises(ConfigError, match="already running here"):
        check_machine(config)


def test_release_removes_the_pid(directory: Path) -> None:
    """After a clean end no process id is left in the lock file."""
    lock = InstanceLock(Instance(directory).lock_file)
    lock.write_state("")
    lock.release()
    assert Instance(directory).lock_file.read_bytes() == b""
    assert Instance(directory).daemon_pid() is None


@pytest.mark.usefixtures("held", "impatient")
@pytest.mark.parametrize("pid", ["", "-1", "0", "4194305", "99999999999999999999", "x"])
def test_stop_kills_no_stranger(directory: Path, pid: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the id of a live process there is no signal, but a message."""
    Instance(directory).lock_file.write_text(pid)
    with mock.patch.object(daemon.os, "kill", side_effect=ProcessLookupError) as kill:
        assert run("stop", directory) == 1
    assert all(call.args[1] == 0 for call in kill.mock_calls)
    assert "its process id is not in this file" in capsys.readouterr().err


def test_unusable_lock_is_named(directory: Path) -> None:
    """Only a held lock means that Perfd runs; every other trouble is told with the file."""
    path = Instance(directory).lock_file
    path.touch()
    with mock.patch("fcntl.flock", side_effect=OSError(37, "No locks available")):
        for attempt in (Instance(directory).is_locked, lambda: InstanceLock(path)):
            with pytest.raises(InstanceError, match=r"perfd\.lock: cannot be locked: No locks available"):
                attempt()
    path.unlink()
    path.mkdir()
    with pytest.raises(InstanceError, match=r"perfd\.lock: cannot be opened: Is a directory"):
        InstanceLock(path)


def test_full_disk_is_a_start_error(directory: Path) -> None:
    """A process id that cannot be written names the file and the reason."""
    with (
        mock.patch("os.pwrite", side_effect=OSError(28, "No space left on device")),
        pytest.raises(StartError, match=r"perfd\.lock: cannot be written: No space left on device"),
    ):
        LockService(Instance(directory), "127.0.0.1:1").startService()


@pytest.mark.parametrize("error", [StartError("no port"), OSError(28, "No space left on device", "perfd.pid")])
def test_start_errors_are_one_line(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    """What keeps twistd from starting is one line on standard error, and exit code 1."""
    with mock.patch("twisted.application.app.run", side_effect=error), pytest.raises(SystemExit) as ended:
        run_twistd()
    assert (ended.value.code, capfd.readouterr().err) == (1, f"perfd: {error}\n")


def test_mistakes_do_not_keep_it_running(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`stop` and `status` work whatever is in perfd.conf."""
    (directory / "perfd.conf").write_text(BROKEN)
    assert run("status", directory) == 3
    assert run("stop", directory) == 0
    assert capsys.readouterr() == ("perfd is not running\nperfd is not running\n", "")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 500 No\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    ],
)
def test_health_of_something_else(answer: bytes) -> None:
    """Whatever answers on the daemon's port, the health is known or it is not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert daemon.read_health(Address("127.0.0.1", listener.getsockname()[1])) is None
        thread.join()


@pytest.mark.usefixtures("held")
def test_status_with_mistakes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon that runs is named with the mistakes made since."""
    (directory / "perfd.conf").write_text(BROKEN)
    assert run("status", directory) == 1
    out = capsys.readouterr().out
    assert f"perfd is running (pid {os.getpid()}); perfd.conf has mistakes:\n" in out
    assert "[perfd] netwrok" in out
    assert run("status", directory, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["running"], report["pid"], report["health"]) == (True, os.getpid(), None)
    assert "[perfd] netwrok" in report["mistakes"][0]


@pytest.mark.parametrize(
    ("command", "after"),
    [("check", "1 problem\n"), ("start", "nothing was started\n"), ("restart", "perfd was left as it is\n")],
)
def test_what_mistakes_prevented(
    directory: Path, command: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a command that would have started something says that it did not."""
    (directory / "perfd.conf").write_text(BROKEN)
    assert run(command, directory) == 1
    assert capsys.readouterr().err.endswith(after)


@pytest.mark.usefixtures("held")
def test_restart_leaves_a_good_daemon(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would keep the new daemon from starting is found before the old one is stopped."""
    with mock.patch.object(daemon, "stop") as stop:
        (directory / "perfd.conf").write_text("[tor]\nbinary = /nowhere/tor\n[experiment:a]\n")
        assert run("restart", directory) == 1
        (directory / "perfd.conf").write_text(SOCKS_CONFIG.replace("{port}", "1024"))
        assert run("restart", directory, "--uid", "no-such-user") == 1
    stop.assert_not_called()
    err = capsys.readouterr().err
    assert "/nowhere/tor does not exist" in err
    assert "user no-such-user: there is no such user" in err


def test_unknown_group(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group is looked up before anything is started."""
    assert run("start", directory, "--gid", "no-such-group") == 1
    assert "group no-such-group: there is no such group" in capsys.readouterr().err


@root
@pytest.mark.parametrize("name", ["perfd.lock", "perfd.log", "perfd.sqlite"])
def test_files_of_another_user(directory: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that the daemon could not write as its user is named, with the remedy."""
    os.chown(directory, 0, 65534)
    directory.chmod(0o1770)
    (directory / name).touch()
    assert run("start", directory, "--uid", "nobody") == daemon.NO_PERMISSION
    err = capsys.readouterr().err
    assert f"{directory / name} belongs to user id 0" in err
    assert f"chown -h nobody {directory / name}\n" in err


@root
@pytest.mark.parametrize("name", ["", "perfd.conf", "perfd"])
@pytest.mark.parametrize("how", ["owner", "others"])
def test_root_runs_nothing_of_others(
    directory: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root starts nothing from where somebody else could have put it, as any user, and says what to do."""
    (directory / "perfd").touch()
    path = directory / name
    if how == "owner":
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o666 if name else 0o777)
    for user in ((), ("--uid", "nobody")):
        assert run("start", directory, *user) == daemon.NO_PERMISSION
        err = capsys.readouterr().err
        assert f"{path} can be changed by {'nobody' if how == 'owner' else 'everybody'}" in err.replace(
            "/ can", " can"
        )
        assert f"chmod 1770 {directory}" in err


@root
def test_directory_of_the_daemon(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's user must be able to make files in the directory."""
    assert run("start", directory, "--uid", "nobody") == daemon.NO_PERMISSION
    assert f"nobody cannot write in {directory}: chown root:nogroup" in capsys.readouterr().err


@root
def test_user_cannot_run_perfd(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Perfd that only root can read is found out before anything is started."""
    os.chown(directory, 0, 65534)
    directory.chmod(0o1770)
    package = directory / "lib" / "perfd"
    package.mkdir(parents=True, mode=0o700)
    with mock.patch.object(privileges, "module_environment", return_value={"PYTHONPATH": str(package.parent)}):
        package.chmod(0o000)
        (directory / "lib").chmod(0o700)
        with mock.patch.object(privileges.sys, "executable", str(directory / "lib" / "python")):
            shutil.copy("/bin/true", directory / "lib" / "python")
            assert run("start", directory, "--uid", "nobody") == daemon.NO_PERMISSION
    assert "nobody cannot run Perfd with" in capsys.readouterr().err


@root
def test_user_of_perfd_conf(directory: Path) -> None:
    """Who starts again need not say again whom the daemon becomes; a user who is not root has no choice."""
    text = (directory / "perfd.conf").read_text()
    (directory / "perfd.conf").write_text(text.replace("[perfd]", "[perfd]\nuser = nobody\ngroup = nogroup"))
    config = load_config(directory)
    assert daemon_user(config, None, None) == User("nobody", "nogroup")
    assert daemon_user(config, "root", None) == User("root", None)
    with mock.patch.object(privileges.os, "geteuid", return_value=1000):
        assert daemon_user(config, None, None) == User()


def test_pid_file_of_others(directory: Path) -> None:
    """A link in the place of the pid file is not followed."""
    other = directory / "other"
    other.write_text("precious")
    Instance(directory).pid_file.symlink_to(other)
    Instance(directory).write_pid_file()
    assert other.read_text() == "precious"
    assert Instance(directory).pid_file.read_text() == f"{os.getpid()}\n"


@pytest.mark.usefixtures("held", "impatient")
def test_stop_signals_the_holder_only(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A living process whose id somebody has written into the lock file is left alone."""
    with subprocess.Popen(["sleep", "60"]) as victim:
        Instance(directory).lock_file.write_text(f"{victim.pid}\nready\n")
        assert run("stop", directory) == 1
        assert victim.poll() is None
        victim.kill()
    assert "its process id is not in this file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_lock_of_others(directory: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the daemon's user may have put in the lock's place is neither followed nor waited for."""
    path, other = Instance(directory).lock_file, tmp_path / "other.pid"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
    with subprocess.Popen(["sleep", "60"]) as victim:
        if kind == "link":
            other.write_text(f"{victim.pid}\nready\n")
        with other.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            for command in ("stop", "reload", "status"):
                assert main([command, "--config", str(directory)]) != 0
                assert "no regular file" in capsys.readouterr().err
        assert victim.poll() is None
        victim.kill()
    with pytest.raises(InstanceError, match="no regular file"):
        InstanceLock(path)


def test_state(directory: Path) -> None:
    """How far the daemon is stands in the lock file; why it failed also when it has ended."""
    found = Instance(directory)
    assert found.state() == ""
    lock = InstanceLock(found.lock_file)
    lock.write_state("upgrading\nthe database")
    assert (found.state(), found.daemon_pid()) == ("upgrading the database", os.getpid())
    lock.write_state(f"{FAILED}no room")
    lock.release()
    assert (found.state(), found.daemon_pid()) == (f"{FAILED}no room", None)


def test_start_whose_child_still_ends(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon that has failed, and holds the lock until it is gone, is not taken for one that runs."""
    Instance(directory).log_file.mkdir()
    assert run("start", directory) == 1
    captured = capsys.readouterr()
    assert "perfd did not start" in captured.err
    assert "already running" not in captured.out


def test_start_that_was_overtaken(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When another start was faster, the daemon runs, which is what was asked for."""
    with (
        mock.patch.object(Instance, "daemon_pid", side_effect=[None, 4711]),
        mock.patch.object(Instance, "is_locked", return_value=True),
        mock.patch.object(Instance, "state", side_effect=["starting", READY]),
        mock.patch.object(daemon.subprocess, "run", return_value=mock.Mock(returncode=1)),
    ):
        assert run("start", directory) == 0
    assert capsys.readouterr().out == "perfd is already running (pid 4711)\n"


def test_proxy_has_no_version() -> None:
    """Without a tor there is none that could have a version."""
    health = {"tors": [{"name": "default", "healthy": True, "version": None, "state": "ready"}]}
    assert daemon._health_lines(health, "socks")[0] == "proxy default: ready"
    assert daemon._health_lines(health, "tor")[0] == "tor default (version unknown): ready"


def test_byte_order_mark(directory: Path) -> None:
    """A perfd.conf written on Windows is read."""
    path = directory / "perfd.conf"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_config(path).network == "socks"


@pytest.mark.parametrize(("option", "value"), [("--size", "0"), ("--timeout", "0")])
def test_nothing_to_measure(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Measurements of nothing, or within no time, are wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(["measure", option, value])
    assert ended.value.code == 2
    assert "must be greater than 0" in capsys.readouterr().err


def test_preparing() -> None:
    """Measurements begin when the tor is ready; one that never is gets its time, then its reason is told."""
    reactor = Clock()
    download = mock.Mock()
    download.not_ready = "tor default is starting"
    prepared = Deferred.fromCoroutine(prepare(reactor, lambda: download.not_ready, 60.0))
    reactor.advance(1.0)
    assert not prepared.called
    download.not_ready = None
    reactor.advance(1.0)
    assert prepared.called

    download.not_ready = "tor default has no guards"
    failures: list[BaseException] = []
    late = Deferred.fromCoroutine(prepare(reactor, lambda: download.not_ready, 60.0))
    late.addErrback(lambda failure: failures.append(failure.value))
    reactor.pump([1.0] * 61)
    assert [(type(error), str(error)) for error in failures] == [
        (NotReadyError, "given up after 60 s: tor default has no guards")
    ]
    assert not reactor.getDelayedCalls()
