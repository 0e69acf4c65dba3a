"""Perfd with one more field of ``Variant``: what each part of it then tells variants apart by, as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import attrs

import perfd.variant
from perfd.record import Outcome
from tests.support.strategies import typical


@attrs.frozen
class Wider(perfd.variant.Variant):
    """Page loads of different pages are kept apart."""

    page: str | None = attrs.field(default=None, metadata={"key": "PAGE", "doc": "of page loads"})


def main(directory: Path) -> dict[str, Any]:
    """Fill a database with runs of two variants that only differ in the new field, and ask each part about them."""
    perfd.variant.Variant = Wider  # type: ignore[misc]
    perfd.variant.COLUMNS = tuple(field.name for field in attrs.fields(Wider))
    # Only now: what these make of the fields, they make when they are imported.
    from perfd.cli.daemon import _experiment_lines
    from perfd.cli.results import Summary
    from perfd.clock import Clock
    from perfd.daemon.health import Health
    from perfd.daemon.metrics import Metrics
    from perfd.logfile.file import LogStatus
    from perfd.store.inserts import insert_many
    from perfd.store.reader import StoreReader
    from perfd.store.schema import open_database
    from perfd.web.results.pages import _report_schema

    good = typical(1, extra={"PAGE": "light"})
    bad = typical(2, extra={"PAGE": "heavy"}, outcome=Outcome.FAILED)
    light, heavy = Wider.of(good), Wider.of(bad)
    path = directory / "perfd.sqlite"
    connection = open_database(path)
    insert_many(connection, [good, bad])
    metrics = Metrics("test", "0", lambda: 0)
    well = partial(LogStatus, None, None)
    health = Health(Clock(), "test", "0", database=well, log=well)
    health.watch(good.experiment, 60.0, lambda: None, [light, heavy])
    for m in (good, bad):
        metrics.record(m)
        health.record(m)
    with StoreReader(path) as reader:
        histories = [reader.history(good.experiment, each, bad.start + 1) for each in (light, heavy)]
    (experiment,) = health.report()["experiments"]
    return {
        "histories": [attrs.asdict(each)["failures"] for each in histories if each is not None],
        "metrics": metrics.exposition().decode(),
        "health": [(each["page"], each["failures"]) for each in experiment["variants"]],
        "status": list(_experiment_lines(experiment)),
        "summary": Summary(good.experiment, light).as_dict()["page"],
        "schema": json.dumps(_report_schema()),
    }


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
