"""What a package needs that has a kind of experiment of its own; docs/extending.md shows one.

These names stay as they are from one version of Perfd to the next, or the changelog says so.
"""

from perfd.clock import Clock, Timeline
from perfd.config.extensions import Extension
from perfd.config.kind import Context, Kind, Time
from perfd.config.options import Option, size
from perfd.config.records import ExperimentConfig
from perfd.config.section import Section
from perfd.config.values import one_of, positive, whole_number, yes_or_no
from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.transfer import Transfer
from perfd.record import EMPTY, Error, Measurement, Outcome
from perfd.units import parse_duration, parse_size

__all__ = [
    "EMPTY",
    "Clock",
    "Context",
    "Error",
    "ExperimentConfig",
    "Extension",
    "Extra",
    "Kind",
    "Measurement",
    "Option",
    "Outcome",
    "Record",
    "Run",
    "Section",
    "Setup",
    "Time",
    "Timeline",
    "Transfer",
    "one_of",
    "parse_duration",
    "parse_size",
    "positive",
    "size",
    "whole_number",
    "yes_or_no",
]
