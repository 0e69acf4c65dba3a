"""The relays of a path in words, from what records of any age have."""

from __future__ import annotations

from perfd.record import Circuit, Hop
from perfd.reports.hops import hops_of
from tests.support.strategies import typical

PATH = ("$" + "A" * 40, "$" + "B" * 40)


def test_known() -> None:
    """Each word is its relay's; a list of another length says nothing."""
    extra = {
        "PATHNICKNAMES": "one,two",
        "PATHWEIGHTS": "10,2000",
        "PATHFLAGS": "Fast+Guard,Exit",
        "PATHVERSIONS": "0.4.9.11,",
        "PATHCGO": "1,0",
        "PATHCOUNTRIES": "de",
    }
    first, second = hops_of(typical(1, path=PATH, buildtimes=(0.5,), extra=extra), None)
    assert (first.number, first.fingerprint, first.nickname, first.reached) == (1, PATH[0], "one", 0.5)
    assert (first.weight, first.flags, first.version, first.cgo) == ("10", "Fast Guard", "0.4.9.11", "yes")
    assert (second.version, second.cgo, second.country, second.reached) == ("", "no", "", None)


def test_older_records() -> None:
    """Nicknames are the circuit's where the record has none; without a path there are no hops."""
    circuit = Circuit(
        id="c", source="s", tor="t", circ_id=1, status="BUILT", path=(Hop(PATH[0], "one"), Hop(PATH[1]))
    )
    m = typical(1, path=PATH, buildtimes=None, extra={})
    assert [hop.nickname for hop in hops_of(m, circuit)] == ["one", ""]
    assert list(hops_of(typical(1, path=None), circuit)) == []
