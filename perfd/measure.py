"""``perfd measure``: measurements at once, without a daemon, as a live table or as JSON lines."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.live import Live
from rich.table import Table
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import LoopingCall

from perfd.clock import Clock
from perfd.config import Config, ConfigError, ExperimentConfig, parse_config
from perfd.experiments.download import Download
from perfd.foreground import Interruption, run_reactor
from perfd.instance import Instance, InstanceError, InstanceLock
from perfd.laboratory import Laboratory, StartError
from perfd.preflight import check_machine
from perfd.record import Circuit, Measurement, Outcome, Stream, TorEvent
from perfd.terminal import Progress
from perfd.tor import testnet
from perfd.units import format_size
from perfd.values import Address

FREE_PORT = Address("127.0.0.1", 0)


@attrs.frozen(kw_only=True)
class Request:
    """What to measure. ``network`` None: as configured."""

    size: int  # bytes
    count: int
    timeout: float  # seconds
    network: str | None
    tor: str


def measure(config: Config | None, request: Request, *, as_json: bool) -> int:
    """Run the measurements and print them; 0 if all of them succeeded.

    Nothing is stored but the keys of the private network and the data of tor, which make the next start faster.
    SIGINT and SIGTERM end them early. Raises ConfigError and InstanceError.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    config = _prepared(config, request)
    try:
        config.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InstanceError(f"{config.directory}: cannot be made: {error.strerror}") from None
    check_machine(config)
    lock = InstanceLock(Instance(config.directory).lock_file)
    lock.write_pid()
    printer = JSONPrinter() if as_json else TablePrinter(request, config.network)
    laboratory = Laboratory(reactor, Clock(), config, {}, Unrecorded())
    try:
        run_reactor(
            reactor,
            lambda interruption: _run(reactor, laboratory, config, request, printer, interruption),
            laboratory.stopService,
        )
    except (StartError, NotPreparedError) as error:
        raise InstanceError(str(error)) from None
    except CancelledError:
        return 1
    finally:
        lock.release()
    done = [measurement for measurement in printer.measurements if measurement.outcome is Outcome.OK]
    return 0 if len(done) == request.count else 1


def _prepared(config: Config | None, request: Request) -> Config:
    """The configuration for this one time, in a directory of its own, so that a running daemon is left alone."""
    if config is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfd"
        # The public network needs the address of this machine, which only a perfd.conf can tell.
        config = parse_config(f"[perfd]\nnetwork = {request.network or 'testnet'}", cache / "perfd.conf")
    directory = config.directory / "measure"
    config = attrs.evolve(
        config,
        network=request.network or config.network,
        directory=directory,
        testnet=directory / "testnet",
        experiments=(),
    )
    if config.network == "socks":
        config = attrs.evolve(config, tors=())
    if config.network != "tor":
        config = attrs.evolve(
            config, server=attrs.evolve(config.server, listen=FREE_PORT, public_address=FREE_PORT)
        )
    elif config.server.public_address.is_loopback:
        raise ConfigError([f"{config.path}: [server] public-address: needed to measure the public Tor network"])
    names = [tor.name for tor in config.tors] or ["default"]
    if request.tor not in names:
        raise ConfigError([f"{config.path}: no tor is named {request.tor!r}; there is {', '.join(names)}"])
    return attrs.evolve(
        config,
        tors=tuple(tor for tor in config.tors if tor.name == request.tor),
        server=attrs.evolve(config.server, max_size=max(config.server.max_size, request.size)),
    )


async def _run(
    reactor: Any,
    laboratory: Laboratory,
    config: Config,
    request: Request,
    printer: JSONPrinter | TablePrinter,
    interruption: Interruption,
) -> None:
    laboratory.startService()
    patience = _patience(config)
    download = laboratory.download(_experiment(request), request.tor, "public")
    await _prepare(reactor, download, patience)
    with printer:
        while len(printer.measurements) < request.count and not interruption.came:
            if download.tor.not_ready is not None:
                await _prepare(reactor, download, patience)
            printer.add(await download.run(None))


def _experiment(request: Request) -> ExperimentConfig:
    return ExperimentConfig(
        name="measure",
        type="download",
        size=request.size,
        interval=request.timeout,
        offset=0.0,
        timeout=request.timeout,
        tors=(request.tor,),
        servers=("public",),
    )


class NotPreparedError(Exception):
    """The tor cannot be used, and has had its time; the message says why not."""


def _patience(config: Config) -> float:
    """Seconds in which the tor must be ready."""
    bootstrap = max((tor.bootstrap_timeout for tor in config.tors), default=300.0)
    return bootstrap + (testnet.DEADLINE if config.network == "testnet" else 0.0)


async def _prepare(reactor: Any, download: Download, patience: float) -> None:
    """Wait until the tor of ``download`` can be used, and show meanwhile why it cannot.

    Raises NotPreparedError after ``patience`` seconds.
    """
    tor = download.tor
    with Progress("preparing") as progress:
        over: Deferred[None] = Deferred()

        def look() -> None:
            progress.update(tor.not_ready or "ready")
            if tor.not_ready is None and not over.called:
                over.callback(None)

        shown = LoopingCall(look)
        shown.clock = reactor
        shown.start(0.2)
        try:
            await over.addTimeout(patience, reactor)
        except DeferredTimeoutError:
            raise NotPreparedError(f"given up after {patience:.0f} s: {tor.not_ready}") from None
        finally:
            shown.stop()


class Unrecorded:
    """Takes the records of circuits, streams and events, and keeps none."""

    def record_circuit(self, circuit: Circuit) -> None:
        pass

    def record_stream(self, stream: Stream) -> None:
        pass

    def record_event(self, event: TorEvent) -> None:
        pass


class JSONPrinter:
    """One JSON object per line."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []

    def __enter__(self) -> JSONPrinter:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        sys.stdout.write(json.dumps(measurement.as_dict()) + "\n")
        sys.stdout.flush()


class TablePrinter:
    """A table that grows, with the medians at its end; plain lines where nobody watches."""

    HEADINGS = ("#", "outcome", "circuit", "first byte", "complete", "speed", "what happened")

    def __init__(self, request: Request, network: str) -> None:
        self.measurements: list[Measurement] = []
        self._request = request
        self._title = f"{request.count} x {format_size(request.size)} over {request.tor}, network {network}"
        self._console = Console(highlight=False)
        self._live: Live | None = None

    def __enter__(self) -> TablePrinter:
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, auto_refresh=False)
            self._live.start()
        else:
            sys.stdout.write(self._title + "\n" + _line(self.HEADINGS))
            sys.stdout.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
        elif self.measurements:
            sys.stdout.write(_line(_summary(self.measurements)))
            sys.stdout.flush()

    def add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            sys.stdout.write(_line(_row(len(self.measurements), measurement)))
            sys.stdout.flush()

    def _table(self) -> Table:
        done = len(self.measurements)
        table = Table(title=f"{self._title}: {done} of {self._request.count} done")
        for heading in self.HEADINGS:
            table.add_column(heading, justify="left" if heading in ("outcome", "what happened") else "right")
        shown = self.measurements[-(self._console.height - 8) :] if self._console.height > 12 else []
        for number, measurement in enumerate(shown, start=done - len(shown) + 1):
            table.add_row(*_row(number, measurement))
        if self.measurements:
            table.add_section()
            table.add_row(*_summary(self.measurements))
        return table


def _line(cells: Iterable[str]) -> str:
    return "".join(f"{cell:<12}" for cell in cells).rstrip() + "\n"


def _row(number: int, m: Measurement) -> tuple[str, ...]:
    return (
        str(number),
        m.outcome.value,
        _seconds(_since(m.start, m.response)),
        _seconds(_since(m.start, m.dataresponse)),
        _seconds(_since(m.start, m.datacomplete)),
        _speed(m.filesize, _since(m.dataresponse, m.datacomplete)),
        " ".join(filter(None, (m.errorcode, m.reason))),
    )


def _summary(measurements: list[Measurement]) -> tuple[str, ...]:
    complete = [m for m in measurements if m.outcome is Outcome.OK]
    steps = (("start", "response"), ("start", "dataresponse"), ("start", "datacomplete"))
    medians = [_median([_since(getattr(m, a), getattr(m, b)) for m in complete]) for a, b in steps]
    transfer = _median([_since(m.dataresponse, m.datacomplete) for m in complete])
    size = measurements[0].filesize
    return (
        "median",
        f"{len(complete)}/{len(measurements)} ok",
        *(_seconds(median) for median in medians),
        _speed(size, transfer),
        "",
    )


def _since(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else later - earlier


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _speed(size: int, seconds: float | None) -> str:
    return "-" if not seconds else f"{size * 8 / seconds / 1e6:.1f} Mbit/s"
