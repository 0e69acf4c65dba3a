"""perfd.log: days, full disks, half lines, signals."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import ILogObserver, Logger, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from perfd.clock import Clock
from perfd.logfile import file as logobserver
from perfd.logfile.file import LogFile, LogStatus, reopen_on_signal
from perfd.logfile.line import DamagedLine, LogSink, parse, parse_file
from perfd.proxy import MeasuringProxy
from tests.support.places import CHECKOUT
from tests.support.strategies import typical

DAY = 86400.0
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


def run_python(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ``script`` in ``directory`` with this perfd."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", dedent(script)]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=True
    )


class LogFileCase(SynchronousTestCase):
    """A directory for a log, and two clocks."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "perfd.log"
        self.now = NOON
        self.clock = Clock(wall=lambda: self.now, monotonic=lambda: self.now - 1e9)

    def open(self, **options: Any) -> LogFile:
        log = LogFile(self.path, clock=self.clock, **options)
        self.addCleanup(log.close)
        return log

    def say(self, log: LogFile, text: str) -> None:
        """Say something, and wait until it was tried to write it."""
        log({"log_format": "{text}", "text": text, "log_time": self.now, "log_system": "test"})
        self.assertTrue(log.flush())

    def record(self, *number: int) -> None:
        """Let a record be written, in a life of the log of its own."""
        log = self.open()
        LogSink(Logger(observer=log)).record(typical(*number))
        log.close()

    def texts(self, path: Path | None = None) -> list[str]:
        """The lines of a log without time and system."""
        lines = (path or self.path).read_text(encoding="utf-8").splitlines()
        return [re.sub(r"^\S+ \S+ \[\S+\] ", "", line) for line in lines]

    def others(self) -> list[str]:
        """The files beside the current log."""
        return sorted(path.name for path in self.directory.iterdir() if path != self.path)


class PassingPortTests(LogFileCase, TestCase):
    """What Twisted says about ports that come and go with each page load."""

    async def test_ports(self) -> None:
        """The proxy's ports are not told, all others are."""
        log = self.open()
        globalLogPublisher.addObserver(log)
        try:
            other: Any = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")  # type: ignore[attr-defined]
            passing = MeasuringProxy(reactor, Clock(), None).open()
            numbers = (str(other.getHost().port), str(passing.port))
            await passing.close()
            await other.stopListening()
        finally:
            globalLogPublisher.removeObserver(log)
        log.flush()
        texts = self.texts()
        self.assertEqual([text for text in texts if numbers[1] in text], [])
        self.assertEqual([text for text in texts if numbers[0] in text][1:], [f"(TCP Port {numbers[0]} Closed)"])


class FormatTests(LogFileCase):
    """What is written."""

    def test_observer(self) -> None:
        """It is an observer of Twisted's log."""
        verifyObject(ILogObserver, self.open())

    def test_classic_format(self) -> None:
        """A line is twistd's: local time with its offset, the system in brackets, the text."""
        self.say(self.open(), "Hello\nyou")
        pattern = r"2026-11-2\d \d\d:00:00[+-]\d{4} \[test\] Hello\n\tyou\n"
        self.assertRegex(self.path.read_text(encoding="utf-8"), f"^{pattern}$")

    def test_system(self) -> None:
        """Who speaks is named without the package, and the level where it is not info; a given system stays."""
        log = self.open()
        for namespace, level in (
            ("perfd.tor.launch.TorService", LogLevel.info),
            ("perfd", LogLevel.info),
            ("perfd.daemon.schedule", LogLevel.info),
            ("perfd.tor.launch.TorService", LogLevel.warn),
            ("a.B", LogLevel.critical),
        ):
            log({"log_format": "x", "log_time": self.now, "log_namespace": namespace, "log_level": level})
        self.say(log, "x")
        log({"log_format": "x", "log_time": self.now})
        log.flush()
        systems = re.findall(r"\[(.*)\] x\n", self.path.read_text(encoding="utf-8"))
        self.assertEqual(systems, ["TorService", "perfd", "schedule", "TorService#warn", "B#critical", "test", "-"])

    def test_both_forms_are_read(self) -> None:
        """A measurement behind a long system, as in logs of before, is read like one behind a short one."""
        self.record()
        line = self.path.read_text(encoding="utf-8")
        system = "[perfd.download-50k,default]"
        for other in ("[perfd.logfile.line.LogSink#info]", "[LogSink]", "[LogSink#warn]", "[-]"):
            self.assertEqual(parse(line.replace(system, other)), typical())

    def test_empty_event(self) -> None:
        """An event without a text writes nothing."""
        log = self.open()
        log({"log_time": self.now})
        log.close()
        self.assertEqual(self.path.read_bytes(), b"")

    def test_not_unicode(self) -> None:
        """A text that cannot be encoded is written with escapes."""
        self.say(self.open(), "a\udcffb")
        self.assertEqual(self.texts(), [r"a\udcffb"])

    def test_measurement(self) -> None:
        """What LogSink writes is read back by parse_file."""
        self.record()
        self.assertEqual(list(parse_file(self.path)), [typical()])

    def test_appends(self) -> None:
        """A file of today that is there goes on."""
        self.path.write_text("x\n", encoding="utf-8")
        os.utime(self.path, (self.now, self.now))
        self.say(self.open(), "one")
        self.assertEqual(self.texts(), ["x", "one"])

    def test_cannot_be_opened(self) -> None:
        """A log that cannot be opened for another reason than a full disk is an error at once."""
        self.path = self.directory / "nowhere" / "perfd.log"
        self.assertRaises(FileNotFoundError, self.open)


class DayTests(LogFileCase):
    """A file a day."""

    def test_midnight(self) -> None:
        """At the end of the UTC day the file is set aside with the day's name."""
        log = self.open()
        self.say(log, "one")
        self.now += DAY / 2 - 0.001
        self.say(log, "two")
        self.now += 0.001
        self.say(log, "three")
        self.assertEqual(self.texts(), ["three"])
        self.assertEqual(self.others(), ["perfd.log.2026-11-23"])
        self.assertEqual(self.texts(self.directory / "perfd.log.2026-11-23"), ["one", "two"])

    def test_restart_on_another_day(self) -> None:
        """A file that an earlier run left gets the day of its last line."""
        self.path.write_text("old\n", encoding="utf-8")
        os.utime(self.path, (self.now - 3 * DAY, self.now - 3 * DAY))
        self.say(self.open(), "new")
        self.assertEqual(self.texts(), ["new"])
        self.assertEqual(self.texts(self.directory / "perfd.log.2026-11-20"), ["old"])

    def test_keep(self) -> None:
        """Only the newest are kept, and nothing else is touched."""
        others = ["perfd.log.2026-11-22.bak", "perfd.log.x", "perfd.sqlite", "perfd.log.gz"]
        for name in others:
            (self.directory / name).touch()
        log = self.open(keep=2)
        for _ in range(5):
            self.say(log, "x")
            self.now += DAY
        self.assertEqual(self.others(), sorted([*others, "perfd.log.2026-11-25", "perfd.log.2026-11-26"]))

    def test_stragglers(self) -> None:
        """A line of a moment before midnight (from a thread) does not turn the log back."""
        log = self.open()
        self.now += DAY / 2
        self.say(log, "today")
        self.now -= 0.001
        self.say(log, "yesterday")
        self.assertEqual(self.texts(), ["today", "yesterday"])

    def test_clock_steps(self) -> None:
        """A clock that was wrong by years costs no line, and the days after it have their files again."""
        log = self.open()
        for text, days in (("a", 0), ("b", 3650), ("c", 0), ("d", 1), ("e", -1), ("f", 2)):
            self.now = NOON + days * DAY
            self.say(log, text)
        read = {name: self.texts(self.directory / name) for name in self.others()}
        self.assertEqual(
            read,
            {
                "perfd.log.2026-11-23": ["a"],
                "perfd.log.2036-11-20": ["b"],
                "perfd.log.2026-11-23.1": ["c"],
                "perfd.log.2026-11-24": ["d"],
                "perfd.log.2026-11-22": ["e"],
            },
        )
        self.assertEqual(self.texts(), ["f"])

    def test_mode(self) -> None:
        """The new file has the mode of the old one, whatever the daemon's umask is."""
        log = self.open()
        self.say(log, "one")
        self.path.chmod(0o640)
        self.now += DAY
        self.say(log, "two")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

    def test_cannot_be_set_aside(self) -> None:
        """When a new file cannot be begun, the old one goes on and says so once."""
        log = self.open()
        self.say(log, "one")
        (self.directory / "taken").mkdir()
        patch = mock.patch("perfd.logfile.daily.scratch_name", lambda path: path.with_name("taken"))
        patch.start()
        self.addCleanup(patch.stop)
        self.now += DAY
        self.say(log, "two")
        self.say(log, "three")
        self.assertEqual(
            self.texts(), ["one", "perfd.log could not begin a new file: Is a directory", "two", "three"]
        )
        (self.directory / "taken").rmdir()
        self.now += DAY
        self.say(log, "four")
        self.assertEqual(self.texts(), ["four"])


class ReopenTests(LogFileCase):
    """Outside log rotation."""

    def test_signal(self) -> None:
        """SIGUSR1 says that whoever moved the file meant it: there is nothing to tell."""
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        log = self.open()
        reopen_on_signal(log)
        self.say(log, "one")
        self.path.rename(self.directory / "moved")
        os.kill(os.getpid(), signal.SIGUSR1)
        self.say(log, "two")
        self.assertEqual(self.texts(self.directory / "moved"), ["one"])
        self.assertEqual(self.texts(), ["two"])

    def test_impossible(self) -> None:
        """When there is nothing to reopen, the open file is used until there is."""
        log = self.open()
        moved = self.directory / "moved"
        self.path.rename(moved)
        self.path.mkdir()
        log.reopen()
        self.say(log, "one")
        self.path.rmdir()
        self.say(log, "two")
        self.assertEqual((self.texts(moved), self.texts()), (["one"], ["two"]))


class ReplacedTests(LogFileCase):
    """A file that somebody deletes, moves or replaces without a signal."""

    def gone(self, how: str) -> str:
        return f"perfd.log {how} while Perfd ran; it goes on here"

    def test_deleted(self) -> None:
        """Lines go to a new file, and it is told; past midnight too."""
        log = self.open()
        self.say(log, "one")
        self.path.unlink()
        self.say(log, "two")
        self.assertEqual(self.texts(), [self.gone("was deleted"), "two"])
        self.assertEqual(log.status, LogStatus(None, self.now))
        self.path.unlink()
        self.now += DAY
        self.say(log, "three")
        self.now += DAY
        self.say(log, "four")
        self.assertEqual((self.texts(), self.others()), (["four"], ["perfd.log.2026-11-24"]))

    def test_moved(self) -> None:
        """The moved file keeps what it has, and is not set aside in the place of another."""
        log = self.open()
        self.say(log, "one")
        moved = self.directory / "moved"
        self.path.rename(moved)
        self.now += DAY
        self.say(log, "two")
        self.assertEqual((self.texts(moved), self.texts()), (["one"], [self.gone("was moved"), "two"]))
        self.assertEqual(self.others(), ["moved"])

    def test_replaced(self) -> None:
        """The file that is there now goes on, behind what is in it."""
        log = self.open()
        self.say(log, "one")
        other = self.directory / "other"
        other.write_text("half a line", encoding="utf-8")
        os.utime(other, (self.now, self.now))
        other.rename(self.path)
        self.say(log, "two")
        self.assertEqual(self.texts(), ["half a line [cut off]", self.gone("was replaced"), "two"])

    def test_directory_vanished(self) -> None:
        """Lines are held until there is a directory again, and the status says so."""
        log = self.open()
        self.say(log, "one")
        shutil.rmtree(self.directory)
        self.say(log, "two")
        self.assertEqual(log.status.trouble, "No such file or directory")
        self.directory.mkdir()
        self.say(log, "three")
        self.assertEqual(self.texts()[-2:], ["two", "three"])
        self.assertIsNone(log.status.trouble)


class FullDiskTests(LogFileCase):
    """What cannot be written is held."""

    def open_full(self) -> LogFile:
        """A log on a full disk."""
        self.path.symlink_to("/dev/full")
        return self.open()

    def make_space(self, log: LogFile) -> None:
        self.path.unlink()
        log.reopen()

    def test_held(self) -> None:
        """Lines are held while the disk is full, and written in order behind a line that says so."""
        log = self.open_full()
        self.say(log, "one")
        self.now += 60
        self.say(log, "two")
        self.now += 3
        self.make_space(log)
        self.say(log, "three")
        self.say(log, "four")
        note = (
            "perfd.log could not be written for 63 s (No space left on device): "
            "3 lines were held and follow, 0 are lost"
        )
        self.assertEqual(self.texts(), [note, "one", "two", "three", "four"])

    def test_closed(self) -> None:
        """Lines that are still held at the end are tried for the last time."""
        log = self.open_full()
        self.say(log, "one")
        self.make_space(log)
        log.close()
        log.close()
        self.assertEqual(self.texts()[1:], ["one"])

    def test_closed_while_full(self) -> None:
        """Closing on a full disk is quiet."""
        log = self.open_full()
        self.say(log, "one")
        log.close()

    def test_too_many(self) -> None:
        """Only the newest lines are held, and those that are lost are counted."""
        self.patch(logobserver, "MAX_HELD_LINES", 10)
        log = self.open_full()
        for n in range(25):
            self.say(log, str(n))
        self.make_space(log)
        self.say(log, "25")
        self.assertIn(": 10 lines were held and follow, 16 are lost", self.texts()[0])
        self.assertEqual(self.texts()[1:], [str(n) for n in range(16, 26)])

    def test_too_long(self) -> None:
        """Long lines cannot fill the memory."""
        self.patch(logobserver, "MAX_HELD_BYTES", 1000)
        log = self.open_full()
        for n in range(10):
            self.say(log, str(n) * 400)
        self.make_space(log)
        self.say(log, "x" * 3000)
        self.assertIn(": 1 lines were held and follow, 10 are lost", self.texts()[0])
        self.assertEqual([text[0] for text in self.texts()[1:]], ["x"])

    def test_day_of_held_lines(self) -> None:
        """Held lines go to the file of their own day."""
        log = self.open_full()
        self.say(log, "one")
        self.now += DAY
        self.make_space(log)
        self.say(log, "two")
        self.assertEqual(self.texts(), ["two"])
        aside = self.directory / "perfd.log.2026-11-23"
        self.assertEqual(self.texts(aside)[1:], ["one"])

    def test_no_space_to_open(self) -> None:
        """A disk so full that the file cannot even be made does not keep the daemon from starting."""
        with mock.patch("os.open", side_effect=OSError(28, "No space left on device")):
            log = self.open()
            self.say(log, "one")
        self.say(log, "two")
        self.assertEqual(self.texts()[1:], ["one", "two"])

    def test_half_lines(self) -> None:
        """On a real limit of the file's size, no line is torn, glued or lost, wherever the limit is."""
        for space in (1000, 1013, 1037):
            directory = self.directory / str(space)
            directory.mkdir()
            done = run_python(
                f"""
                import resource
                from pathlib import Path
                from perfd.logfile.file import LogFile
                log = LogFile(Path("perfd.log"))
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                def say(n):
                    log(dict(log_format="line {{n}} " + "x" * 40, n=n, log_time=1e9, log_system="t"))
                    log.flush()
                resource.setrlimit(resource.RLIMIT_FSIZE, ({space}, hard))
                for n in range(30):
                    say(n)
                print(Path("perfd.log").stat().st_size)
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                say(30)
                """,
                directory,
            )
            self.assertEqual(int(done.stdout), space)  # half a line is there
            texts = self.texts(directory / "perfd.log")
            notes = [text for text in texts if text.startswith("perfd.log could not be written")]
            self.assertEqual(len(notes), 1)
            self.assertIn("(File too large)", notes[0])
            self.assertEqual([t for t in texts if t not in notes], [f"line {n} {'x' * 40}" for n in range(31)])

    def test_half_line_and_new_file(self) -> None:
        """A line of which a half went to a file that was moved away is whole in the new file."""
        log = self.open()
        full = OSError(28, "No space left on device")
        with mock.patch("os.write", side_effect=[10, full, full]):
            self.say(log, "one")
        log.reopen()
        self.path.unlink()
        self.say(log, "two")
        self.assertEqual([self.texts()[0], self.texts()[2]], ["one", "two"])

    def test_half_line_of_a_killed_process(self) -> None:
        """A half line at the end of the file is marked, so that a cut number cannot pass for a whole one."""
        self.record()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:-3])
        self.record(1)
        first, second = parse_file(self.path)
        self.assertEqual(
            first, DamagedLine(self.path, 1, "'[cut' is not KEY=value; pairs are separated by single spaces")
        )
        self.assertEqual(second, typical(1))


class HangingDiskTests(LogFileCase):
    """A disk that takes its time, here a pipe that nobody reads."""

    def open_hanging(self) -> LogFile:
        """A log into a pipe that is full."""
        os.mkfifo(self.path)
        self.read_end = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, self.read_end)
        self.filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.filled += os.write(self.read_end, b"." * 4096)
        return self.open()

    def give(self, log: LogFile, count: int) -> float:
        """Say so many lines; the longest time that one took."""
        longest = 0.0
        for n in range(count):
            began = time.monotonic()
            log({"log_format": "{n}", "n": n, "log_time": self.now, "log_system": "test"})
            longest = max(longest, time.monotonic() - began)
        return longest

    def read(self, log: LogFile) -> list[str]:
        """What was written once the pipe is read again."""
        read = bytearray()
        while not log.flush(0.05):
            with contextlib.suppress(BlockingIOError):
                read += os.read(self.read_end, 65536)
        with contextlib.suppress(BlockingIOError):
            read += os.read(self.read_end, 65536)
        return [line.partition("] ")[2] for line in read[self.filled :].decode().splitlines()]

    def test_holds_up_nobody(self) -> None:
        """Who speaks goes on at once; the lines come later, and one says why."""
        log = self.open_hanging()
        self.assertLess(self.give(log, 100), 0.5)
        self.assertFalse(log.flush(0.2))
        self.now += 60
        texts = self.read(log)
        note = "perfd.log could not be written for 60 s (the disk hung): 99 lines were held and follow, 0 are lost"
        self.assertEqual(texts, ["0", note, *map(str, range(1, 100))])

    def test_too_many(self) -> None:
        """If that lasts for long, the oldest lines are lost, and counted."""
        self.patch(logobserver, "MAX_HELD_LINES", 10)
        log = self.open_hanging()
        self.give(log, 1)
        self.assertFalse(log.flush(0.2))
        self.give(log, 100)
        self.now += 60
        texts = self.read(log)
        note = "perfd.log could not be written for 60 s (the disk hung): 10 lines were held and follow, 90 are lost"
        self.assertEqual(texts, ["0", note, *map(str, range(90, 100))])

    def test_burst(self) -> None:
        """More lines at once than are held are told too."""
        self.patch(logobserver, "MAX_HELD_LINES", 3)
        log = self.open()
        with log._changed:  # the thread does not come to it
            self.give(log, 5)
        log.flush()
        self.assertIn("(too many lines at once): 3 lines were held and follow, 2 are lost", self.texts()[0])
        self.assertEqual(self.texts()[1:], ["2", "3", "4"])

    @pytest.mark.long
    def test_end(self) -> None:
        """The end waits for the disk, but not for ever."""
        log = self.open_hanging()
        self.give(log, 1)
        began = time.monotonic()
        log.close(0.3)
        self.assertTrue(0.2 < time.monotonic() - began < 5)

    def test_nothing_is_lost_at_the_end(self) -> None:
        """The last lines of a process that ends without a word are written."""
        script = """
            from pathlib import Path
            from perfd.logfile.file import LogFile
            log = LogFile(Path("perfd.log"))
            for n in range(5000):
                log(dict(log_format="{n}", n=n, log_time=1e9, log_system="t"))
            raise SystemExit
        """
        run_python(script, self.directory)
        self.assertEqual(self.texts(), [str(n) for n in range(5000)])

    def test_signal(self) -> None:
        """What a signal calls may log while the same thread does."""
        log = self.open()
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))
        signal.signal(signal.SIGUSR2, lambda *_: self.give(log, 1))
        with log._changed:
            os.kill(os.getpid(), signal.SIGUSR2)
        log.flush()
        self.assertEqual(self.texts(), ["0"])


class TwistdTests(SynchronousTestCase):
    """Under the real twistd."""

    TAC = """
        from pathlib import Path
        from twisted.application import service
        from twisted.internet import reactor
        from perfd.logfile.line import LogSink
        from perfd.service import LogService
        from tests.support.strategies import typical

        class Measure(service.Service):
            def startService(self):
                print("a print")
                LogSink().record(typical())
                reactor.callLater(0, reactor.stop)

        application = service.Application("test")
        LogService(reactor, Path("perfd.log"), keep=14).setServiceParent(application)
        Measure().setServiceParent(application)
    """

    def test_beside_twistd(self) -> None:
        """The file and twistd's own log on the terminal get the same texts; the measurement is read back."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "perfd.tac").write_text(dedent(self.TAC), encoding="utf-8")
        twistd = run_python(
            'from twisted.scripts.twistd import run; import sys; sys.argv = ["twistd", "-noy", "perfd.tac"]; run()',
            directory,
        )
        log = directory / "perfd.log"
        self.assertEqual(list(parse_file(log)), [typical()])
        text = log.read_text(encoding="utf-8")
        self.assertIn("a print", text)
        self.assertIn(" [perfd.download-50k,default] START=", text)
        for line in text.splitlines():
            _, _, text = line.partition("] ")  # twistd names systems at length
            self.assertIn(f"] {text}\n", twistd.stdout)
