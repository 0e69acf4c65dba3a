"""``[client:NAME]``: what is read, and what is refused with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import ConfigError, parse_config
from perfd.config.values import Address

PATH = Path("/instance/perfd.conf")
ARTI = "[client:arti]\nkind = arti\n[experiment:a]\ntor = arti\n"
PLAIN = "[client:vpn]\nsocks = 10.0.0.1:1080\nisolation = none\n[experiment:a]\ntor = vpn\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, PATH)
    return list(caught.value.problems)


@pytest.mark.parametrize("network", ["testnet", "socks"])
def test_read(network: str) -> None:
    """Programs are beside perfd.conf or in PATH, and quoted as in a shell; names stand where those of tors do."""
    ours, others, plain = parse_config(
        f"[perfd]\nnetwork = {network}\n"
        "[client:ours]\nkind = arti\ncommand = ./bin/arti -l 'debug info'\n"
        "[client:others]\nkind = arti\nsocks = socks5://127.0.0.1:9150\n"
        "[client:plain]\nsocks = socks4://127.0.0.1:1080\nisolation = none\nbootstrap-timeout = 9 s\n"
        "[experiment:a]\ntor = default, ours, others, plain\n",
        PATH,
    ).clients
    assert ours.command == ("/instance/bin/arti", "-l", "debug info")
    assert ours.version_command == ("/instance/bin/arti", "--version")
    assert (ours.socks, ours.is_our_arti, ours.is_isolating) == (None, True, True)
    assert (others.command, others.is_our_arti) == ((), False)
    assert plain.socks is not None
    assert (plain.socks.version, plain.socks.address) == (4, Address("127.0.0.1", 1080))
    assert (plain.is_isolating, plain.version_command, plain.bootstrap_timeout) == (False, (), 9.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[client:a]", "[client:a] socks: needed: where it listens"),
        ("[client:a]\nsocks = socks5://0.0.0.0:9", "0.0.0.0:9 is no address to connect to"),
        ("[client:a]\nsocks = 127.0.0.1:0", "'127.0.0.1:0' is not an address"),
        ("[client:a]\nkind = arti\nsocks = socks4://127.0.0.1:9", "write socks5://"),
        ("[client:a]\nkind = arti\nsocks = 127.0.0.1:9\ncommand = arti", "says itself where it listens"),
        ("[client:a]\nsocks = 127.0.0.1:9\ncommand = 'x", "command: No closing quotation"),
        ("[client:none]\nkind = arti", "stands for no tor at all"),
        ("[client:default]\nkind = arti", "a tor has that name"),
        ("[tor:a]\n[client:a]\nkind = arti", "a tor has that name"),
        ("[client:a]\nkind = arti\ntorrc = Log info", "[client:a] torrc: unknown option"),
        (ARTI + "optimistic = both", "optimistic: the client arti is Arti, which refuses data"),
        (ARTI + "skip-until-cbt = yes", "skip-until-cbt: the client arti has no control port"),
        (ARTI + "server = onion\nfresh-descriptor = yes", "fresh-descriptor: the client arti has no control port"),
        (
            "[server]\nonion-auth = yes\n" + ARTI + "server = onion",
            "server: the client arti has no control port, which an onion service with onion-auth needs",
        ),
        (
            PLAIN + "parallel = 2\nparallel-circuits = each",
            "parallel-circuits: the client vpn has isolation = none",
        ),
        (PLAIN + "type = series\ngroups = 2", "groups: the client vpn has isolation = none"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    """Each mistake is told with its option."""
    assert expected in "\n".join(problems(text))


COMPARED = "[client:arti]\nkind = arti\n[experiment:a]\n[comparison:c]\nexperiment = a\narms =\n"


def test_arm() -> None:
    """An arm names a client or a tor, and is measured over what is there: no tors of its own are launched."""
    config = parse_config(COMPARED + "  tor=tor = default\n  arti=tor = arti\n", PATH)
    (comparison,) = config.comparisons
    assert [each.tors for each in comparison.experiments] == [("default",), ("arti",)]
    assert (comparison.tors, [tor.name for tor in config.tors]) == ((), ["default"])


def test_arm_refused() -> None:
    """Options of tor would do nothing then, and several tors are none."""
    found = "\n".join(problems(COMPARED + "  a=ConfluxEnabled 0\n  b=tor = arti, default\n"))
    assert "arms: a: with tor = it has no options of tor" in found
    assert "arms: b: an arm is measured over one tor or client" in found
