"""The man pages: groff understands them, and they say what the command line and docs/configuration.md say."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.cli.command import _parser
from tests.support.places import CHECKOUT


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    command = [sys.executable, CHECKOUT / "docs" / "man_pages.py", directory]
    subprocess.run(command, check=True, cwd=CHECKOUT, stdout=subprocess.DEVNULL, timeout=60)
    return directory


def plain(page: Path) -> str:
    """As a terminal shows it; a line that groff does not understand fails."""
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", page], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield each
                yield from commands(each)


def test_perfd(pages: Path) -> None:
    """Every command with every option."""
    text = plain(pages / "perfd.1").replace("\N{HYPHEN}", "-").replace("\N{MINUS SIGN}", "-")
    for command in commands(_parser()):
        assert command.prog in text
        for action in command._actions:
            assert all(option in text for option in action.option_strings if option not in ("-h", "--help"))


def test_configuration(pages: Path) -> None:
    """Every option that docs/configuration.md has."""
    text = plain(pages / "perfd.conf.5")
    document = (CHECKOUT / "docs" / "configuration.md").read_text(encoding="utf-8")
    options = re.findall(r"^\|[^|]*\| `([a-z-]+)`", document, re.MULTILINE)
    assert len(options) > 40
    assert all(option in text for option in options)
