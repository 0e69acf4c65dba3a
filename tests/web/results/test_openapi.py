"""``/openapi.json``: a valid document, and true to a running daemon: schemathesis asks it all that it describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from schemathesis import Case
from twisted.internet.task import Clock as TwistedClock
from twisted.web.resource import IResource, getChildForRequest

from perfd.browser.files.contents import Job, write_files
from perfd.record import Attach, Circuit, Event, Hop, Measurement, Outcome, Stream, TorEvent
from perfd.store import parameters
from perfd.store.inserts import insert_many
from perfd.store.page_files import DIRECTORY
from perfd.store.rows import CIRCUITS, EVENTS, STREAMS
from perfd.store.schema import open_database
from perfd.web.results.forms import to_json
from perfd.web.results.listing import Listing
from perfd.web.results.load_files import KINDS
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.page_loads import ID, frames, page_load
from tests.support.routes import all_routes, described
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


api = schemathesis.openapi.from_dict(described(MAX_SIZE))
checks = api.config.checks
for check in (checks.negative_data_rejection, checks.positive_data_acceptance):
    # How much a server gives is its own matter: a larger size is refused with a status of its own, and so is
    # another upgrade than to an echo.
    check.expected_statuses = [*check.expected_statuses, "413", "426"]


def test_served(instance: TestInstance) -> None:
    """The daemon serves the document that the other tests look at."""
    status, body = instance.get("/openapi.json")
    assert (status, json.loads(body)) == (200, json.loads(json.dumps(described(MAX_SIZE))))


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
        operation = described(MAX_SIZE)["paths"][f"/results/{{id}}/{name}"]["get"]["responses"]["200"]
        assert list(operation["content"]) == [kind.content_type]


def test_valid() -> None:
    """The document is OpenAPI 3.1."""
    validate(described(MAX_SIZE))


def test_nothing_missing(instance: TestInstance) -> None:
    """Everything that the daemon has below / is described."""
    status, body = instance.get("/")
    assert status == 200
    names = {path.split("/")[1] for path in described(MAX_SIZE)["paths"]}
    assert {path[1:] for path in json.loads(body)["resources"]} <= names


def mounted(path: str, resource: IResource) -> Iterator[str]:
    """Where ``resource`` and those below it are; what only a request could name has the name ``{id}``."""
    yield path
    children = {name.decode(): child for name, child in resource.children.items()}  # type: ignore[attr-defined]
    if isinstance(resource, Listing) and resource.has_children:
        children["{id}"] = resource.one("{id}")
    for name, child in children.items():
        yield from mounted(f"{path}/{name}", child)


def test_mounted() -> None:
    """Every path of the document leads to a resource of the site, and every resource has a path in it."""
    site = make_site(all_routes(MAX_SIZE), reactor=TwistedClock(), stamps=ServerStamps(lambda: 0.0))
    paths = described(MAX_SIZE)["paths"]
    values = {"size": "5", "id": ID, "variant": "light", "name": "index.xml", "number": "1"}
    for path, operations in paths.items():
        request: Any = mock.Mock(prepath=[], postpath=path.format(**values).encode().split(b"/")[1:], path=b"")
        resource = getChildForRequest(site.resource, request)  # raises WebError if there is none
        for method in operations:
            assert callable(getattr(resource, f"render_{method.upper()}"))
    for path in mounted("", site.resource):
        assert any(each == path or each.startswith(f"{path}/") for each in paths), path


def test_arguments_are_those_that_are_read() -> None:
    """The filters of the document are the table from which the resources read them, no more and no fewer."""
    paths = described(MAX_SIZE)["paths"]
    for path, known in (
        ("/results", parameters.RESULTS),
        ("/results.tpf", parameters.RESULTS),
        ("/streams", parameters.STREAMS),
        ("/circuits", parameters.CIRCUITS),
        ("/events", parameters.EVENTS),
    ):
        resource = all_routes(MAX_SIZE)[path[1:]]
        assert isinstance(resource, Listing)
        assert resource.parameters is known
        for_people = ["format"] if resource.has_page else []
        assert [each["name"] for each in paths[path]["get"]["parameters"]] == [
            *(p.name for p in known),
            *for_people,
        ]


@given(measurements() | circuits() | streams() | st.builds(TorEvent, *[st.floats(0, 1e10), *[st.text()] * 4]))
def test_any_record_fits_its_schema(record: Measurement | Circuit | Stream | TorEvent) -> None:
    """The schemas, which are made from the types of the records' fields, hold for all records."""
    as_dict = record.as_dict() if isinstance(record, Measurement) else attrs.asdict(record)
    schemas = {"components": {"schemas": described(MAX_SIZE)["components"]["schemas"]}}
    validator = Draft202012Validator({**schemas, "$ref": f"#/components/schemas/{type(record).__name__}"})
    validator.validate(json.loads(to_json(as_dict)))
