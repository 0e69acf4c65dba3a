"""Dashboards and alert rules: what they name is there, and each alert fires when it should.

The rules run in Debian's Prometheus: over weeks of made-up samples with promtool, and over some seconds of real
scrapes in a server.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perfd.daemon.disk import Room, read_room
from perfd.daemon.health import VariantHealth
from perfd.daemon.metrics import Metrics
from perfd.record import Outcome
from perfd.variant import Variant
from tests.support.instance import TestInstance, free_port, running, wait_for
from tests.support.places import CHECKOUT
from tests.support.strategies import typical
from tests.support.tors import SomeTor

TEMPLATES = CHECKOUT / "perfd" / "templates"
RULES = TEMPLATES / "prometheus" / "perfd.rules.yml"
DASHBOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in TEMPLATES.glob("grafana/*.json")}
ALERTS = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Debian's prometheus is not installed"
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestInstance]:
    """A real instance."""
    made = TestInstance(tmp_path_factory.mktemp("instance"))
    made.start()
    yield made
    made.perfd("stop")


def names_of(exposition: bytes) -> set[str]:
    """The names of all samples that the families of a scrape can have, also of those without any yet."""
    suffixes = {
        "counter": ("_total",),
        "info": ("_info",),
        "gauge": ("",),
        "histogram": ("_bucket", "_count", "_sum"),
    }
    return {
        family.name + suffix
        for family in text_string_to_metric_families(exposition.decode())
        for suffix in (*suffixes[family.type], "")
    }


def expressions(board: dict[str, Any]) -> list[str]:
    """The queries of a dashboard, with what Grafana would put in for its variables."""
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [re.sub(r"\$\w+", "a", each.replace("$__rate_interval", "5m")) for each in found]


def test_names(instance: TestInstance) -> None:
    """Every metric that rules and dashboards name is one that /metrics of a real instance gives."""
    status, exposition = instance.get("/metrics")
    assert status == 200
    given = names_of(exposition)
    for path in (RULES, *TEMPLATES.glob("grafana/*.json")):
        named = set(re.findall(r"\bperfd_\w+", path.read_text(encoding="utf-8")))
        assert named
        assert named <= given, path.name
    values = {
        sample.name for family in text_string_to_metric_families(exposition.decode()) for sample in family.samples
    }
    assert {"perfd_healthy", "perfd_disk_free_bytes", "perfd_disk_size_bytes", "perfd_tor_ready"} <= values


def test_room(tmp_path: Path) -> None:
    """What statvfs(3) says of the disk, within what others write meanwhile."""
    room = read_room(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    assert room.size == usage.total
    assert abs(room.free - usage.free) < usage.total / 10


@pytest.mark.parametrize("name", ["fleet", "instance", "experiment", "onion-service"])
def test_dashboards(name: str) -> None:
    """Each panel has a place of its own and says what it shows; the source of data is a variable."""
    board = DASHBOARDS[name]
    assert board["uid"] == f"perfd-{name}"
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known = {variable["name"] for variable in board["templating"]["list"]}
    for panel in board["panels"]:
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = {
        match
        for target in re.findall(r'"expr": "(.*?[^\\])"', json.dumps(board))
        for match in re.findall(r"\$([a-z]\w*)", target)
    }
    assert used <= known


@needs_prometheus
def test_queries(tmp_path: Path) -> None:
    """Prometheus understands the query of every panel."""
    rules = [{"record": "a", "expr": each} for board in DASHBOARDS.values() for each in expressions(board)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "a", "rules": rules}]}), encoding="utf-8")
    # Alike names are only warned of: all are checked.
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def case(interval: str, series: dict[str, str], *firing: tuple[str, set[str]]) -> dict[str, Any]:
    """Samples as promtool writes them, and the alerts that fire then at each time."""
    tests = [
        {
            "expr": FIRING,
            "eval_time": at,
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
        for at, names in firing
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": interval, "input_series": inputs, "promql_expr_test": tests}


def promtool(tmp_path: Path, step: str, cases: list[dict[str, Any]]) -> None:
    """Let promtool evaluate the rules every ``step`` of each case's time."""
    file = tmp_path / "test.yml"
    text = {"rule_files": [str(RULES)], "evaluation_interval": step, "tests": cases}
    file.write_text(json.dumps(text), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def outcomes(ok: str, failed: str, timeout: str = "0x400") -> dict[str, str]:
    """Counts of one variant."""
    counts = {"ok": ok, "failed": failed, "timeout": timeout, "skipped": "0+1x400"}
    return {f'perfd_measurements_total{{experiment="a",outcome="{name}"}}': each for name, each in counts.items()}


@needs_prometheus
def test_alerts_within_hours(tmp_path: Path) -> None:
    """Each fires after its time, and not while all is well."""
    well = {
        'up{job="perfd"}': "1x400",
        'perfd_healthy{experiment="a"}': "1x400",
        'perfd_tor_ready{tor="a"}': "1x400",
        "perfd_disk_free_bytes": "500+0x400",
        "perfd_disk_size_bytes": "1000x400",
        "perfd_database_pending": "100x400",
        **outcomes("0+8x400", "0+1x400", "0+1x400"),
    }
    promtool(
        tmp_path,
        "1m",
        [
            case("1m", well, ("6h", set())),
            case(
                "1m",
                {'up{job="perfd"}': "1x9 0x20", 'up{job="other"}': "0x30"},
                ("14m", set()),
                ("15m", {"PerfdDown"}),
            ),
            case("1m", {"perfd_healthy": "0x10"}, ("4m", set()), ("5m", {"PerfdStale"})),
            case("1m", {"perfd_tor_ready": "0x20"}, ("9m", set()), ("10m", {"PerfdTorDown"})),
            case(
                "1m",
                {"perfd_disk_free_bytes": "49x20", "perfd_disk_size_bytes": "1000x20"},
                ("9m", set()),
                ("10m", {"PerfdDiskLow"}),
            ),
            case("1m", {"perfd_disk_free_bytes": "9000-1x400"}, ("1h", set()), ("6h", set())),  # full in six days
            case("1m", {"perfd_disk_free_bytes": "5000-1x400"}, ("1h", set()), ("1h2m", {"PerfdDiskFilling"})),
            case("1m", {"perfd_database_pending": "101x20"}, ("9m", set()), ("10m", {"PerfdDatabaseBehind"})),
            case("1m", outcomes("0+2x400", "0+1x400"), ("29m", set()), ("5h", {"PerfdFailing"})),
            case("1m", outcomes("0+2x400", "0x400", "0+1x400"), ("5h", {"PerfdFailing"})),
        ],
    )


def durations(fast: str, slow: str, every: str) -> dict[str, str]:
    """The histogram of one variant: ``fast`` counts times up to 1 s, ``slow`` those up to 3 s."""
    values = {
        '_bucket{le="0.75"': "0x400",
        '_bucket{le="1"': fast,
        '_bucket{le="3"': slow,
        '_bucket{le="+Inf"': slow,
    }
    return {f'perfd_complete_seconds{name},experiment="a"}}': each for name, each in values.items()} | {
        'perfd_complete_seconds_count{experiment="a"}': every
    }


@needs_prometheus
def test_slow_against_its_own(tmp_path: Path) -> None:
    """The median of a day against that of the 28 days before it: 0.9 s, then 2 s from day 29 on."""
    slow = durations("0+12x348 4176+0x50", "0+12x400", "0+12x400")
    promtool(
        tmp_path,
        "2h",
        [
            case("2h", slow, ("20d", set()), ("29d6h", set()), ("29d20h", {"PerfdSlow"})),
            case("2h", durations("0+12x360", "0+12x360", "0+12x360"), ("29d20h", set())),
            # As slow, but from too few measurements to tell: 9 a day.
            case("2h", durations("0+0.75x348 261+0x50", "0+0.75x400", "0+0.75x400"), ("29d20h", set())),
        ],
    )


@contextmanager
def unwell() -> Iterator[str]:
    """The address of a ``/metrics`` of an instance for which all goes wrong, more with each scrape."""
    metrics = Metrics("unwell", "1.0", lambda: 200)
    metrics.watch_tors([SomeTor("a", None, "bootstrapping")])  # type: ignore[list-item]
    health = VariantHealth(Variant("default", "public"), 1.0, 0.0)
    metrics.watch_health(lambda: [("download-50k", health, False)])
    free = 2**30

    def room() -> Room:
        nonlocal free
        free -= 2**20
        return Room(free, 2**40)

    metrics.watch_disk(room)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            metrics.record(typical(outcome=Outcome.FAILED))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(metrics.exposition())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


@needs_prometheus
def test_real_prometheus(tmp_path: Path, instance: TestInstance) -> None:
    """Prometheus scrapes a real instance, for which nothing fires, one that is unwell, and one that is gone.

    All alerts fire, with no waiting; but for the slow one, which needs days.
    """
    well, gone = f"127.0.0.1:{instance.port}", f"127.0.0.1:{free_port()}"
    rules = re.sub(r"\b(for|interval): \w+", r"\1: 1s", RULES.read_text(encoding="utf-8")).replace(
        "for: 1s", "for: 0s"
    )
    (tmp_path / "rules.yml").write_text(rules, encoding="utf-8")
    with unwell() as unwell_at:
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "perfd", "static_configs": [{"targets": [well, unwell_at, gone]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        listen = f"127.0.0.1:{free_port()}"
        command = [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={listen}",
        ]
        with (tmp_path / "log").open("wb") as log, running(command, cwd=tmp_path, stdout=log, stderr=log):

            def asked(path: str) -> Any:
                try:
                    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                    with opener.open(f"http://{listen}/api/v1/{path}", timeout=10) as response:
                        return json.load(response)["data"]
                except OSError:
                    return {}

            def firing() -> set[tuple[str, str]]:
                alerts = asked("alerts").get("alerts", [])
                return {
                    (each["labels"]["alertname"], each["labels"]["instance"])
                    for each in alerts
                    if each["state"] == "firing"
                }

            wanted = {(name, unwell_at) for name in ALERTS - {"PerfdDown", "PerfdSlow"}} | {("PerfdDown", gone)}
            wait_for(lambda: wanted <= firing(), f"alerts {wanted}", 30)
            (healthy,) = asked(f'query?query=perfd_healthy{{instance="{well}"}}')["result"]
            assert healthy["value"][1] == "1"
            assert {name for name, at in firing() if at == well} <= {"PerfdDiskLow", "PerfdDiskFilling"}
            # What this machine's disk says is this machine's, not ours to assert.
