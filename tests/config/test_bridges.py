"""Bridge lines, and the bridges of the private network, in perfd.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import Config, ConfigError, parse_config
from perfd.config.bridges import read_bridges

CERTIFICATE = 70 * "A"
FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
SNOWFLAKE = (
    f"snowflake 192.0.2.3:80 {FINGERPRINT} url=https://broker.example/ fronts=a.example,b.example "
    "ice=stun:stun.example:3478 utls-imitate=hellorandomizedalpn"
)

GOOD = (
    "",
    f"192.0.2.1:443 {FINGERPRINT}",
    "[2001:db8::1]:443",
    f"obfs4 192.0.2.1:443 {FINGERPRINT} cert={CERTIFICATE} iat-mode=2",
    SNOWFLAKE,
    f"snowflake 192.0.2.3:80 {FINGERPRINT} sqsqueue=https://sqs.example/1/q sqscreds=x",
    "webtunnel [2001:db8::1]:443 url=https://example.org/path",
    "something-new 192.0.2.1:1 whatever=1",
    "testnet",
)

BAD = {
    f"obfs4 192.0.2.1:443 {FINGERPRINT} iat-mode=0": "a bridge with obfs4 needs cert=",
    f"obfs4 192.0.2.1:443 {FINGERPRINT} cert={CERTIFICATE[1:]} iat-mode=0": "cert of obfs4 must be as in",
    f"obfs4 192.0.2.1:443 {FINGERPRINT} cert={'!' * 70} iat-mode=0": "cert of obfs4 must be as in",
    f"obfs4 192.0.2.1:443 {FINGERPRINT} cert={CERTIFICATE} iat-mode=3": "iat-mode of obfs4 must be as in",
    f"snowflake 192.0.2.3:80 {FINGERPRINT} fronts=a.example": "a bridge with snowflake needs url=",
    f"snowflake 192.0.2.3:80 {FINGERPRINT} url=broker.example": "url of snowflake must be as in url=https://",
    "webtunnel 192.0.2.3:80": "a bridge with webtunnel needs url=",
    "meek_lite 192.0.2.3:80 front=a.example": "a bridge with meek_lite needs url=",
    f"testnet\n192.0.2.1:443 {FINGERPRINT}": "testnet stands alone",
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    """Lines that their transports would take, and those of transports that are not known."""
    assert read_bridges(f"Bridge {text}" if text not in ("", "testnet") else text) == ((text,) if text else ())


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    """What a line lacks is told before tor tries it in vain."""
    with pytest.raises(ValueError, match=BAD[text]):
        read_bridges(text)


def parse(text: str) -> Config:
    return parse_config(text, Path("perfd.conf"))


def test_testnet() -> None:
    """The private network's bridges, with Tor's own protocol or obfs4."""
    over = "bridges = testnet"
    text = f"[testnet]\nbridges = 2\n[tor:a]\n{over}\n[tor:b]\n{over}\ntransport = obfs4\n[tor:c]\n"
    config = parse(f"{text}[experiment:e]\ntor = a, b, c\n")
    assert config.private_network.bridges == 2
    assert config.private_network.bridge_names == ["bridge1", "bridge2"]
    tors = {tor.name: (tor.uses_testnet_bridges, tor.transport, tor.torrc_lines) for tor in config.tors}
    assert tors["a"] == (True, "vanilla", ())
    assert tors["b"] == (True, "obfs4", ())
    assert tors["c"] == (False, None, ())


def test_in_torrc() -> None:
    """Bridges that lines of a torrc name have the label of their transport too, if tor is to use them."""
    bridge = f"Bridge obfs4 192.0.2.1:443 {FINGERPRINT}"
    plugin = "ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy"
    for lines, expected in (
        (f"UseBridges 1\n {bridge}\n {plugin}", "obfs4"),
        (f"usebridges 1\n Bridge 192.0.2.1:443\n {plugin}", "vanilla"),
        (f"UseBridges 1\n {bridge}\n {plugin}\n UseBridges 0", None),
        (bridge, None),
    ):
        assert parse(f"[tor]\ntorrc =\n {lines}\n").tors[0].transport == expected
    # The label of the defaults is not that of a tor without bridges.
    config = parse("[testnet]\nbridges = 1\n[tor]\nbridges = testnet\ntransport = obfs4\n[tor:a]\nbridges =\n")
    assert {tor.name: tor.transport for tor in config.tors} == {"default": "obfs4", "a": None}


PROBLEMS = {
    "[experiment:b]\ntype = bootstrap\n[comparison:c]\narms =\n a=NumEntryGuards 1\n b=NumEntryGuards 2\n"
    "experiment = b\n": "experiment: its tors are launched for each run",
    "[tor]\nbridges = testnet\n": "[tor] bridges: testnet needs bridges = 1, or more, in [testnet]",
    "[testnet]\nbridges = 1\n[tor:a]\nbridges = testnet\ntransport = snowflake\n": (
        "[tor:a] transport: 'snowflake' is not one of vanilla, obfs4"
    ),
    "[testnet]\nbridges = 1\n[tor:a]\nbridges = testnet\ncontrol = 127.0.0.1:9051\n": (
        "[tor:a] bridges: not used with control"
    ),
    "[testnet]\nbridges = 11\n": "[testnet] bridges: must be 0 to 10",
    "[perfd]\nnetwork = tor\n[server]\npublic-address = 192.0.2.1:80\n[tor]\nbridges = testnet\n": (
        "[tor] bridges: testnet needs network = testnet"
    ),
    "[experiment:b]\ntype = bootstrap\ntor = none\n": "[experiment:b] tor: none is not launched by Perfd",
    "[tor:a]\ncontrol = 127.0.0.1:9051\n[experiment:b]\ntype = bootstrap\ntor = a\n": "tor: a is not launched",
    "[client:c]\nsocks = 127.0.0.1:9\n[experiment:b]\ntype = bootstrap\ntor = c\n": "tor: c is not launched",
    "[perfd]\nnetwork = socks\n[experiment:b]\ntype = bootstrap\n": "type: bootstrap needs a network of tors",
    "[experiment:b]\ntype = bootstrap\ndata-directory = nowhere\n": "nowhere is no directory",
    "[experiment:b]\ndata-directory = nowhere\n": "data-directory: only used with type = bootstrap",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_problems(text: str) -> None:
    """What cannot be is told, with the section and the option."""
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert PROBLEMS[text] in str(raised.value)
