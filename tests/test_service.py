"""The daemon as its operator meets it: real processes, real ports, a real database; the network is ``socks``."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from perfd.config import ConfigError, load_config
from perfd.config.reader import host_label
from perfd.logfile.line import parse
from perfd.record import Error, Outcome
from tests.support.instance import SOCKS_CONFIG, TestInstance, is_alive, processes_in, running, wait_for
from tests.support.nobody import python_and_environment
from tests.support.places import CHECKOUT


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is not started; whatever runs in it at the end is stopped."""
    made = TestInstance(tmp_path)
    yield made
    made.perfd("stop")
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def test_plugin_is_found() -> None:
    """Twisted finds the plugin of the installed package."""
    assert "perfd" in {plugin.tapname for plugin in getPlugins(IServiceMaker)}


def test_main_job(instance: TestInstance) -> None:
    """Start, measure, log, database, results over HTTP, status, stop."""
    done = instance.perfd("start")
    assert done.returncode == 0, done.stderr
    assert f"perfd started (pid {instance.pid})" in done.stdout
    assert f"results: http://127.0.0.1:{instance.port}/results" in done.stdout

    measured = instance.wait_for_measurements(2, outcome=Outcome.OK)[0]
    assert (measured.source, measured.experiment, measured.filesize) == ("test", "fast", 51200)
    assert measured.payloadbytes == 51200
    assert measured.readbytes is not None
    assert measured.readbytes > 51200
    steps = (
        *("start", "socket", "connect", "negotiate", "request", "response", "datarequest", "serverrequest"),
        *("serverresponse", "dataresponse", "datacomplete", "end"),
    )
    times = [getattr(measured, step) for step in steps]
    assert times == sorted(times)
    assert set(measured.dataperc) == set(range(0, 101, 10))
    assert set(measured.partial) == {10240, 20480, 51200}

    wait_for(instance.results, "results over HTTP")
    status, body = instance.get(f"/results/{measured.id}")
    assert status == 200
    assert json.loads(body) == json.loads(json.dumps(measured.as_dict()))
    status, body = instance.get(f"/results/{measured.id}", accept="text/plain")
    assert parse(body.decode().rstrip("\n")) == measured

    status, body = instance.get(f"/results/{measured.id}/curves")
    curves = {curve["name"]: curve for curve in json.loads(body)["curves"]}
    assert sorted(curves) == ["arrival", "tcp-client", "tcp-server"]
    seconds, payload = zip(*curves["arrival"]["samples"], strict=True)
    assert measured.datacomplete is not None
    assert (seconds[-1], payload[-1]) == (pytest.approx(measured.datacomplete - measured.start, abs=2e-6), 51200)
    assert len(curves["arrival"]["samples"]) <= 200
    assert measured.extra["SERVERTCPRETRANSMITS"] == 0
    assert 0 < float(measured.extra["CLIENTTCPRTT"]) < 1

    status, body = instance.get("/health")
    report = json.loads(body)
    assert status == 200
    assert report["healthy"] is True
    assert report["experiments"][0]["name"] == "fast"
    assert [each["tor"] for each in report["experiments"][0]["variants"]] == ["default"]
    assert report["tors"] == [{"name": "default", "healthy": True, "state": "ready", "version": None}]

    done = instance.perfd("status")
    assert (done.returncode, f"perfd is running (pid {instance.pid})" in done.stdout) == (0, True)

    pid = instance.pid
    done = instance.perfd("start")
    assert (done.returncode, done.stdout) == (0, f"perfd is already running (pid {pid})\n")

    done = instance.perfd("restart")
    assert done.returncode == 0, done.stderr
    assert instance.pid != pid
    assert not is_alive(pid)

    pid = instance.pid
    done = instance.perfd("stop")
    assert (done.returncode, done.stdout) == (0, f"perfd stopped (pid {pid})\n")
    assert not is_alive(pid)
    assert not (instance.directory / "perfd.pid").exists()
    done = instance.perfd("stop")
    assert (done.returncode, done.stdout) == (0, "perfd is not running\n")
    assert instance.perfd("status").returncode == 3

    with sqlite3.connect(instance.directory / "perfd.sqlite") as database:
        (stored,) = database.execute("SELECT COUNT(*) FROM measurements").fetchone()
    assert stored == len(instance.logged())


def test_killed_daemon(instance: TestInstance) -> None:
    """After kill -9 the status says so, the next start works, and nothing that was committed is lost."""
    instance.start()
    first = instance.wait_for_measurements(1, outcome=Outcome.OK)[0]
    wait_for(lambda: instance.get(f"/results/{first.id}")[0] == 200, "the row")
    instance.kill()
    done = instance.perfd("status")
    assert (done.returncode, "perfd is dead" in done.stdout) == (1, True)
    done = instance.perfd("start")
    assert done.returncode == 0, done.stderr
    assert "removed the pid file of a daemon that is no more" in done.stdout
    assert instance.get(f"/results/{first.id}")[0] == 200


def test_slots_while_it_did_not_run(instance: TestInstance) -> None:
    """At the next start one record covers the slots between, and every slot has one."""
    instance.start()
    instance.wait_for_measurements(2)
    instance.kill()
    time.sleep(3.5)
    instance.start()
    (down,) = instance.wait_for_measurements(1, errorcode=Error.DOWN)
    assert down.slots >= 3
    wait_for(lambda: instance.results("&errorcode=PERFD/DOWN"), "the record over HTTP")
    assert instance.perfd("stop").returncode == 0
    covered = sorted(m.slot + n for m in instance.logged() for n in range(m.slots) if m.slot is not None)
    assert covered == [covered[0] + n for n in range(len(covered))]


def test_terminated_in_a_measurement(instance: TestInstance) -> None:
    """SIGTERM ends the run in flight with a record, in the log and in the database."""
    config = SOCKS_CONFIG.replace("50 KiB", "1000 GiB").replace("900 ms", "1 h")
    instance.configure(config.replace("[server]", "[server]\nmax-size = 1000 GiB"))
    instance.start()
    instance.wait_for_measurements(1, errorcode=Error.BUSY)
    instance.kill(signal.SIGTERM)
    (cancelled,) = instance.wait_for_measurements(1, outcome=Outcome.CANCELLED)
    assert cancelled.errorcode == Error.STOPPED
    assert cancelled.dataresponse is not None
    with sqlite3.connect(instance.directory / "perfd.sqlite") as database:
        rows = database.execute("SELECT outcome FROM measurements WHERE id = ?", (cancelled.id,)).fetchall()
    assert rows == [("cancelled",)]


def test_foreground(instance: TestInstance) -> None:
    """`twistd -n perfd` and `perfd run` measure in the foreground, log to both places, and end on SIGINT."""
    for command in (instance.twistd_command("-n", "perfd"), [sys.executable, "-m", "perfd", "run"]):
        seen = sum(m.outcome is Outcome.OK for m in instance.logged())
        with running(
            command, cwd=instance.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            instance.wait_for_measurements(seen + 1, outcome=Outcome.OK)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=120)
        assert "OUTCOME=ok" in output
        assert not processes_in(instance.directory)


def test_application_file(instance: TestInstance) -> None:
    """perfd.tac builds the same service from the perfd.conf beside it."""
    (instance.directory / "perfd.tac").write_text((CHECKOUT / "perfd.tac").read_text())
    with running(
        instance.twistd_command("-n", "-y", "perfd.tac"), cwd=instance.directory, stdout=subprocess.DEVNULL
    ) as process:
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def test_second_daemon(instance: TestInstance) -> None:
    """A second daemon in the same directory is refused, whatever pid file it would use."""
    instance.start()
    done = instance.twistd("--pidfile", "other.pid", "perfd")
    assert done.returncode == 1
    assert f"Perfd is already running here (pid {instance.pid})" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_configuration(instance: TestInstance) -> None:
    """All mistakes at once, on every way in, with exit code 1, and nothing is started."""
    instance.configure("[perfd]\nnetwrok = tor\n[server]\nlisten = 1\n[experiment:a]\nsize = big\n")
    for done in (instance.perfd("check"), instance.perfd("start"), instance.twistd("-n", "perfd")):
        assert done.returncode == 1
        for option in ("[perfd] netwrok", "[server] listen", "[experiment:a] size"):
            assert option in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in instance.directory.iterdir()] == ["perfd.conf"]


def test_port_in_use(instance: TestInstance) -> None:
    """A port that somebody else has is named."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", instance.port))
        other.listen()
        done = instance.perfd("start")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{instance.port}: Address already in use" in done.stderr


def test_missing_tor(instance: TestInstance) -> None:
    """A tor that is not there, or is no program, is named before anything is started."""
    no_program = instance.directory / "tor-text"
    no_program.write_text("not a program")
    instance.configure(
        f"[perfd]\nnetwork = testnet\n[server]\nlisten = 127.0.0.1:{{port}}\n"
        f"[tor]\nbinary = /nowhere/tor\n[tor:b]\nbinary = {no_program}\n"
    )
    done = instance.perfd("check")
    assert done.returncode == 1
    assert "[tor:default] binary: /nowhere/tor does not exist" in done.stderr
    assert f"[tor:b] binary: {no_program} is not an executable program" in done.stderr


def test_newer_database(instance: TestInstance) -> None:
    """A database of a newer Perfd is left alone."""
    instance.start()
    instance.wait_for_measurements(1)
    instance.perfd("stop")
    with sqlite3.connect(instance.directory / "perfd.sqlite") as database:
        database.execute("PRAGMA user_version = 1000")
    done = instance.perfd("start")
    assert done.returncode == 1
    assert "perfd.sqlite" in done.stderr
    assert "newer version 1000" in done.stderr


def test_results_can_be_closed(instance: TestInstance) -> None:
    """`results = none` closes the results, and nothing that this machine needs."""
    instance.configure(SOCKS_CONFIG.replace("[server]", "[server]\nresults = none"))
    instance.start()
    closed = ("/results", "/results.tpf", "/results/x", "/streams", "/circuits", "/events", "/archive/", "/metrics")
    assert [instance.get(path)[0] for path in closed] == [403] * len(closed)
    assert instance.get("/random/10")[0] == 200
    assert instance.perfd("status").returncode == 0


def test_bad_requests(instance: TestInstance) -> None:
    """What is asked wrongly is said in JSON."""
    instance.start()
    status, body = instance.get("/results?since=yesterday&outcome=good&limit=0&colour=red")
    assert status == 400
    message = json.loads(body)["error"]["message"]
    for word in ("since", "outcome", "limit", "colour: unknown"):
        assert word in message
    assert instance.get("/results/none-such")[0] == 404
    assert instance.get("/nowhere")[0] == 404


def test_paging_and_filters(instance: TestInstance) -> None:
    """Pages follow each other without gaps, and filters leave out the rest."""
    instance.start()
    instance.wait_for_measurements(4)
    instance.perfd("stop")
    instance.configure(SOCKS_CONFIG.replace("[experiment:fast]", "[experiment:later]"))
    instance.start()
    instance.wait_for_measurements(1, experiment="later")
    wait_for(lambda: instance.results("&experiment=later"), "the other experiment's results")
    everything = [result["id"] for result in instance.results("&experiment=fast")]
    paged, query = [], "/results?experiment=fast&limit=2"
    page = json.loads(instance.get(query)[1])
    while True:
        paged += [result["id"] for result in page["results"]]
        if page["next"] is None:
            break
        page = json.loads(instance.get(f"{query}&after={page['next']}")[1])
    assert paged == everything
    assert instance.results("&outcome=timeout") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have privileges to drop")
def test_privileges_are_dropped(tmp_path: Path) -> None:
    """A port below 1024 is bound first, then the daemon becomes the user, who owns what it writes."""
    nobody = pwd.getpwnam("nobody")
    python, environment = python_and_environment()
    directory = Path(f"/var/tmp/perfd-test-{os.getpid()}")
    directory.mkdir()
    instance = TestInstance(directory)
    instance.python, instance.environment = python, environment
    try:
        instance.port = next(port for port in range(600, 1024) if _is_free(port))
        instance.configure(SOCKS_CONFIG)
        done = instance.perfd("start", "--uid", "nobody", "--gid", "nogroup")
        assert done.returncode == 4
        assert f"chown root:nogroup {directory}; chmod 1770 {directory}" in done.stderr
        os.chown(directory, 0, nobody.pw_gid)
        directory.chmod(0o1770)
        done = instance.perfd("start", "--uid", "nobody", "--gid", "nogroup")
        assert done.returncode == 0, done.stderr
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        assert Path(f"/proc/{instance.pid}").stat().st_uid == nobody.pw_uid
        assert instance.log.stat().st_uid == nobody.pw_uid
        assert (directory / "perfd.pid").stat().st_uid == nobody.pw_uid
        assert "as nobody" in instance.perfd("status").stdout
        # What the daemon's user plants there is not run as root: restart goes on as the user of perfd.conf.
        for name in ("os.py", "perfd.py", "argparse.py"):
            (directory / name).write_text("open('/var/tmp/planted', 'w'); raise SystemExit('planted')")
        instance.configure(SOCKS_CONFIG.replace("[perfd]", "[perfd]\nuser = nobody\ngroup = nogroup"))
        done = instance.perfd("restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert Path(f"/proc/{instance.pid}").stat().st_uid == nobody.pw_uid
        assert instance.perfd("stop").returncode == 0
    finally:
        instance.perfd("stop")
        subprocess.run(["rm", "-r", str(directory)], check=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_init(tmp_path: Path) -> None:
    """`perfd init` writes a configuration without mistakes and a control script that works; never over another."""
    directory = tmp_path / "new" / "instance"
    command = [sys.executable, "-m", "perfd", "init", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = (directory / "perfd.conf").read_text()
    assert "# The experiments." in config
    (directory / "perfd.conf").write_text(config.replace("8080", str(TestInstance(tmp_path).port)))
    done = subprocess.run([directory / "perfd", "check"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout.partition("\n")[0]) == (0, "perfd.conf: no mistakes found"), done.stderr
    done = subprocess.run([directory / "perfd", "status"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (3, "perfd is not running\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "exists already" in done.stderr) == (1, True)


@pytest.mark.parametrize(("profile", "count"), [("torperf", 3), ("onionperf", 1), ("onion", 3), ("relay", 3)])
def test_public_profiles(tmp_path: Path, profile: str, count: int) -> None:
    """A profile for the public network lacks nothing but the address, which only the operator knows."""
    command = [sys.executable, "-m", "perfd", "init", "--profile", profile, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    path = tmp_path / "perfd.conf"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert [problem.partition(": ")[2][:24] for problem in caught.value.problems] == ["[server] public-address:"]
    path.write_text(path.read_text().replace("#public-address", "public-address"))
    config = load_config(path)
    assert config.source == host_label()
    assert (config.network, len(config.experiments)) == ("tor", count)


def test_measure(tmp_path: Path) -> None:
    """`perfd measure` prints a table or JSON lines, and its exit code says whether all went well."""
    command = [sys.executable, "-m", "perfd", "measure", "--network", "socks", "--size", "1MiB", "--count", "3"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
            timeout=120,
        )

    done = run("--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["outcome"], r["filesize"], r["payloadbytes"]) for r in records] == [("ok", 1048576, 1048576)] * 3
    done = run()
    assert done.returncode == 0, done.stderr
    assert "3/3 ok" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert run("--timeout", "1ms").returncode == 1
    assert run("--size", "50 kB").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_measure_is_interrupted(tmp_path: Path, number: int) -> None:
    """A signal ends `perfd measure` with the rows so far and the summary, and nothing else."""
    command = [
        sys.executable,
        "-m",
        "perfd",
        "measure",
        "--network",
        "socks",
        "--size",
        "1000GiB",
        "--timeout",
        "1h",
    ]
    with running(
        command,
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        heading = process.stdout.readline() + process.stdout.readline()
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
    assert "what happened" in heading
    row, summary = output.splitlines()
    assert row.split()[:2] == ["1", "cancelled"]
    assert summary.startswith("median      0/1 ok")
    assert (errors, process.returncode) == ("preparing: ready\n", 1)


@pytest.mark.tor
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [("measure", "--network", "testnet"), ("testnet", "start", "network")])
def test_interrupted_start_of_the_network(tmp_path: Path, command: tuple[str, ...], number: int) -> None:
    """A signal while the private network starts leaves none of its relays behind."""
    with running(
        [sys.executable, "-m", "perfd", *command],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: [pid for pid in processes_in(tmp_path) if pid != process.pid], "a relay")
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "GeneratorExit" not in errors
    assert not processes_in(tmp_path)


def test_unusable_cache(tmp_path: Path) -> None:
    """A cache directory that cannot be made is named."""
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "perfd", "measure", "--network", "socks"],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"perfd: {tmp_path}/file/perfd/measure: cannot be made: Not a directory\n"


def test_start_error_in_the_foreground(instance: TestInstance) -> None:
    """What keeps the daemon from starting is one line, also where there is a terminal."""
    instance.log.mkdir()
    done = instance.perfd("run")
    assert done.returncode == 1
    assert f"perfd: {instance.log}: Is a directory\n" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_commands_explain_themselves() -> None:
    """Every command has its help, and so has no command; an unknown one is wrong usage."""
    for command in ("init", "start", "stop", "restart", "status", "run", "measure", "check", "testnet"):
        done = subprocess.run(
            [sys.executable, "-m", "perfd", command, "--help"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, f"usage: perfd {command}" in done.stdout) == (0, True)
    alone = subprocess.run([sys.executable, "-m", "perfd"], capture_output=True, text=True, check=False)
    assert (alone.returncode, "COMMAND" in alone.stdout, alone.stderr) == (0, True, "")
    done = subprocess.run([sys.executable, "-m", "perfd", "dance"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
