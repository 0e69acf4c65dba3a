"""``perfd measure``: measurements at once, without a daemon, as a live table or as JSON lines."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from perfd.cli.csv_output import CSV
from perfd.cli.foreground import Interruption, run_reactor
from perfd.cli.networks import overrides as using
from perfd.cli.privileges import work_as_owner
from perfd.cli.standalone import (
    FREE_PORT,
    NotReadyError,
    default_path,
    own_instance,
    patience,
    prepare,
    private_network,
)
from perfd.cli.tables import Column, Display, Table, lay_out
from perfd.clock import Clock
from perfd.config import Config, ConfigError, load_config, parse_config
from perfd.config.kinds import kind_of
from perfd.config.reader import DEFAULT_MAX_SIZE
from perfd.config.records import ELSEWHERE
from perfd.daemon.order import StartError
from perfd.experiments.highlights import highlights
from perfd.instance import InstanceError
from perfd.laboratory import Laboratory
from perfd.reactor import installed_reactor
from perfd.record import REQUEST, Measurement, Outcome
from perfd.tor.events.sink import NullEventSink
from perfd.tor.testnet.users import kept_for
from perfd.units import format_size, parse_size

NAME = "measure"
"""The experiment's name if it is not one of perfd.conf."""
KEEP_HINT = "(with --keep the private network goes on for a while, and the next start takes two or three seconds)\n"


@attrs.frozen(kw_only=True)
class MeasureOptions:
    """What to measure: an ``experiment`` of perfd.conf, or one of its own; ``options`` count more than the file's.

    ``network`` None: as configured. ``count`` rounds are run, each over every tor and way of the experiment.
    """

    experiment: str | None
    options: Mapping[str, str]
    count: int
    network: str | None
    testnet: Path | None = None  # the directory of a private network
    keep: str | None = None  # for how long one that was started stays when nobody uses it


def measure(path: Path | None, wanted: MeasureOptions, display: Display | CSV | None) -> int:
    """Run the measurements and print them, as JSON without a ``display``; 0 if all of them succeeded.

    ``path`` is a perfd.conf, if there is one.

    Nothing is stored but the keys of the private network and the data of tor, which make the next start faster.
    SIGINT and SIGTERM end them early. Raises ConfigError and InstanceError.
    """
    reactor = installed_reactor()
    config = _prepared(path, wanted)
    with own_instance(config):
        printer = _printer(config, wanted.count, display)
        laboratory = Laboratory(reactor, Clock(), config, {}, NullEventSink())
        try:
            run_reactor(
                reactor,
                lambda interruption: _run(reactor, laboratory, config, wanted.count, printer, interruption),
                laboratory.stopService,
            )
        except (StartError, NotReadyError) as error:
            raise InstanceError(str(error)) from None
        except CancelledError:
            return 1
    if sys.stderr.isatty() and _may_be_kept(config, wanted):
        sys.stderr.write(KEEP_HINT)
    complete = printer.rounds == wanted.count
    return 0 if complete and all(m.outcome is Outcome.OK for m in printer.measurements) else 1


def _prepared(path: Path | None, wanted: MeasureOptions) -> Config:
    """The configuration for this one time, in a directory of its own, so that a running daemon is left alone."""
    name = wanted.experiment or NAME
    options = dict(wanted.options)
    if wanted.experiment is not None:
        known = [each.name for each in load_config(path).experiments] if path is not None else []
        if name not in known:
            there = f"; there is {', '.join(known)}" if known else ""
            raise ConfigError([f"{path or 'perfd.conf'}: no experiment is named {name!r}{there}"])
    if wanted.experiment is None:
        options = {"timeout": "60 s", "interval": "366 d", **options}
    overrides: dict[str, Mapping[str, str]] = {f"experiment:{name}": options}
    if _is_large(options.get("size", "")):
        overrides["server"] = {"max-size": options["size"]}
    overrides |= using(wanted.testnet, wanted.keep)
    if wanted.network is not None:
        overrides["perfd"] = {**overrides.get("perfd", {}), "network": wanted.network}
    if path is None:
        # The public network needs the address of this machine, which only a perfd.conf can tell.
        config = parse_config("", default_path(), overrides, name)
    else:
        config = load_config(path, overrides, name)
        work_as_owner(config)
    directory = config.directory / "measure"
    config = attrs.evolve(config, directory=directory, testnet=private_network(config, wanted.testnet, directory))
    used = {
        *config.experiments[0].tors,
        *([config.server.onion_tor] if "onion" in config.experiments[0].servers else []),
    }
    config = attrs.evolve(config, tors=tuple(tor for tor in config.tors if tor.name in used))
    if config.network == "tor":
        return config
    server = attrs.evolve(
        config.server, listen=FREE_PORT, public_address=FREE_PORT, page_ports=(0,) * len(config.server.page_ports)
    )
    return attrs.evolve(config, server=server)


def _is_large(size: str) -> bool:
    """Whether the size is more than servers give out by default."""
    with suppress(ValueError):  # that is told with all other mistakes
        return parse_size(size) > DEFAULT_MAX_SIZE
    return False


async def _run(
    reactor: IReactorTime,
    laboratory: Laboratory,
    config: Config,
    rounds: int,
    printer: RecordPrinter | TablePrinter,
    interruption: Interruption,
) -> None:
    laboratory.startService()
    variants = laboratory.experiments(config.experiments[0])
    for variant in variants:
        await prepare(reactor, partial(getattr, variant, "not_ready"), patience(config))
    with printer:
        for _ in range(rounds):
            for variant in variants:
                if interruption.came:
                    return
                # A tor may be lost and come back between two rounds: that is no reason for a skipped one.
                if variant.not_ready is not None:
                    await prepare(reactor, partial(getattr, variant, "not_ready"), patience(config))
                await variant.run(None, printer.record)
            printer.rounds += 1


def _may_be_kept(config: Config, wanted: MeasureOptions) -> bool:
    """Whether a private network was started for this measurement alone, and is gone again."""
    is_own = config.network == "testnet" and config.testnet == config.directory / "testnet"
    return is_own and wanted.keep is None and kept_for(config.testnet) is None


def _printer(config: Config, rounds: int, display: Display | CSV | None) -> RecordPrinter | TablePrinter:
    if isinstance(display, Display):
        return TablePrinter(config, rounds, display)
    csv = display
    return RecordPrinter(_print_json if csv is None else lambda measurement: csv.measurements([measurement]))


def _print_json(measurement: Measurement) -> None:
    sys.stdout.write(json.dumps(measurement.as_dict()) + "\n")


class RecordPrinter:
    """Each measurement for other programs, when it has ended."""

    def __init__(self, write: Callable[[Measurement], None]) -> None:
        self.measurements: list[Measurement] = []
        self.rounds = 0
        self._write = write

    def __enter__(self) -> RecordPrinter:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def record(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        self._write(measurement)
        sys.stdout.flush()


class TablePrinter:
    """A table that grows, with the medians at its end; plain lines where nobody watches."""

    COLUMNS = (
        *(Column("#", number=True), Column("outcome"), Column("circuit", number=True, rank=2)),
        *(Column("first byte", number=True), Column("complete", number=True), Column("speed", number=True, rank=1)),
        Column("what happened", prose=True),
    )

    def __init__(self, config: Config, rounds: int, display: Display) -> None:
        self.measurements: list[Measurement] = []
        self.rounds = 0
        experiment = config.experiments[0]
        urls = [experiment.url] if experiment.url is not None else [each.url for each in experiment.targets]
        servers = urls or [way for way in experiment.servers if way != "public"]
        ways = ", ".join((*experiment.tors, *servers))
        what = f"{experiment.type} {format_size(experiment.size)}" if experiment.size else experiment.type
        several = (experiment.tors, experiment.targets or experiment.servers, experiment.browsers)
        self._several = any(len(each) > 1 for each in several)
        self._title = f"{rounds} x {what} over {ways}, network {config.network}"
        self._grows = display.width is not None
        self._console = Console(highlight=False, no_color=display.console.no_color)
        self._live: Live | None = None

    def __enter__(self) -> TablePrinter:
        if self._grows:
            self._live = Live(self._table(), console=self._console, auto_refresh=False)
            self._live.start()
        else:
            sys.stdout.write(self._title + "\n" + _line([column.heading for column in self.COLUMNS]))
            sys.stdout.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
        elif self.measurements:
            sys.stdout.write(_line(_summary(self.measurements)))
            sys.stdout.flush()

    def record(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            sys.stdout.write(_line(_row(len(self.measurements), measurement, named=self._several)))
            sys.stdout.flush()

    def _table(self) -> Group:
        return Group(*self.lines(self._console.width, self._console.height))

    def lines(self, width: int, height: int) -> list[Text]:
        """The table, with as many of the latest measurements as fit."""
        done = len(self.measurements)
        first = max(0, done - height)
        rows = [
            _row(number, measurement, named=self._several)
            for number, measurement in enumerate(self.measurements[first:], start=first + 1)
        ]
        end = [_summary(self.measurements)] if done else []
        while True:
            lines = lay_out(Table(f"{self._title}: {done} done", self.COLUMNS, [*rows, *end]), width)
            if len(lines) < height or not rows:
                return lines
            rows = rows[max(1, (len(lines) - height) // 2) :]


def _line(cells: Iterable[str]) -> str:
    return "".join(f"{cell:<11} " for cell in cells).rstrip() + "\n"


def _details(m: Measurement, *, named: bool) -> str:
    ways = [word for word in (m.tor, m.server) if word and word != ELSEWHERE] if named else []
    return " ".join(filter(None, (*ways, *highlights(m), m.errorcode, m.reason)))


def _row(number: int, m: Measurement, *, named: bool) -> tuple[str, ...]:
    return (
        str(number),
        m.outcome.value,
        _seconds(_since(m.start, m.response)),
        _seconds(_since(m.start, m.dataresponse)),
        _seconds(_since(m.start, m.datacomplete)),
        _speed(m),
        _details(m, named=named),
    )


def _summary(measurements: list[Measurement]) -> tuple[str, ...]:
    """The medians; of series those of their requests."""
    measurements = [m for m in measurements if m.type == REQUEST] or measurements
    complete = [m for m in measurements if m.outcome is Outcome.OK]
    steps = (("start", "response"), ("start", "dataresponse"), ("start", "datacomplete"))
    medians = [_median([_since(getattr(m, a), getattr(m, b)) for m in complete]) for a, b in steps]
    speed = _median([_bytes_per_second(m) for m in complete])
    return (
        "median",
        f"{len(complete)}/{len(measurements)} ok",
        *(_seconds(median) for median in medians),
        _mbit(speed),
        "",
    )


def _since(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else later - earlier


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _bytes_per_second(m: Measurement) -> float | None:
    """The payload over the time in which it came, wherever it went; None for exchanges at a fixed rate."""
    kind = kind_of(m.type)
    if not kind.has_speed:
        return None
    seconds = _since(m.dataresponse, m.datacomplete)
    if kind.is_sent:
        seconds = _since(m.dataperc.get(0), m.dataperc.get(100))
    return m.payloadbytes / seconds if seconds and m.payloadbytes else None


def _speed(m: Measurement) -> str:
    return _mbit(_bytes_per_second(m))


def _mbit(speed: float | None) -> str:
    return "-" if speed is None else f"{speed * 8 / 1e6:.1f} Mbit/s"
