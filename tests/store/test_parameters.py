"""What may be asked: the same by every door, and nothing that is not understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from perfd.cli.command import _parser
from perfd.record import Measurement, Outcome
from perfd.store.filters import Filter
from perfd.store.parameters import RESULTS, Parameter
from perfd.store.reader import StoreReader
from tests.support.stored import Stored
from tests.support.strategies import typical

GUARD, MIDDLE, EXIT = (f"${letter * 40}" for letter in "ABC")
OTHER = "$" + "D" * 40

# Of each parameter a text that finds the first record alone, and one that nobody understands.
CASES = {
    "source": ("other", "x" * 101),
    "experiment": ("special", ""),
    "type": ("upload", ""),
    "size": ("2 KiB", "big"),
    "outcome": ("failed", "fine"),
    "errorcode": ("TOR/END/MISC", ""),
    "tor": ("alpha", ""),
    "server": ("onion", ""),
    "guard": (GUARD[1:].lower(), "A" * 39),
    "middle": (MIDDLE, "$nickname"),
    "exit": (EXIT[1:], "$"),
    "relay": (MIDDLE, "moria1"),
    "comparison": ("conflux", ""),
    "filtered": ("yes", "maybe"),
    "heldup": ("yes", "perhaps"),
    "since": ("2023-11-15", "someday"),
    "until": ("2023-11-16T00:00Z", "1e99"),
    "limit": ("1", "0"),
}
KEPT_APART = {"series", "after"}  # of parts of a run, and of pages: tested where those are


def special(name: str) -> Measurement:
    """The record that is to be found by ``name``; all others are ``typical``."""
    changes: dict[str, Any] = {
        "source": {"source": "other"},
        "experiment": {"experiment": "special"},
        "type": {"type": "upload"},
        "size": {"filesize": 2048},
        "outcome": {"outcome": Outcome.FAILED, "errorcode": "TOR/GENERAL"},
        "errorcode": {"outcome": Outcome.FAILED, "errorcode": "TOR/END/MISC"},
        "tor": {"tor": "alpha"},
        "server": {"server": "onion"},
        "guard": {"path": (GUARD, OTHER, OTHER), "guard": GUARD},
        "middle": {"path": (OTHER, MIDDLE, OTHER), "guard": OTHER},
        "exit": {"path": (OTHER, OTHER, EXIT), "guard": OTHER},
        "relay": {"path": (OTHER, MIDDLE, OTHER), "guard": OTHER},
        "comparison": {"extra": {"COMPARISON": "conflux"}},
        "filtered": {"extra": {"FILTEREDOUT": 1}},
        "heldup": {"extra": {"HELDUP": 0.3}},
        "since": {"start": 1_700_100_000.0},
        "until": {"start": 1_600_000_000.0},
        "limit": {"start": 1_800_000_000.0},
    }
    return typical(0, **changes[name])


def others(name: str) -> list[Measurement]:
    """Two that are found by nothing of the above."""
    start = 1_700_100_000.0 - 86_400.0 * (-3 if name == "until" else 2)
    plain = {"tor": "default", "server": "public", "path": (OTHER,) * 3, "guard": OTHER}
    return [typical(n, **plain, start=start + n) for n in (1, 2)]


def test_every_parameter_has_its_case() -> None:
    """A further one must be tested here too; each is an attribute of the filter."""
    assert {parameter.name for parameter in RESULTS} == set(CASES) | KEPT_APART
    assert {parameter.name for parameter in RESULTS} <= {field.name for field in attrs.fields(Filter)}


@pytest.mark.parametrize("name", CASES)
def test_found(name: str, tmp_path: Path) -> None:
    """Each finds the one record that it is of, on the command line and as HTTP reads it."""
    text = CASES[name][0]
    stored = Stored(tmp_path)
    stored.add([special(name), *others(name)])
    code, out, err = stored.perfd("results", "--json", f"--{name}", text)
    assert (code, [each["id"] for each in json.loads(out)["results"]]) == (0, [special(name).id]), err
    code, out, err = stored.perfd("export", "--format", "json", f"--{name}", text)
    exported = [json.loads(line)["id"] for line in out.splitlines()]
    assert (code, exported) == (0, [typical(1).id if name == "limit" else special(name).id]), err
    with StoreReader(stored.database) as reader:
        found = reader.measurements(Filter(**{name: parameter(name).read(text)}))
    assert [each.id for each in found] == [special(name).id]


@pytest.mark.parametrize("name", CASES)
def test_not_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no value of it is refused with the same words by every door."""
    text = CASES[name][1]
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its words are compared
        parameter(name).read(text)
    if name == "limit":
        return  # the commands have no upper bound
    for command in (["results"], ["export", "--format", "json"]):
        with pytest.raises(SystemExit):
            _parser().parse_args([*command, f"--{name}", text])
        assert str(refused.value) in capsys.readouterr().err


def parameter(name: str) -> Parameter:
    """The one of this name."""
    (found,) = [each for each in RESULTS if each.name == name]
    return found
