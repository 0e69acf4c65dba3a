"""``/about`` and ``/status``: what this instance is, and how it does."""

from __future__ import annotations

import platform
import sqlite3

from markupsafe import Markup

import twisted
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.layout import Page
from perfd.pages.overview import REFRESH, comparisons, parts_of_perfd
from perfd.pages.records import DaemonState, PageRequest, View
from perfd.pages.words import clipped, epoch, experiment_path, summary
from perfd.store.reader import StoreReader
from perfd.units import format_duration, format_size

EXPERIMENTS = (
    *(Heading("Experiment"), Heading("Kind"), Heading("Size", number=True), Heading("Every", number=True)),
    *(Heading("Deadline", number=True, minor=True), Heading("Over"), Heading("Next (UTC)", number=True)),
)

DEFINITIONS = (
    ("Time to first byte", "from the start of a run to the first byte of the answer (START to DATARESPONSE)"),
    ("Time to last byte", "from the start to the last byte of the payload (START to DATACOMPLETE)"),
    ("Throughput", "of the second half of a payload, of 5 MiB of its last fifth, in Mbit/s"),
    ("Median, quartiles", "by linear interpolation, as SQL's PERCENTILE_CONT and Tor Metrics have them"),
    ("Failed, timeout", "it ended early; or its deadline passed. Neither counts in a median of durations"),
    ("Skipped", "nothing was run, for a reason that its record says; it is no failure of Tor's"),
)

HOW = (
    "Perfd serves random bytes and fetches them back through Tor, in one process with one clock: so each run has "
    "the time stamps of both ends. Each run has a circuit of its own unless the experiment says otherwise. Every "
    "slot of the schedule has a record, also those in which nothing could be run."
)


def about(reader: StoreReader, request: PageRequest) -> Page:
    """What it is, how it measures, what words mean, and how to take the data along."""
    state, view = request.state, request.view
    who: list[tuple[str, Text]] = [("Source", state.source), ("Version", f"Perfd {state.version}")]
    if state.contact:
        who.append(("Contact", state.contact))
    terms = ((word, meaning[0].upper() + meaning[1:] + ".") for word, meaning in DEFINITIONS)
    cite = Markup("{}: {}, measured with Perfd {}, taken {} UTC.").format(
        state.source, state.title, state.version, elements.time(state.now)
    )
    data = elements.listed(
        (
            Markup("{}: JSON for programs at the same addresses, by Accept or ?format=json").format(
                elements.link(view.link("/results"), "Results")
            ),
            Markup("{} and {}: all of them as tables").format(
                elements.link("/results.csv", "CSV"), elements.link("/results.parquet", "Parquet")
            ),
            Markup("{}: a file for each finished day, in Torperf's and OnionPerf's formats").format(
                elements.link("/archive/", "Archive")
            ),
            Markup("{}: what can be asked, for programs").format(elements.link("/openapi.json", "OpenAPI")),
        )
    )
    parts = [
        elements.facts(who),
        elements.section("How it measures", [elements.paragraph(HOW)]),
        elements.section("What is measured", [_experiments(state, view)]),
        elements.section("What words mean", [elements.facts(terms)]),
        elements.section("Download", [data]),
        elements.section("Cite", [elements.paragraph(cite)]),
    ]
    return Page("About", state.description or "Measurements of how fast Tor is.", parts)


def status(reader: StoreReader, request: PageRequest) -> Page:
    """Versions, schedule, what may be told of the configuration."""
    state, view = request.state, request.view
    parts = [
        parts_of_perfd(state),
        elements.section("Schedule", [_experiments(state, view)]),
        comparisons(state, view),
        elements.section("Limits", [elements.facts(state.settings.items())]),
        elements.section("Versions", [elements.facts(_versions(state))]),
    ]
    return Page("Status", summary(state), parts, refresh=REFRESH)


def _versions(state: DaemonState) -> list[tuple[str, str]]:
    """Of Perfd and of what it stands on; those of tors are told with their states."""
    return [
        ("Perfd", state.version),
        ("Python", platform.python_version()),
        ("Twisted", twisted.__version__),
        ("SQLite", sqlite3.sqlite_version),
    ]


def _experiments(state: DaemonState, view: View) -> Markup:
    if not state.experiments:
        return elements.paragraph("No experiment is configured.")
    due = {each["name"]: epoch(each["next_slot"]) for each in state.health["experiments"]}
    rows = [
        (
            elements.link(view.link(experiment_path(each.name)), clipped(each.name)),
            each.type,
            format_size(each.size) if each.size else "",
            format_duration(each.interval),
            format_duration(each.timeout),
            ", ".join((*each.tors, *(way for way in each.servers if way != "public"))),
            elements.time(due.get(each.name), date=False),
        )
        for each in state.experiments
    ]
    return elements.table("Experiments of perfd.conf", EXPERIMENTS, rows)
