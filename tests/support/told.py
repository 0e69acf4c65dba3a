"""Records as a daemon would have told of them: measurements, with tor's circuits, streams and events."""

from __future__ import annotations

from perfd.record import Attach, Circuit, Event, Hop, Outcome, Stream, TorEvent
from tests.support.stored import Stored
from tests.support.strategies import typical

START = typical(0).start
RELAYS = tuple(f"${letter * 40}" for letter in "ABC")


def circuit(number: int, **changes: object) -> Circuit:
    """A general one of three relays, launched ``number`` seconds after START."""
    values = {
        "id": f"t-c{number}",
        "source": "example",
        "tor": "default",
        "circ_id": number,
        "launch": START + number,
        "built": START + number + 0.25,
        "end": START + number + 9,
        "status": "CLOSED",
        "purpose": "GENERAL",
        "path": tuple(Hop(relay, f"relay{n}", START + number + n / 10) for n, relay in enumerate(RELAYS)),
        **changes,
    }
    return Circuit(**values)  # type: ignore[arg-type]


def stream(number: int, **changes: object) -> Stream:
    """One that was attached to circuit 7, ``number`` seconds after START."""
    values = {
        "id": f"t-s{number}",
        "source": "example",
        "tor": "default",
        "stream_id": number,
        "new": START + number,
        "end": START + number + 1,
        "status": "CLOSED",
        "target": "192.0.2.1:80",
        "attaches": (Attach(7, START + number),),
        "events": (Event(START + number, "USER:NEW"), Event(START + number + 1, "USER:CLOSED")),
        **changes,
    }
    return Stream(**values)  # type: ignore[arg-type]


def tell(found: Stored) -> None:
    """Store some of each."""
    failed = {"failure_local": "TIMEOUT", "failure_remote": None, "status": "FAILED"}
    found.add(
        [
            typical(0, path=RELAYS, circ_id=7, extra={"PATHNICKNAMES": "a,b,c", "PATHWEIGHTS": "1,2,3", "FOO": 5}),
            typical(1, outcome=Outcome.FAILED, errorcode="TOR/END/MISC", reason="it went wrong", datacomplete=None),
        ],
        [circuit(7), circuit(8, **failed, path=()), circuit(9, purpose="HS_VANGUARDS")],
        [
            stream(1, measurement=typical(0).id, circuit="t-c7"),
            stream(2, failure_local="END", failure_remote="MISC"),
        ],
        [
            TorEvent(START, "example", "default", "STATUS_CLIENT", "NOTICE X", "e1"),
            TorEvent(START + 1, "example", "default", "GUARD", "ENTRY $A UP", "e2"),
        ],
    )
