"""Perfd's own metrics for Prometheus: counted as measurements end, never measured or queried for a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from perfd.config.kinds import kind_of
from perfd.daemon.disk import Room
from perfd.daemon.health import VariantHealth
from perfd.interfaces import Tor
from perfd.record import EMPTY, REQUEST, Measurement, Outcome
from perfd.variant import COLUMNS, Variant

BUCKETS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600)
"""Seconds: from a private network's round trip to the timeout of a slow download."""

VARIANT = ("experiment", *COLUMNS)
"""The labels of all that is counted of measurements; empty is what a record does not have."""


class Metrics:
    """A sink that counts measurements, and the answer of ``/metrics``.

    ``pending`` gives the number of records that wait for the database.
    """

    def __init__(self, source: str, version: str, pending: Callable[[], int]) -> None:
        self._registry = (
            CollectorRegistry()
        )  # the library's own is global, and would have two services share counters
        self._measurements = Counter(
            "perfd_measurements",
            "Measurements by outcome, skipped slots included.",
            (*VARIANT, "outcome"),
            registry=self._registry,
        )
        self._skipped = Counter(
            "perfd_skipped_slots",
            "Runs that were skipped, by reason: one for each variant in each slot.",
            (*VARIANT, "errorcode"),
            registry=self._registry,
        )
        self._first_byte = self._histogram(
            "perfd_first_byte_seconds", "From START to the first byte of the response, of successes."
        )
        self._complete = self._histogram(
            "perfd_complete_seconds", "From START to the last byte of the payload, of successes."
        )
        self._certificate = Gauge(
            "perfd_certificate_end_timestamp_seconds",
            "When the certificate of a server that is measured with TLS is not valid any more, as last seen.",
            VARIANT,
            registry=self._registry,
        )
        self._states = _States(source, version, pending)
        self._registry.register(self._states)

    def watch_tors(self, tors: Sequence[Tor], unparsed: Mapping[str, Callable[[], int]] = EMPTY) -> None:
        """Show the states of ``tors``; ``unparsed`` has, by name, what counts the events not understood."""
        self._states.tors = tuple(tors)
        self._states.unparsed = unparsed

    def watch_server(self, sent: Callable[[], int]) -> None:
        """Show the bytes that our web server has sent."""
        self._states.sent = sent

    def watch_hold_ups(self, seconds: Callable[[], float]) -> None:
        """Show for how long the reactor was held up."""
        self._states.held_up = seconds

    def watch_health(self, variants: Callable[[], Iterable[tuple[str, VariantHealth, bool]]]) -> None:
        """Show what ``Health.variants`` says of each."""
        self._states.variants = variants

    def watch_disk(self, room: Callable[[], Room | None]) -> None:
        """Show how much room there is on the disk of the instance, while that is known."""
        self._states.room = room

    def watch(self, experiment: str, kind: str, variants: Iterable[Variant]) -> None:
        """Show ``variants`` of ``experiment``, which is of the type ``kind``, from the start, with zeros.

        A series that begins with its first value hides it.
        """
        for variant in variants:
            labels = _labels(experiment, variant)
            for outcome in Outcome:
                self._measurements.labels(*labels, outcome.value)
            if kind_of(kind).is_timed:
                for histogram in (self._first_byte, self._complete):
                    histogram.labels(*labels)

    def record(self, measurement: Measurement) -> None:
        m = measurement
        if m.type == REQUEST:  # its series counts
            return
        labels = _labels(m.experiment, Variant.of(m))
        self._measurements.labels(*labels, m.outcome.value).inc(m.slots)
        if m.outcome is Outcome.SKIPPED:
            self._skipped.labels(*labels, m.errorcode or "").inc(m.slots)
        if isinstance(certificate_end := m.extra.get("CERTIFICATEEND"), float):
            self._certificate.labels(*labels).set(certificate_end)
        if m.outcome is not Outcome.OK or not kind_of(m.type).is_timed:
            return
        for histogram, end in ((self._first_byte, m.dataresponse), (self._complete, m.datacomplete)):
            if end is not None:
                histogram.labels(*labels).observe(end - m.start)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, doc: str) -> Histogram:
        return Histogram(name, doc, VARIANT, buckets=BUCKETS, registry=self._registry)


def _labels(experiment: str, variant: Variant) -> tuple[str, ...]:
    return (experiment, *("" if value is None else str(value) for value in attrs.astuple(variant)))


class _States(Collector):
    """What other parts of Perfd remember, asked for when it is shown."""

    def __init__(self, source: str, version: str, pending: Callable[[], int]) -> None:
        self._info = {"source": source, "version": version}
        self._pending = pending
        self.tors: Sequence[Tor] = ()
        self.unparsed: Mapping[str, Callable[[], int]] = {}
        self.sent: Callable[[], int] | None = None
        self.held_up: Callable[[], float] | None = None
        self.variants: Callable[[], Iterable[tuple[str, VariantHealth, bool]]] = tuple
        self.room: Callable[[], Room | None] = lambda: None

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("perfd", "This Perfd.", self._info)
        yield GaugeMetricFamily("perfd_database_pending", "Records that wait for the database.", self._pending())
        if self.sent is not None:
            yield CounterMetricFamily("perfd_server_sent_bytes", "Bytes that the web server has sent.", self.sent())
        if self.held_up is not None:
            yield CounterMetricFamily(
                "perfd_held_up_seconds",
                "Time in which the reactor was held up for over 50 ms while something was measured.",
                self.held_up(),
            )
        yield from (*self._disk(), *self._health(), *self._tors())

    def _disk(self) -> Iterator[Metric]:
        free = GaugeMetricFamily(
            "perfd_disk_free_bytes", "Room on the disk of the instance, as of the last minute."
        )
        size = GaugeMetricFamily("perfd_disk_size_bytes", "The size of the disk of the instance.")
        room = self.room()
        if room is not None:
            free.add_metric([], room.free)
            size.add_metric([], room.size)
        yield from (free, size)

    def _health(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily(
            "perfd_healthy", "0 if a variant had no success for three intervals, as in /health.", labels=VARIANT
        )
        success = GaugeMetricFamily(
            "perfd_last_success_timestamp_seconds",
            "When the last success ended, once there is one.",
            labels=VARIANT,
        )
        for experiment, health, is_healthy in self.variants():
            labels = _labels(experiment, health.variant)
            healthy.add_metric(labels, is_healthy)
            if health.last_success is not None:
                success.add_metric(labels, health.last_success)
        yield from (healthy, success)

    def _tors(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("perfd_tor_ready", "1 if measurements can run over this tor.", labels=["tor"])
        bootstrap = GaugeMetricFamily(
            "perfd_tor_bootstrap_percent", "How far each tor has bootstrapped, once it is known.", labels=["tor"]
        )
        info = InfoMetricFamily("perfd_tor", "The version of each tor, once it is known.", labels=["tor"])
        unparsed = CounterMetricFamily(
            "perfd_control_events_unparsed", "Events of each tor that were not understood.", labels=["tor"]
        )
        for tor in self.tors:
            ready.add_metric([tor.name], tor.not_ready is None)
            percent: int | None = getattr(tor, "bootstrap_percent", None)  # a SOCKS proxy has none
            if percent is not None:
                bootstrap.add_metric([tor.name], percent)
            if tor.version is not None:
                info.add_metric([tor.name], {"version": tor.version})
            count = self.unparsed.get(tor.name)
            unparsed.add_metric([tor.name], 0 if count is None else count())
        yield from (ready, bootstrap, info, unparsed)
