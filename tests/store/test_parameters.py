"""What may be asked: the same by every door, and nothing that is not understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from perfd.cli.arguments import reading
from perfd.cli.command import _parser
from perfd.record import Measurement, Outcome
from perfd.store.filters import Filter
from perfd.store.parameters import EXCLUDING, RESULTS, Parameter, results_filter
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
    "torversion": ("0.4.9.1,0.4.9.2", ""),
    "server": ("onion", ""),
    "url": ("https://example.org/a,b", "no address"),
    "guard": (GUARD[1:].lower(), "A" * 39),
    "middle": (MIDDLE, "$nickname"),
    "exit": (EXIT[1:], "$"),
    "relay": (MIDDLE, "moria1"),
    "circuit": ("17", "x"),
    "hour": ("23-1", "24"),
    "weekday": ("wed,mon", "someday"),
    "conflux": ("yes", "maybe"),
    "cbt": ("no", "maybe"),
    "comparison": ("conflux", ""),
    "filtered": ("yes", "maybe"),
    "pilot": ("yes", "maybe"),
    "heldup": ("yes", "perhaps"),
    "optimistic": ("yes", "both"),
    "since": ("2023-11-15", "someday"),
    "until": ("2023-11-16T00:00Z", "1e99"),
    "limit": ("1", "0"),
}
EXCLUDED = [
    name
    for name in CASES
    if name not in ("conflux", "cbt", "filtered", "pilot", "heldup", "optimistic", "since", "until", "limit")
]
KEPT_APART = {"series", "after", "count"}  # of parts of a run, and of pages: tested where those are


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
        "url": {"extra": {"URL": "https://example.org/a,b"}},
        "guard": {"path": (GUARD, OTHER, OTHER), "guard": GUARD},
        "middle": {"path": (OTHER, MIDDLE, OTHER), "guard": OTHER},
        "exit": {"path": (OTHER, OTHER, EXIT), "guard": OTHER},
        "relay": {"path": (OTHER, MIDDLE, OTHER), "guard": OTHER},
        "torversion": {"torversion": "0.4.9.2"},
        "circuit": {"circ_id": 17},
        "hour": {"start": 1_700_006_400.0},  # 2023-11-15 00:00
        "weekday": {"start": 1_700_006_400.0},  # a Wednesday
        "conflux": {"conflux": True},
        "cbt": {"cbt_set": False},
        "comparison": {"extra": {"COMPARISON": "conflux"}},
        "filtered": {"extra": {"FILTEREDOUT": 1}},
        "pilot": {"extra": {"BLOCK": -1}},
        "heldup": {"extra": {"HELDUP": 0.3}},
        "optimistic": {"extra": {"OPTIMISTIC": True}},
        "since": {"start": 1_700_100_000.0},
        "until": {"start": 1_600_000_000.0},
        "limit": {"start": 1_800_000_000.0},
    }
    return typical(0, **changes[name])


def others(name: str) -> list[Measurement]:
    """Two that are found by nothing of the above."""
    start = 1_700_100_000.0 - 86_400.0 * (-3 if name == "until" else 2)
    plain: dict[str, Any] = {"tor": "default", "server": "public", "path": (OTHER,) * 3, "guard": OTHER}
    plain |= {"torversion": "0.4.8.9", "circ_id": 3, "conflux": False, "cbt_set": True}
    return [typical(n, **plain, start=start + n) for n in (1, 2)]


def test_every_parameter_has_its_case() -> None:
    """A further one must be tested here too; each is an attribute of the filter."""
    names = {parameter.name for parameter in RESULTS if not parameter.name.startswith(EXCLUDING)}
    assert names == set(CASES) | KEPT_APART
    assert names - {"count"} <= {field.name for field in attrs.fields(Filter)}
    excluding = {each.name.removeprefix(EXCLUDING) for each in RESULTS if each.name.startswith(EXCLUDING)}
    assert excluding == set(EXCLUDED)


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


@pytest.mark.parametrize("name", EXCLUDED)
def test_left_out(name: str, tmp_path: Path) -> None:
    """The same filter with not- in front leaves that one out, and what is not known of a record stays."""
    stored = Stored(tmp_path)
    unknown = typical(3, start=others(name)[0].start + 2, errorcode=None, torversion=None, path=None, guard=None)
    stored.add([special(name), *others(name), unknown])
    wanted = results_filter({f"{EXCLUDING}{name}": parameter(name).read(CASES[name][0])})
    with StoreReader(stored.database) as reader:
        assert [each.id for each in reader.measurements(wanted)] == [typical(n).id for n in (3, 2, 1)]
        assert reader.filtered_out(wanted) == (1, 4)
    code, out, err = stored.perfd("export", "--format", "json", f"--{EXCLUDING}{name}", CASES[name][0])
    assert (code, len(out.splitlines())) == (0, 3)
    assert "the filters left out 1 of 4 measurements" in err
    _, out, _ = stored.perfd("results", "--json", f"--{EXCLUDING}{name}", CASES[name][0])
    assert len(json.loads(out)["results"]) + json.loads(out)["filtered_out"] >= 3


def test_lists_of_relays(tmp_path: Path) -> None:
    """Several fingerprints with commas between, or in a file, which HTTP cannot name."""
    stored = Stored(tmp_path)
    paths = [(GUARD, MIDDLE, EXIT), (OTHER, MIDDLE, OTHER), (OTHER, OTHER, EXIT), (OTHER, OTHER, OTHER)]
    stored.add([typical(n, path=path, guard=path[0]) for n, path in enumerate(paths)])
    listed = tmp_path / "relays"
    listed.write_text(f"# known\n{MIDDLE[1:]}  # slow\n\n{EXIT.lower()},{GUARD}\n")

    def found(*options: str) -> list[str]:
        code, out, err = stored.perfd("export", "--format", "json", *options)
        assert code == 0, err
        return [json.loads(line)["id"] for line in out.splitlines()]

    for value in (f"{GUARD},{MIDDLE},{EXIT}", f"@{listed}"):
        assert found("--relay", value) == [typical(n).id for n in (0, 1, 2)]
        assert found("--not-relay", value) == [typical(3).id]
        assert found("--exit", value, "--not-middle", value) == [typical(2).id]
    with pytest.raises(SystemExit):
        found("--relay", f"@{tmp_path}/none")
    with pytest.raises(ValueError, match="no fingerprint"):
        parameter("relay").read(f"@{listed}")


def test_fingerprints_with_nicknames(tmp_path: Path) -> None:
    """As tor writes relays, and runs.csv has them. A file may begin with a byte order mark, and must have some."""
    read = reading(parameter("relay"))
    assert read(f"${'a' * 40}~Nick,{'B' * 40}=other1,{'c' * 40}") == tuple(f"${each * 40}" for each in "ABC")
    path = tmp_path / "relays.txt"
    path.write_text(f"\ufeff${'a' * 40}~Nick # slow\n", encoding="utf-8")
    assert read(f"@{path}") == f"${'A' * 40}"
    path.write_text("# none\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"relays\.txt has no fingerprints"):
        read(f"@{path}")
    with pytest.raises(ValueError, match="is no fingerprint"):
        read(f"${'a' * 40}~")


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
