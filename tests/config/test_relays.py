"""Which relays are wanted: the words of a selection, and what stands against experiments over chosen relays."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import ConfigError, parse_config
from perfd.config.relays import RelaysConfig, Selection

FINGERPRINT = "AB" * 20

BEGIN = """
[perfd]
network = {network}
[server]
listen = 127.0.0.1:8080
public-address = {public}
[tor:bridged]
bridges = 192.0.2.1:443 {fingerprint}
[tor:default]
[experiment:x]
"""


def parsed(text: str, network: str = "testnet", directory: Path = Path("/x")) -> RelaysConfig | None:
    public = "192.0.2.7:80" if network == "tor" else "127.0.0.1:8080"
    begin = BEGIN.format(network=network, public=public, fingerprint="CD" * 20)
    return parse_config(begin + text, directory / "perfd.conf").experiments[0].relays


def test_normal_form() -> None:
    """What is written out means the same."""
    text = f"guard+{{DE}}+!~gamma, @bandwidth:01/4\n${FINGERPRINT.lower()},{{??}}"
    selection = Selection.parse(text)
    assert str(selection) == f"Guard+{{de}}+!~gamma, @bandwidth:1/4, {FINGERPRINT}, {{??}}"
    assert Selection.parse(str(selection)) == selection


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "Fats",
        "{deu}",
        "ABC",
        "Guard+",
        "@bandwidth:0/4",
        "@bandwidth:5/4",
        "@bandwidth:1/101",
        "~a b",
        "!",
    ],
)
def test_no_condition(text: str) -> None:
    """What is none is refused."""
    with pytest.raises(ValueError, match=r"is no fingerprint|names no relays|must be one of"):
        Selection.parse(text)


def test_only() -> None:
    """Whether a selection can be one relay alone."""
    only = {text: Selection.parse(text).only for text in (FINGERPRINT, "~a", "~a,~a", "~a,~b", "!~a", "~a+Guard")}
    assert only == {
        FINGERPRINT: FINGERPRINT,
        "~a": "~a",
        "~a,~a": "~a",
        "~a,~b": None,
        "!~a": None,
        "~a+Guard": None,
    }


def test_options(tmp_path: Path) -> None:
    """What is chosen for each place, from files too; a path has as many as it likes."""
    (tmp_path / "list").write_text(f"# ours\n{FINGERPRINT}  # one\n\n~exit1+Exit\n")
    assert parsed("") is None
    relays = parsed("exit = @file:list, ~exit2", directory=tmp_path)
    assert str(relays) == f"exit {FINGERPRINT}, ~exit1+Exit, ~exit2"
    assert str(parsed("guard = Guard\nmiddle = ~auth1")) == "guard Guard; middle ~auth1"
    path = parsed("path = ~exit1 > Guard > ~auth1, ~auth2 > ~exit2")
    assert path is not None
    assert (path.is_path, str(path)) == (True, "~exit1 > Guard > ~auth1, ~auth2 > ~exit2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit = Fats", r"\] exit: 'Fats' is no fingerprint"),
        ("exit = @file:list", r"\] exit: 'list' cannot be read: No such file"),
        ("exit = ~exit9", r"\] exit: no relay of the private network is named 'exit9'; there is auth1"),
        ("exit = ~auth1", r"\] exit: ~auth1 is no exit of the private network"),
        ("exit = {de}", r"\] exit: the relays of the private network are on this machine"),
        (
            "guard = ~exit1\nexit = ~exit1",
            r"\] exit: ~exit1 is the guard already: a relay can be in a circuit once",
        ),
        ("path = ~exit1 > ~auth1 > ~exit1", r"\] path: ~exit1 is in it twice"),
        ("path = ~exit1", r"\] path: has 1 relays; tor's circuits have 2 to 8"),
        ("path = ~auth1 > ~exit1\nexit = ~exit1", r"\] exit: cannot be given together with path"),
        (
            "exit = ~exit1\ntor = none",
            r"\] exit: circuits are built over the control port of a tor, which tor = none",
        ),
        ("exit = ~exit1\nserver = onion", r"\] exit: tor itself chooses the relays on the way to an onion service"),
        ("exit = ~exit1\ncircuit = reuse", r"\] circuit: a circuit is built for each run with exit"),
        ("exit = ~exit1\nparallel = 2\nparallel-circuits = each", r"\] parallel-circuits: one circuit is built"),
        ("exit = ~exit1\ntype = series\ngroups = 2", r"\] groups: one circuit is built for each run"),
        ("exit = ~exit1\ntype = bootstrap", r"\] exit: (unknown option|only used with)"),
        ("guard = ~exit1\ntor = bridged", r"\] guard: the first relay of circuits of tor bridged is its bridge"),
        ("type = scan\nrelays = ~exit9", r"\] relays: no relay of the private network is named 'exit9'"),
        ("type = scan\nplace = exit\nexit = ~exit1", r"\] exit: with place = exit the option relays says which"),
        ("type = scan\nplace = last", r"\] place: 'last' is not one of auto, guard, middle, exit"),
        ("type = scan\ntor = none", r"\] type: circuits are built over the control port"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    """What cannot be is refused, by the option that says it."""
    with pytest.raises(ConfigError, match=message):
        parsed(text)


def test_scans_are_polite() -> None:
    """On the public network a scan is bounded."""
    parsed("type = scan\ninterval = 10 s", "tor")
    with pytest.raises(ConfigError, match="interval: must be at least 10 s for a scan of the public network"):
        parsed("type = scan\ninterval = 5 s", "tor")
    with pytest.raises(ConfigError, match="size: with this interval a scan fetches over 2 GiB a day"):
        parsed("type = scan\ninterval = 1 min\nsize = 5 MiB", "tor")
    parsed("type = scan\ninterval = 1 s\nsize = 5 MiB", "testnet")


def test_without_tor() -> None:
    """A SOCKS proxy builds no circuits that we could choose."""
    with pytest.raises(ConfigError, match="exit: circuits are built by a tor, which network = socks has not"):
        parse_config("[perfd]\nnetwork = socks\n[experiment:x]\nexit = Exit\n", Path("/x/perfd.conf"))
