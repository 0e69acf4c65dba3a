"""Which guards the arms of a comparison may have: the same, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import parse_config
from perfd.preflight import comparison_troubles

GUARD = "EntryNodes 0123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    ("a", "b", "is_refused"),
    [
        ((), (), True),
        ((GUARD,), (), True),
        (("EntryNodes {de}",), ("EntryNodes {de}",), True),
        ((GUARD,), (GUARD.replace("1", "2"),), True),
        ((GUARD, "FascistFirewall 1"), (GUARD,), True),
        ((GUARD,), (GUARD.replace(" ", "  "), "NumCPUs 1"), False),
        ((GUARD, GUARD.replace("1", "2")), (GUARD.replace("1", "2"), GUARD), True),
        (("EntryNodes 10.0.0.0/8",), ("EntryNodes 10.0.0.0/8",), True),
        (("UseEntryGuards 0",), ("useentryguards 0",), False),
        (("UseBridges 1", "Bridge 10.0.0.1:443"), ("UseBridges 1", "Bridge 10.0.0.1:443"), False),
    ],
)
def test_guards_of_tors_that_are_there(a: tuple[str, ...], b: tuple[str, ...], is_refused: bool) -> None:
    """Two tors stay with guards of their own, unless neither has a choice."""
    torrcs = ["\n  ".join(("", *lines)) for lines in (a, b)]
    config = parse_config(
        f"[tor:alpha]\ntorrc ={torrcs[0]}\n[tor:beta]\ntorrc ={torrcs[1]}\n"
        "[experiment:fast]\nsize = 50 KiB\ninterval = 5 min\n"
        "[comparison:c]\narms =\n  x=tor = alpha\n  y=tor = beta\nexperiment = fast\n",
        Path("perfd.conf"),
    )
    assert ("the tors of x and y have guards of their own" in str(comparison_troubles(config))) is is_refused


ONE, OTHER = "1" * 40, "A" * 40


@pytest.mark.parametrize(
    ("a", "b", "is_refused"),
    [
        (f"guards = {ONE}", f"guards = ${ONE}", False),
        (f"guards = {ONE}, {OTHER}", f"guards = {OTHER}, {ONE}", False),
        ("guards = none\ntorrc = EntryNodes {de}", "guards = none", False),
        (f"guards = {ONE}\ncontrol = 127.0.0.1:9051", f"guards = {ONE}", False),
        ("guards = none\ncontrol = 127.0.0.1:9051", "guards = none\ncontrol = 127.0.0.1:9052", False),
        (f"guards = {ONE}", f"guards = {OTHER}", True),
        (f"guards = {ONE}", f"guards = {ONE}, {OTHER}", True),
        (f"guards = {ONE}, {OTHER}\ntorrc = NumPrimaryGuards 1", f"guards = {ONE}, {OTHER}", True),
        (f"guards = {ONE}", "guards = none", True),
        (f"guards = {ONE}", "", True),
        ("guards = fast", "guards = fast", True),
        ("control = 127.0.0.1:9051", "control = 127.0.0.1:9052", True),
    ],
)
def test_guards_that_perfd_sets(a: str, b: str, is_refused: bool) -> None:
    """The same fixed guards for both, or none, are no guards of their own, whatever else the torrcs say of them."""
    config = parse_config(
        f"[tor:alpha]\n{a}\n[tor:beta]\n{b}\n[experiment:fast]\nsize = 50 KiB\ninterval = 5 min\n"
        "[comparison:c]\narms =\n  x=tor = alpha\n  y=tor = beta\nexperiment = fast\n",
        Path("perfd.conf"),
    )
    assert ("the tors of x and y have guards of their own" in str(comparison_troubles(config))) is is_refused


@pytest.mark.parametrize(
    ("a", "b", "refused"),
    [
        (f"tor = alpha; guard = {ONE}", f"tor = beta; guard = {ONE}", ""),
        (f"tor = alpha; path = {ONE} > Fast > Exit", f"tor = beta; guard = {ONE}", ""),
        (f"tor = alpha; guard = {ONE}", f"tor = alpha; guard = {OTHER}", "different guards"),
        (f"tor = alpha; guard = {ONE}", "tor = alpha", "different guards"),
        ("tor = alpha; exit = Fast", "tor = alpha", ""),
        ("tor = alpha; exit = Fast", "tor = beta; exit = Fast", "guards of their own"),
        (f"guard = {ONE}", "guard = Fast", "different guards"),
    ],
)
def test_guards_of_the_experiment(a: str, b: str, refused: str) -> None:
    """Where circuits are built over first relays that were chosen, those count, and not the guards of the tor."""
    config = parse_config(
        "[perfd]\nnetwork = tor\n[server]\nlisten = 0.0.0.0:80\npublic-address = 192.0.2.1:80\n"
        "[tor:alpha]\n[tor:beta]\n[experiment:fast]\nsize = 50 KiB\ninterval = 5 min\n"
        f"[comparison:c]\narms =\n  x={a}\n  y={b}\nexperiment = fast\n",
        Path("perfd.conf"),
    )
    troubles = str(comparison_troubles(config))
    assert refused in troubles
    assert bool(refused) == ("guards" in troubles)
