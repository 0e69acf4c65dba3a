"""Metrics for Prometheus."""

from __future__ import annotations

from typing import Any

import attrs
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource

from perfd.daemon.metrics import Metrics
from perfd.record import Error, Outcome
from perfd.variant import Variant
from perfd.web.results.answers import Access
from perfd.web.results.pages import METRICS_TYPE, MetricsPage
from tests.support.strategies import typical
from tests.support.tors import SomeTor
from tests.support.web_client import SiteTestCase, get

WAY = {
    "experiment": "download-50k",
    "tor": "default",
    "server": "public",
    "browser": "",
    "optimistic": "",
    "url": "",
}
"""The labels of a typical measurement."""


def parsed(text: bytes) -> dict[tuple[Any, ...], float]:
    """The samples: name and labels, to value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@attrs.frozen
class BootstrappingTor(SomeTor):
    """One that says how far it has come."""

    bootstrap_percent: int | None


class MetricsTests(SynchronousTestCase):
    """What is counted."""

    def setUp(self) -> None:
        self.pending = 0
        self.metrics = Metrics("example", "1.2", lambda: self.pending)

    def value(self, name: str, **labels: str) -> float | None:
        return parsed(self.metrics.exposition()).get((name, *sorted(labels.items())))

    def test_outcomes(self) -> None:
        """Measurements by variant and outcome; skipped slots by reason too."""
        for outcome in (Outcome.OK, Outcome.OK, Outcome.TIMEOUT):
            self.metrics.record(typical(outcome=outcome))
        self.metrics.record(typical(outcome=Outcome.SKIPPED, errorcode=Error.BUSY, tor=None, server=None))
        self.assertEqual(self.value("perfd_measurements_total", **WAY, outcome="ok"), 2)
        self.assertEqual(self.value("perfd_measurements_total", **WAY, outcome="timeout"), 1)
        nothing = WAY | {"tor": "", "server": ""}
        self.assertEqual(self.value("perfd_measurements_total", **nothing, outcome="skipped"), 1)
        self.assertEqual(self.value("perfd_skipped_slots_total", **nothing, errorcode="PERFD/BUSY"), 1)

    def test_covering_record(self) -> None:
        """A record that covers many skipped slots weighs as many."""
        extra = {"COUNT": 288, "FROM": 0.0, "UNTIL": 86100.0}
        self.metrics.record(typical(outcome=Outcome.SKIPPED, errorcode=Error.DOWN, extra=extra))
        self.assertEqual(self.value("perfd_measurements_total", **WAY, outcome="skipped"), 288)
        self.assertEqual(self.value("perfd_skipped_slots_total", **WAY, errorcode="PERFD/DOWN"), 288)

    def test_variants(self) -> None:
        """What is measured in different ways does not fall into one histogram."""
        start = typical().start
        way = {"BROWSER": "cold", "OPTIMISTIC": 1}
        for seconds, tor, server, extra in (
            (1, "default", "public", {}),
            (2, "none", "public", {}),
            (3, "default", "onion", {}),
            (4, "default", "public", {"OPTIMISTIC": 0}),
            (5, "default", "public", way),
        ):
            self.metrics.record(typical(tor=tor, server=server, extra=extra, datacomplete=start + seconds))
        for seconds, labels in (
            (1, {}),
            (2, {"tor": "none"}),
            (3, {"server": "onion"}),
            (4, {"optimistic": "0"}),
            (5, {"browser": "cold", "optimistic": "1"}),
        ):
            self.assertEqual(self.value("perfd_complete_seconds_sum", **WAY | labels), seconds)

    def test_series(self) -> None:
        """A series counts, the requests that it consists of do not."""
        for kind in ("request", "request", "series"):
            self.metrics.record(typical(type=kind))
        self.assertEqual(self.value("perfd_measurements_total", **WAY, outcome="ok"), 1)

    def test_histograms(self) -> None:
        """Times of successes from START, each counted when it is known; variants are there before they have any."""
        self.metrics.watch("download-50k", "download", [Variant("default", "public"), Variant("none", "public")])
        for tor in ("default", "none"):
            self.assertEqual(self.value("perfd_complete_seconds_count", **WAY | {"tor": tor}), 0)
        start = typical().start
        self.metrics.record(typical(dataresponse=start + 0.25, datacomplete=start + 4))
        self.metrics.record(typical(dataresponse=start + 0.25, datacomplete=None))
        self.metrics.record(typical(dataresponse=start + 0.25, outcome=Outcome.FAILED))
        self.assertEqual(self.value("perfd_first_byte_seconds_count", **WAY), 2)
        self.assertEqual(self.value("perfd_first_byte_seconds_bucket", **WAY, le="0.2"), 0)
        self.assertEqual(self.value("perfd_first_byte_seconds_bucket", **WAY, le="0.3"), 2)
        self.assertEqual(self.value("perfd_complete_seconds_sum", **WAY), 4)

    def test_certificates(self) -> None:
        """The end of the certificate of each target, as it was seen last; none where there is none."""
        self.metrics.record(typical())
        for end in (1.7e9, 1.8e9):
            self.metrics.record(typical(extra={"URL": "https://a/", "CERTIFICATEEND": end}, outcome=Outcome.FAILED))
        name = "perfd_certificate_end_timestamp_seconds"
        self.assertEqual(self.value(name, **WAY | {"url": "https://a/"}), 1.8e9)
        self.assertIsNone(self.value(name, **WAY))

    def test_types(self) -> None:
        """Types whose durations are configured have no histograms, whether watched or recorded."""
        for kind in ("rtt", "series"):
            self.metrics.watch(kind, kind, [Variant("default", "public")])
            self.metrics.record(typical(experiment=kind, type=kind))
            self.assertIsNone(self.value("perfd_complete_seconds_count", **WAY | {"experiment": kind}))
        for kind in ("download", "upload", "pageload"):
            self.metrics.record(typical(experiment=kind, type=kind))
            self.assertEqual(self.value("perfd_complete_seconds_count", **WAY | {"experiment": kind}), 1)

    def test_first_failure(self) -> None:
        """All outcomes of all variants are counted from 0: what begins with its first value shows no increase."""
        variants = [Variant("default", "public"), Variant("none", "onion", "firefox", 1)]
        for kind in ("download", "rtt"):
            self.metrics.watch(kind, kind, variants)
            for variant in variants:
                labels = {name: str(value or "") for name, value in attrs.asdict(variant).items()}
                for outcome in ("ok", "failed", "timeout", "skipped", "cancelled"):
                    found = self.value("perfd_measurements_total", experiment=kind, outcome=outcome, **labels)
                    self.assertEqual(found, 0)

    def test_tors(self) -> None:
        """Whether each is ready, its version once it is known, and its events that were not understood."""
        tors = [SomeTor("a", "0.4.9.11", None), SomeTor("b", None, "bootstrapping")]
        self.metrics.watch_tors(tors, {"a": lambda: 7})  # type: ignore[arg-type]
        self.assertEqual([self.value("perfd_tor_ready", tor=name) for name in "ab"], [1, 0])
        self.assertEqual(self.value("perfd_tor_info", tor="a", version="0.4.9.11"), 1)
        self.assertEqual([self.value("perfd_control_events_unparsed_total", tor=name) for name in "ab"], [7, 0])

    def test_bootstrap(self) -> None:
        """How far a tor has come, also 0; no series for one that does not say."""
        tors = [BootstrappingTor(name, None, "starting", n) for name, n in (("a", 0), ("b", 45), ("c", None))]
        self.metrics.watch_tors([*tors, SomeTor("d", None, None)])  # type: ignore[list-item]
        found = [self.value("perfd_tor_bootstrap_percent", tor=name) for name in "abcd"]
        self.assertEqual(found, [0, 45, None, None])

    def test_states(self) -> None:
        """Perfd itself, what waits for the database, and the bytes sent, if somebody counts them."""
        self.pending = 3
        self.assertEqual(self.value("perfd_info", source="example", version="1.2"), 1)
        self.assertEqual(self.value("perfd_database_pending"), 3)
        self.assertIsNone(self.value("perfd_server_sent_bytes_total"))
        self.metrics.watch_server(lambda: 5 * 2**40)
        self.assertEqual(self.value("perfd_server_sent_bytes_total"), 5 * 2**40)
        self.metrics.watch_hold_ups(lambda: 0.75)
        self.assertEqual(self.value("perfd_held_up_seconds_total"), 0.75)

    def test_no_globals(self) -> None:
        """Two of them do not know of each other."""
        self.metrics.record(typical())
        other = Metrics("other", "1.2", lambda: 0).exposition()
        self.assertNotIn(b"download-50k", other)
        self.assertNotIn(b"python_info", other)


class PageTests(SiteTestCase):
    """``/metrics``."""

    def children(self) -> dict[str, IResource]:
        self.access = Access("all")
        return {"metrics": MetricsPage(Metrics("example", "1.2", lambda: 0).exposition, self.access)}

    def test_page(self) -> None:
        """Text that Prometheus reads, also for a scraper that sends parameters; closed with the results."""
        status, headers, body = self.ask(get("/metrics?name%5B%5D=x", "Accept: application/openmetrics-text"))
        self.assertEqual((status, headers["Content-Type"]), (200, METRICS_TYPE))
        self.assertEqual(parsed(body)["perfd_database_pending",], 0)
        self.access.allowed = "none"
        self.fails(get("/metrics"), 403)
