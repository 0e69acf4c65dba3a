"""``/openapi.json``: a valid document, and true to a running daemon: schemathesis asks it all that it describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from schemathesis import Case

from perfd.browser.files.contents import Job, write_files
from perfd.record import Attach, Circuit, Event, Hop, Measurement, Outcome, Stream, TorEvent
from perfd.store.page_files import DIRECTORY
from perfd.store.rows import CIRCUITS, EVENTS, STREAMS
from perfd.store.schema import open_database
from perfd.store.writer import insert_many
from perfd.web.results import parameters
from perfd.web.results.listing import to_json
from perfd.web.results.load_files import KINDS
from perfd.web.results.openapi import document
from perfd.web.results.records import result_resources
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.page_loads import ID, frames, page_load
from tests.support.strategies import circuits, measurements, streams, typical

EXAMPLES = 20
"""Requests of each operation."""

MAX_SIZE = 2**20

CONFIG = SOCKS_CONFIG.replace("[server]", "[server]\nmax-size = 1 MiB")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestInstance]:
    """A daemon that measures, and whose database has records of all kinds."""
    made = TestInstance(tmp_path_factory.mktemp("openapi"), CONFIG)
    made.start()
    try:
        made.wait_for_measurements(1, outcome=Outcome.OK)
        add_records(made.directory / "perfd.sqlite")
        wait_for(made.results, "results over HTTP")
        yield made
    finally:
        made.perfd("stop")


def add_records(path: Path) -> None:
    """Some of each kind, with all that there can be."""
    circuit = Circuit(id="s-c1", source="test", tor="default", circ_id=1, status="BUILT", launch=5.5)
    rich = attrs.evolve(
        circuit, id="s-c2", path=(Hop("$" + "A" * 40, "a", 5.6),), events=(Event(5.5, "LAUNCHED"),), cbt_set=True
    )
    stream = Stream(
        id="s-s1", source="test", tor="default", stream_id=1, status="CLOSED", attaches=(Attach(1, 6.0),)
    )
    event = TorEvent(7.0, "test", "default", "GUARD", "ENTRY $A UP")
    with closing(open_database(path)) as connection:
        insert_many(connection, [typical(0), typical(1, outcome=Outcome.FAILED, errorcode="TOR/END/MISC")])
        for table, record in ((CIRCUITS, circuit), (CIRCUITS, rich), (STREAMS, stream), (EVENTS, event)):
            connection.execute(table.insert, table.row(record))


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that no proxy of the environment is asked for."""
    with requests.Session() as made:
        made.trust_env = False
        yield made


api = schemathesis.openapi.from_dict(document(MAX_SIZE))
checks = api.config.checks
for check in (checks.negative_data_rejection, checks.positive_data_acceptance):
    # How much a server gives is its own matter: a larger size is refused with a status of its own, and so is
    # another upgrade than to an echo.
    check.expected_statuses = [*check.expected_statuses, "413", "426"]


def test_served(instance: TestInstance) -> None:
    """The daemon serves the document that the other tests look at."""
    status, body = instance.get("/openapi.json")
    assert (status, json.loads(body)) == (200, json.loads(json.dumps(document(MAX_SIZE))))


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_true_to_the_code(case: Case, instance: TestInstance, session: requests.Session) -> None:
    """What is described is answered as described; what is not, is refused; nothing is an error of the server."""
    case.call_and_validate(base_url=f"http://127.0.0.1:{instance.port}", session=session, timeout=30)


def test_files_of_page_loads(instance: TestInstance, session: requests.Session) -> None:
    """The daemon has them where the child process writes them, and gives them as described."""
    load = page_load(frames=frames()[:1])
    with closing(open_database(instance.directory / "perfd.sqlite")) as connection:
        insert_many(connection, [typical(2, id=ID, start=load.start, type="pageload")])
    job = Job(directory=instance.directory / DIRECTORY, measurement=ID, load=load, carriers=())
    assert write_files(job, load.screenshot, load.frames).fields["HAR"] == 1
    for name, kind in KINDS.items():
        answer = session.get(f"http://127.0.0.1:{instance.port}/results/{ID}/{name}", timeout=30)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind.content_type)
        described = document(MAX_SIZE)["paths"][f"/results/{{id}}/{name}"]["get"]["responses"]["200"]
        assert list(described["content"]) == [kind.content_type]


def test_valid() -> None:
    """The document is OpenAPI 3.1."""
    validate(document(MAX_SIZE))


def test_nothing_missing(instance: TestInstance) -> None:
    """Everything that the daemon has below / is described."""
    status, body = instance.get("/")
    assert status == 200
    described = {path.split("/")[1] for path in document(MAX_SIZE)["paths"]}
    assert {path[1:] for path in json.loads(body)["resources"]} <= described


def test_arguments_are_those_that_are_read() -> None:
    """The filters of the document are the table from which the resources read them, no more and no fewer."""
    paths = document(MAX_SIZE)["paths"]
    for path, known in (
        ("/results", parameters.RESULTS),
        ("/results.tpf", parameters.RESULTS),
        ("/streams", parameters.STREAMS),
        ("/circuits", parameters.OF_TOR),
        ("/events", parameters.OF_TOR),
    ):
        resource = result_resources(None)[path[1:]]  # type: ignore[arg-type]
        assert resource.parameters is known  # type: ignore[attr-defined]
        assert [each["name"] for each in paths[path]["get"]["parameters"]] == [each.name for each in known]


@given(measurements() | circuits() | streams() | st.builds(TorEvent, *[st.floats(0, 1e10), *[st.text()] * 4]))
def test_any_record_fits_its_schema(record: Measurement | Circuit | Stream | TorEvent) -> None:
    """The schemas, which are made from the types of the records' fields, hold for all records."""
    as_dict = record.as_dict() if isinstance(record, Measurement) else attrs.asdict(record)
    schemas = {"components": {"schemas": document(MAX_SIZE)["components"]["schemas"]}}
    validator = Draft202012Validator({**schemas, "$ref": f"#/components/schemas/{type(record).__name__}"})
    validator.validate(json.loads(to_json(as_dict)))
