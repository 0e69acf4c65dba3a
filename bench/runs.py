"""Runs of experiments outside of a schedule."""

from __future__ import annotations

from perfd.interfaces import Experiment
from perfd.record import Measurement


async def last_record(experiment: Experiment) -> Measurement:
    """Run an experiment once; its record, or the last one of several."""
    records: list[Measurement] = []
    await experiment.run(None, records.append)
    return records[-1]
