"""Child processes: real ones, and rude ones."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.processes.child import ERRORS, MOST_IN_LINE, Child
from perfd.processes.modules import module_command, module_environment


class ChildTests(TestCase):
    """Real children."""

    timeout = 30

    def spawn(self, code: str, **options: Any) -> Child:
        child = Child.spawn(reactor, [sys.executable, "-u", "-c", code], **options)  # type: ignore[arg-type]
        self.addCleanup(child.kill)
        return child

    async def until(self, child: Child, line: str) -> None:
        while line not in child.lines:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    async def test_output(self) -> None:
        """All that it writes is given on as it comes, and its lines one by one, also one without an end."""
        data: list[tuple[int, bytes]] = []
        lines: list[str] = []
        child = self.spawn(
            "import sys; print('one\\n\\ntwo'); sys.stderr.buffer.write(b'last \\xff')",
            on_data=lambda *each: data.append(each),
            on_line=lines.append,
        )
        self.assertEqual(await child.when_ended(), 0)
        self.assertEqual(b"".join(each for number, each in data if number == 1), b"one\n\ntwo\n")
        self.assertEqual((sorted(lines), list(child.lines)), (["last \\xff", "one", "two"], lines))
        self.assertEqual(child.describe_end(), "exit code 0")
        self.assertGreater(child.pid, 1)

    async def test_standard_error_alone(self) -> None:
        """Lines of standard output do not count where they are no messages."""
        child = self.spawn("import sys; print('result'); sys.exit('why')", lines_of=ERRORS)
        self.assertEqual(await child.when_ended(), 1)
        self.assertEqual((list(child.lines), child.describe_end()), (["why"], "exit code 1: why"))

    async def test_too_much(self) -> None:
        """A line of a megabyte and a thousand lines are cut."""
        child = self.spawn("print('x' * 1_000_000); [print(n) for n in range(1000)]; print('y' * 999)")
        await child.when_ended()
        self.assertEqual((len(child.lines), child.lines[-2]), (50, "999"))
        self.assertEqual(child.lines[-1], "y" * MOST_IN_LINE)

    async def test_standard_input(self) -> None:
        """It is written piece by piece and then closed; each piece is made when the one before was taken."""
        made: list[int] = []

        def pieces() -> Any:
            for number in range(40):
                made.append(number)
                yield bytes(65536)

        child = self.spawn("import sys, time; time.sleep(0.3); print(len(sys.stdin.buffer.read()))", stdin=pieces())
        await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        self.assertLess(len(made), 20)
        await child.when_ended()
        self.assertEqual((len(made), list(child.lines)), (40, [str(40 * 65536)]))

    async def test_held_standard_input(self) -> None:
        """It stays open if the child is to see the end of this process."""
        code = "import sys; print(sys.stdin.readline()); sys.stdin.read(1)"
        child = self.spawn(code, stdin=[b"job\n"], hold_stdin=True)
        await self.until(child, "job")
        await deferLater(reactor, 0.2)  # type: ignore[arg-type]
        self.assertIsNone(child.exit_code)

    async def test_reads_nothing(self) -> None:
        """A child that ends without having read its input is no error."""
        child = self.spawn("pass", stdin=[bytes(1_000_000)] * 5)
        self.assertEqual(await child.when_ended(), 0)

    async def test_stop(self) -> None:
        """SIGTERM ends it; a second stop finds it ended."""
        child = self.spawn("print('there'); import time; time.sleep(60)")
        await self.until(child, "there")
        self.assertEqual(await child.stop(), -signal.SIGTERM)
        self.assertEqual((await child.stop(), child.describe_end()), (-signal.SIGTERM, "killed by SIGTERM"))

    async def test_ignores_sigterm(self) -> None:
        """It is killed after the grace."""
        child = self.spawn(
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there'); time.sleep(60)"
        )
        await self.until(child, "there")
        self.assertEqual(await child.stop(0.2), -signal.SIGKILL)

    async def test_output_held_by_another(self) -> None:
        """The process is gone, but one of its own holds its output: it has exited, and ends when it is killed."""
        child = self.spawn("import subprocess; print(subprocess.Popen(['sleep', '20']).pid)")
        self.assertEqual(await child.when_exited(), 0)
        ended = child.when_ended()
        self.assertNoResult(ended)
        child.kill()
        self.assertEqual(await ended, 0)

    async def test_nobody_waits(self) -> None:
        """Who stops waiting disturbs nobody else."""
        child = self.spawn("import time; time.sleep(0.2)")
        waiting, other = child.when_ended(), child.when_ended()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.assertEqual(await other, 0)

    def test_cannot_be_started(self) -> None:
        """What is no program fails at once, wherever it is to run."""
        plain = Path(self.mktemp())
        plain.write_text("no program", encoding="utf-8")
        for program, directory, error in (
            ("/nowhere/program", None, FileNotFoundError),
            ("/nowhere/program", Path("/"), FileNotFoundError),
            ("no-such-program", Path("/"), FileNotFoundError),
            (str(plain), None, PermissionError),
            (str(plain), Path("/"), PermissionError),
            (sys.executable, plain / "nowhere", NotADirectoryError),
        ):
            with self.assertRaises(error):
                Child.spawn(reactor, [program], directory=directory)  # type: ignore[arg-type]

    async def test_closes_its_output(self) -> None:
        """Its end counts, not that of its output."""
        child = self.spawn("import os, time; os.write(1, b'bye'); os.close(1); os.close(2); time.sleep(0.3)")
        ended = child.when_ended()
        await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        self.assertNoResult(ended)
        self.assertEqual((await ended, list(child.lines)), (0, ["bye"]))

    async def test_finish(self) -> None:
        """Who waits for its end gets its exit code, or has it killed: when it takes too long, or is cancelled."""
        self.assertEqual(await self.spawn("raise SystemExit(3)").finish(20.0), 3)
        slow = self.spawn("import time; time.sleep(60)")
        with self.assertRaises(TimeoutError):
            await slow.finish(0.3)
        self.assertEqual(slow.exit_code, -signal.SIGKILL)

    async def test_caller_is_cancelled(self) -> None:
        """No child is left behind by who no longer waits for it."""
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there'); time.sleep(60)"
        for waiting in (lambda child: child.finish(60.0), lambda child: child.stop(60.0)):
            child = self.spawn(code)
            await self.until(child, "there")
            work = Deferred.fromCoroutine(waiting(child))
            work.cancel()
            self.failureResultOf(work, CancelledError)
            self.assertEqual(await child.when_exited(), -signal.SIGKILL)

    async def test_module(self) -> None:
        """A module of Perfd is found, and nothing that is planted in the working directory is."""
        directory = Path(self.mktemp())
        (directory / "perfd").mkdir(parents=True)
        (directory / "perfd" / "__init__.py").write_text("raise SystemExit('planted')", encoding="utf-8")
        (directory / "argparse.py").write_text("raise SystemExit('planted')", encoding="utf-8")
        child = Child.spawn(
            reactor,  # type: ignore[arg-type]
            module_command("perfd.cli.command", "--help"),
            environment=module_environment(),
            directory=directory,
        )
        self.assertEqual(await child.when_ended(), 0, child.lines)


class FakedTests(SynchronousTestCase):
    """Orders of events that real children rarely have."""

    def test_ended_only(self) -> None:
        """If only the end is told, it is the exit too."""
        child = Child(reactor)  # type: ignore[arg-type]
        exited, ended = child.when_exited(), child.when_ended()
        child.processEnded(Failure(ProcessTerminated(3)))
        self.assertEqual((self.successResultOf(exited), self.successResultOf(ended)), (3, 3))
        self.assertEqual(self.successResultOf(child.when_exited()), 3)

    def test_signal_after_the_end(self) -> None:
        """Nothing is signalled that is gone, since its number may be another's by now."""
        child = Child(reactor)  # type: ignore[arg-type]
        child.transport = StringTransport()  # type: ignore[assignment]  # has no signalProcess
        child.processExited(Failure(ProcessDone(0)))
        child.signal("KILL")

    def test_environment(self) -> None:
        """What PYTHONPATH had stays in it."""
        path = module_environment({"PYTHONPATH": "/other", "A": "b"})["PYTHONPATH"].split(":")
        self.assertEqual((path[1:], (Path(path[0]) / "perfd").is_dir()), (["/other"], True))
