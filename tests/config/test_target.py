"""Targets elsewhere: lists of addresses, and keys to onion services."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfd.config import ConfigError, parse_config
from perfd.config.target import MOST_TARGETS, a_target, onion_in, onion_keys, urls

ONION = "b" * 56
KEY = "descriptor:x25519:" + "A" * 52
ZEROS = "A" * 43 + "="


def test_lists() -> None:
    """One address a line, each once; the mistaken one is named by its line."""
    assert urls("# sites\n http://a/ \n\nhttps://b/\nhttp://a/\n") == ("http://a/", "https://b/")
    for text, problem in (
        ("http://a/\nb\n", "line 2: 'b' is not an address"),
        ("# none\n", "it has 0 addresses"),
        ("http://a/\n" * (MOST_TARGETS + 1), f"it has {MOST_TARGETS + 1} addresses"),
    ):
        with pytest.raises(ValueError, match=problem):
            urls(text)


def test_keys() -> None:
    """A key for one service, or for any, as tor keeps them; a line that is none is not repeated in the message."""
    assert onion_keys(f"{ONION}:{KEY}\n# any\n{KEY}") == {ONION: ZEROS, None: ZEROS}
    for text, problem in ((KEY[:-1], "a line is not"), ("secret", "a line is not ADDRESS"), ("", "no key")):
        with pytest.raises(ValueError, match=problem) as caught:
            onion_keys(text)
        assert "secret" not in str(caught.value)


def test_addresses() -> None:
    """They are kept as requests have them: in ASCII, quoted once, without a fragment."""
    for text, url in (
        ("http://example.org", "http://example.org"),
        ("https://example.org:8443/a%20b?c=d&e#part", "https://example.org:8443/a%20b?c=d&e"),
        ("http://bücher.example:81/ä?ö", "http://xn--bcher-kva.example:81/%C3%A4?%C3%B6"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ):
        assert a_target(text) == url
        assert a_target(url) == url
    with pytest.raises(ValueError, match="at most 500"):
        a_target("http://a/" + "x" * 500)


def test_onion_addresses() -> None:
    """Subdomains are of the service; names that only look like one are none."""
    assert onion_in(f"https://www.{ONION}.onion:8443/x") == ONION
    assert onion_in(f"http://{ONION.upper()}.onion/") == ONION
    for url in (f"http://{ONION}.onion.example/", "http://short.onion/", "http://example.org/onion"):
        assert onion_in(url) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url = http://a/\nurls = list", "urls: cannot be given together with url"),
        ("urls = list\nonion-key = key", "onion-key: 'key' has no key for the onion services of url"),
        (
            "urls = same\ninterval = 10 s\npause = 4 s",
            "pause: 3 addresses of one host, with the pause between them",
        ),
        ("urls = bad", "urls: 'bad': line 1: 'x' is not an address"),
        ("url = http://a/\nonion-key = bad", "onion-key: 'bad': a line is not ADDRESS:descriptor:x25519:KEY"),
    ],
)
def test_problems(tmp_path: Path, text: str, problem: str) -> None:
    """Files are beside perfd.conf."""
    (tmp_path / "list").write_text("http://a/\nhttp://b/\n")
    (tmp_path / "same").write_text("http://a/1\nhttp://a/2\nhttp://a/3\n")
    (tmp_path / "key").write_text(f"{ONION}:{KEY}\n")
    (tmp_path / "bad").write_text("x\n")
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[experiment:a]\n{text}", tmp_path / "perfd.conf")
    (found,) = caught.value.problems
    assert problem in found


def test_key_is_not_shown(tmp_path: Path) -> None:
    """What is printed of a configuration has no key in it."""
    (tmp_path / "key").write_text(KEY)
    text = f"[experiment:a]\nurl = http://{ONION}.onion/\nonion-key = key"
    config = parse_config(text, tmp_path / "perfd.conf")
    (target,) = config.experiments[0].targets
    assert target.onion_key == ZEROS
    assert ZEROS not in repr(config)


def test_ways_of_comparisons(tmp_path: Path) -> None:
    """Each address is a way of its own; what a comparison is made of has its addresses."""
    (tmp_path / "list").write_text(f"http://{ONION}.onion/\nhttp://a/\n")
    text = f"""
[experiment:one]
url = http://{ONION}.onion/
[experiment:both]
urls = list
[experiment:own]
server = onion
[comparison:c]
experiment = one
arms =
    x=
    y=ConfluxEnabled 0
"""
    config = parse_config(text, tmp_path / "perfd.conf")
    assert [(each.ways, each.reaches_onion) for each in config.experiments] == [(1, True), (2, False), (1, True)]
    assert config.comparisons[0].design["urls"] == [f"http://{ONION}.onion/"]
