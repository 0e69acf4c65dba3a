"""The metrics of runs."""

from __future__ import annotations

import pytest

from perfd.comparison.metrics import METRICS, run_of
from perfd.record import Outcome
from tests.support.strategies import typical


def test_throughput() -> None:
    """That of the payload, whichever way it goes: after an upload the answer takes as long as it will."""
    payload = {"payloadbytes": 1000, "outcome": Outcome.OK}
    times = {"dataresponse": 5.0, "datacomplete": 7.0}
    arrival = {"UPLOADFIRST": 1.0, "UPLOADLAST": 4.0}
    metric = METRICS["throughput"]
    download = typical(1, type="download", extra={}, **payload, **times)
    assert metric.value(run_of(download)) == pytest.approx(0.002)
    upload = typical(2, type="upload", extra=arrival, **payload, **times)
    assert metric.value(run_of(upload)) == pytest.approx(0.003)
    assert metric.value(run_of(typical(3, type="upload", extra={}, **payload, **times))) is None
