"""The file in which a tor keeps its consensus."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from perfd.tor.events.consensus import (
    FILES,
    MOST_PARAMETERS,
    Consensus,
    RelayVersion,
    parameters_in,
    read_consensus,
    read_versions,
    version_in,
)
from perfd.tor.events.lines import CircuitLine

ONE, TWO, THREE = (f"{n:040X}" for n in (1, 2, 3))
NOON = 1795435200.0  # 2026-11-23 12:00 UTC


def entry(fingerprint: str, *lines: str) -> str:
    identity = b64encode(bytes.fromhex(fingerprint)).decode().rstrip("=")
    return "\n".join((f"r relay {identity} 2038-01-01 00:00:00 10.0.0.1 9001 0", *lines, ""))


def consensus(params: str = "", time: str = "2026-11-23 12:00:00", entries: str = "") -> str:
    head = f"network-status-version 3 microdesc\nvote-status consensus\nvalid-after {time}\n"
    return f"{head}{params}dir-source auth1\ncontact (none)\n{entries}directory-footer\n"


RELAYS = "".join(
    (
        entry(ONE, "s Exit", "v Tor 0.4.9.11", "pr Link=1-5 Relay=2-6", "w Bandwidth=1"),
        entry(TWO, "s Exit", "v Tor 0.4.8.1 (git-1)", "pr Relay=1-2,4 Link=6"),
        entry(THREE, "s Exit"),
    )
)


def test_read(tmp_path: Path) -> None:
    """Of both flavors the newer; those parameters that are watched; relays with their versions."""
    assert read_consensus(tmp_path) is None
    assert read_versions(tmp_path, [ONE]) == {}
    (tmp_path / FILES[0]).write_text(
        consensus("params cc_alg=2 KISTSchedRunInterval=5 bwauthpid=1 cfx_enabled=1\n", entries=RELAYS)
    )
    (tmp_path / FILES[1]).write_text(consensus("params cc_alg=0\n", "2026-11-23 11:00:00"))
    found = read_consensus(tmp_path)
    assert found == Consensus(NOON, {"cc_alg": 2, "KISTSchedRunInterval": 5, "cfx_enabled": 1})
    assert found.text == "KISTSchedRunInterval=5 cc_alg=2 cfx_enabled=1"
    assert found.keys == {"CONSENSUS": NOON, "CONSENSUSPARAMS": found.digest}
    assert read_versions(tmp_path, [ONE, TWO, THREE, "F" * 40]) == {
        ONE: RelayVersion("0.4.9.11", cgo=True),
        TWO: RelayVersion("0.4.8.1", cgo=False),
        THREE: RelayVersion(),
    }
    (tmp_path / FILES[0]).unlink()
    assert read_consensus(tmp_path) == Consensus(NOON - 3600, {"cc_alg": 0})


def test_digest() -> None:
    """It is that of the parameters, in whatever order, and not of the time."""
    one, two = Consensus(1.0, {"cc_alg": 2, "cbtx": 1}), Consensus(2.0, {"cbtx": 1, "cc_alg": 2})
    assert one.digest == two.digest != Consensus(1.0, {"cc_alg": 1, "cbtx": 1}).digest


def test_hostile(tmp_path: Path) -> None:
    """What is no consensus has nothing; one without end is read up to a limit; numbers are numbers."""
    for content in ("", "valid-after 2026-11-23 12:00:00\n", consensus(time="2026-99-23 12:00:00")):
        (tmp_path / FILES[0]).write_text(content)
        assert read_consensus(tmp_path) is None
    (tmp_path / FILES[0]).write_text(consensus("params cc_alg=9e9 cc_x cc_y=99999999999 cc_z=-1\n"))
    found = read_consensus(tmp_path)
    assert found is not None
    assert found.parameters == {"cc_z": -1}
    assert len(parameters_in(" ".join(f"cc_{n}=1" for n in range(10 * MOST_PARAMETERS)))) == MOST_PARAMETERS
    bad = entry(ONE, "v Tor " + "9" * 100, "pr Relay=x").encode()
    assert version_in(bad, ONE) == RelayVersion()
    assert version_in(entry(ONE).encode() + entry(TWO, "v Tor 1").encode(), ONE) == RelayVersion()


@given(st.binary(max_size=300), st.text(max_size=300))
def test_anything(content: bytes, text: str) -> None:
    """Nothing makes it raise, whatever follows a relay's identity."""
    identity = entry(ONE).encode()
    version_in(identity + content, ONE)
    assert all(-(10**10) < value < 10**10 for value in parameters_in(text).values())


@given(st.dictionaries(st.from_regex(r"(cc|cfx)_[a-z]{1,20}", fullmatch=True), st.integers(-(2**31), 2**31 - 1)))
def test_round_trip(parameters: dict[str, int]) -> None:
    """The text of parameters reads back into them."""
    assert parameters_in(Consensus(0.0, parameters).text) == parameters


def test_effort() -> None:
    """HS_POW of a circuit: a kind that is not known, or no number, is none."""
    line = "1 BUILT PURPOSE=HS_CLIENT_INTRO HS_POW="
    assert CircuitLine.parse(line + "v1,250").hs_pow_effort == 250
    assert CircuitLine.parse(line + "v1,0").hs_pow_effort == 0
    for other in ("v2,250", "v1,", "v1,-1", "v1,99999999999", "250"):
        assert CircuitLine.parse(line + other).hs_pow_effort is None
