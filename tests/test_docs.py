"""The README is true: its log line, its options, its error codes, its keys and its commands."""

import re
from pathlib import Path

import pytest

from perfd.cli import _parser
from perfd.config import parse_config
from perfd.config.experiment import OPTIONS
from perfd.logfile import parse, render
from perfd.record import FIELDS, Error, Kind, Outcome

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def options() -> set[str]:
    """All options that perfd.conf may have, as the source asks for them."""
    source = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "perfd" / "config").glob("*.py"))
    return set(re.findall(r'\.get\(\s*"([a-z-]+)"', source)) | set(OPTIONS)


def test_log_line() -> None:
    """The measurement that the README shows can be read, and is written as it stands there."""
    block = next(block for block in README.split("```") if " CONNECT=" in block and "..." not in block)
    line = " ".join(block.split())
    measurement = parse(line)
    assert measurement.outcome is Outcome.OK
    assert line.endswith(render(measurement))


def test_options() -> None:
    """The table names every option, and no other."""
    table = README[README.index("| section | option |") : README.index("`[tor]` is the tor named")]
    named = {
        name for row in table.splitlines()[2:] if row for name in re.findall(r"`([a-z-]+)`", row.split("|")[2])
    }
    assert named == options()


def test_options_in_the_commented_file() -> None:
    """perfd.conf, which `perfd init` writes, has every option, set or in a comment."""
    text = (CHECKOUT / "perfd.conf").read_text(encoding="utf-8")
    missing = {name for name in options() if not re.search(rf"^#?{name} =", text, re.MULTILINE)}
    assert missing <= {"socks-proxy", "control", "transport"}
    assert all(name in text for name in missing - {"transport"})
    parse_config(text, Path("perfd.conf"))


def test_error_codes() -> None:
    """Every error code of Perfd's own is explained, and no other."""
    codes = {value for name, value in vars(Error).items() if not name.startswith("_")}
    assert set(re.findall(r"`(PERFD/[A-Z]+)`", README)) == codes


def test_keys() -> None:
    """Every key of the log line is explained."""
    for field in FIELDS:
        if field.kind is not Kind.EXTRA:
            assert re.search(rf"\b{field.key}n?\b", README), field


@pytest.mark.parametrize("command", re.findall(r"^(?:\$ )?(?:\./)?perfd ([a-z]+)", README, re.MULTILINE))
def test_commands(command: str) -> None:
    """Every command in an example exists."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([command, "--help"])
    assert ended.value.code == 0
