"""What another perfd.conf changes: what can be had at once, and what needs a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import Config, ExperimentConfig, parse_config
from perfd.daemon.changes import Changes, compare

BASE = """
[perfd]
source = test
network = testnet
keep = 30 d
[server]
listen = 127.0.0.1:8080
[tor:a]
[tor:b]
[browser:x]
binary = /usr/bin/firefox
[experiment:one]
size = 50 KiB
interval = 5 min
tor = a
[experiment:page]
type = pageload
browser = x
tor = a
interval = 10 min
"""


def config(text: str = BASE) -> Config:
    return parse_config(text, Path("perfd.conf"))


def lacks(experiment: ExperimentConfig) -> str | None:
    """The tor b is not launched."""
    return "needs the tor b" if "b" in experiment.tors else None


def changes(*replacements: tuple[str, str]) -> Changes:
    """What those changes of the text change."""
    text = BASE
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return compare(config(), config(text), lacks)


def test_nothing() -> None:
    """The same file, or a comment in it, changes nothing."""
    found = changes(("[tor:a]", "# A comment.\n[tor:a]"))
    assert found == Changes(config(), (), (), (), ())


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("keep = 30 d", "keep = 60 d\narchive = no\nkeep-logs = 2 d", "[perfd] keep-logs, keep, archive"),
        ("[server]", "[server]\nresults = none\nmax-rate = 1 MiB/s", "[server] results, max-rate"),
        ("[server]", "[server]\nmax-size = 2 GiB\nmax-connections = 7", "[server] max-size, max-connections"),
        (
            "interval = 5 min",
            "interval = 1 min\noffset = 1 s\nparallel = 2",
            "[experiment:one] interval, offset, timeout, parallel",
        ),
        ("size = 50 KiB", "type = upload", "[experiment:one] type = upload"),
        ("[experiment:one]", "[experiment:two]\ntor = a\n[experiment:one]", "[experiment:two] added"),
    ],
)
def test_at_once(old: str, new: str, text: str) -> None:
    """What no tor and no port depends on, is what holds from now on."""
    found = changes((old, new))
    assert (found.changed, found.restart) == ((text,), ())
    assert found.config == config(BASE.replace(old, new))


def test_removed() -> None:
    """An experiment that is not there any more."""
    found = changes(("[experiment:one]\nsize = 50 KiB\ninterval = 5 min\ntor = a\n", ""))
    assert (found.changed, found.removed) == (("[experiment:one] removed",), ("one",))
    assert [each.name for each in found.config.experiments] == ["page"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "source = test",
            "source = other\ndatabase = sqlite:///other\nuser = nobody",
            "[perfd] source, database, user",
        ),
        ("network = testnet", "network = testnet\ntestnet = /srv/net", "[perfd] testnet"),
        ("127.0.0.1:8080", "127.0.0.1:9090", "[server] listen, public-address"),
        ("[server]", "[server]\nonion-auth = yes\nsingle-onion = yes", "[server] single-onion, onion-auth"),
        ("[tor:a]", "[tor:a]\ntorrc = UseEntryGuards 0", "[tor:a] torrc"),
        (
            "[tor:a]",
            "[tor:a]\ncontrol = 127.0.0.1:9051\ncontrol-password = secret",
            "[tor:a] control, control-password",
        ),
        ("[tor:b]", "[tor:c]", "[tor:c] added; [tor:b] removed"),
        (
            "size = 50 KiB\ninterval = 5 min\ntor = a",
            "interval = 1 min\ntor = b",
            "[experiment:one] needs the tor b",
        ),
    ],
)
def test_needs_restart(old: str, new: str, text: str) -> None:
    """What would cost a tor, a port or the name stays as it was; no value is told, which may be a password."""
    found = changes((old, new))
    assert (found.changed, "; ".join(found.restart)) == ((), text)
    assert found.config == config()
    assert found.measured == ()


def test_some_of_each() -> None:
    """What can change does, whatever else cannot."""
    found = changes(
        ("keep = 30 d", "keep = 60 d"),
        ("= test\n", "= x\n"),
        ("interval = 5 min", "interval = 1 min\ntimeout = 9 s"),
    )
    assert (found.changed, found.restart) == (
        ("[perfd] keep", "[experiment:one] interval, timeout"),
        ("[perfd] source",),
    )
    assert (found.config.source, found.config.keep, found.config.experiments[0].interval) == ("test", 60, 60.0)


def test_measured_in_another_way() -> None:
    """Experiments that did not change themselves are measured anew when their browser or the address did."""
    found = changes(("/usr/bin/firefox", "/opt/firefox"))
    assert (found.changed, [each.name for each in found.measured]) == (("[browser:x] binary",), ["page"])
    found = changes(("[server]", "[server]\npublic-address = 127.0.0.1:81"))
    assert (found.changed, [each.name for each in found.measured]) == (
        ("[server] public-address",),
        ["one", "page"],
    )
    assert found.config.server.public_address.port == 81
