"""The command line: help, what was meant, and instances that are not there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perfd.cli.command import _parsers, main
from perfd.config import load_config
from perfd.config.reader import host_label


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd`, `perfd help` and `perfd help COMMAND` explain, and that is no failure."""
    for words, expected in (
        ([], "usage: perfd ["),
        (["help"], "usage: perfd ["),
        (["help", "check"], "perfd check"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        assert (ended.value.code, expected in out, err) == (0, True, "")


@pytest.mark.parametrize("words", [["strat"], ["help", "strat"]])
def test_did_you_mean(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """An unknown command is wrong usage, and the one that was meant is named."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "perfd: 'strat' is no command; did you mean 'start'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["results", "--sinse", "1h"],
            "results: there is no option --sinse; did you mean --since? (`perfd help results`",
        ),
        (["results", "--since", "soon"], "results: --since: 'soon' is no time such as"),
        (["results", "more"], "results: there is no place for 'more'"),
        (["results", "--json", "--csv"], "results: --csv: cannot be given together with --json"),
        (["export", "--format", "xls"], "export: --format: 'xls' is not one of 'tpf', "),
        (["note", "--at"], "note: --at: its value is missing"),
        (["testnet", "start"], "testnet start: DIR is missing (`perfd help testnet` has all)"),
        (
            ["testnet", "start", "x", "--relais", "6"],
            "testnet start: there is no option --relais; did you mean --relays?",
        ),
    ],
)
def test_wrong_usage(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is wrong, and what was meant."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"perfd: {told}")


def test_no_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no perfd.conf is, status is unknown and stop is of nothing configured, as LSB numbers them."""
    for command, code in (("status", 4), ("stop", 6)):
        assert main([command, "--config", str(tmp_path)]) == code
        assert f"perfd: {tmp_path}/perfd.conf: no such file" in capsys.readouterr().err
    (tmp_path / "perfd.conf").write_text("")
    assert main(["status", "--config", str(tmp_path)]) == 3


def test_check_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`perfd check DIR` is the same as with --config."""
    (tmp_path / "perfd.conf").write_text("[perfd]\nkeep = 1 h\n")
    for words in (["check", str(tmp_path)], ["check", "--config", str(tmp_path)]):
        assert main(words) == 1
        assert f"perfd: {tmp_path}/perfd.conf: [perfd] keep: '1 h' is not a whole number" in capsys.readouterr().err


def test_init(tmp_path: Path) -> None:
    """The source is this host, and changing `listen` alone changes the public address with it."""
    assert main(["init", str(tmp_path)]) == 0
    path = tmp_path / "perfd.conf"
    assert f"\nsource = {host_label()}\n" in path.read_text()
    path.write_text(path.read_text().replace("listen = 127.0.0.1:8080", "listen = 127.0.0.1:9999"))
    assert load_config(path).server.public_address.port == 9999


def test_help_waits_for_nothing() -> None:
    """What takes long to import is imported by the commands that need it."""
    code = "import sys, perfd.cli.command; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert (
        roots & {"twisted", "txtorcon", "rich", "numpy", "matplotlib", "pyarrow", "cryptography", "argcomplete"}
        == set()
    )
    assert "perfd.formats.outputs" not in done.stdout.split()


def test_examples() -> None:
    """The help of each command has an example, which the command line understands."""
    _, commands = _parsers()
    for name, parser in sorted(commands.items()):
        found = re.search(r"^example: (.*)$", (parser.epilog or "").replace("%%", "%"), re.MULTILINE)
        assert found is not None, name
        words = shlex.split(re.sub(r"[|>)].*", "", found.group(1).replace('eval "$(', "")))
        assert words[:2] == ["perfd", name]
        if name != "help":
            _parsers()[0].parse_args(words[1:])


def test_help_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of any help is longer than a terminal is wide."""
    monkeypatch.setenv("COLUMNS", "80")
    _, commands = _parsers()
    long = [(name, line) for name, each in commands.items() for line in each.format_help().split("\n")]
    assert [(name, line) for name, line in long if len(line) > 80] == []


def test_records_for_other_programs() -> None:
    """What is printed as JSON can be had as CSV too, and tables without colours and line breaks."""
    _, commands = _parsers()
    (actions,) = (action for action in commands["testnet"]._actions if action.choices)
    assert isinstance(actions.choices, dict)
    parsers = {**commands, "testnet status": actions.choices["status"]}
    found = {name: set(parser._option_string_actions) for name, parser in parsers.items()}
    assert {name for name, options in found.items() if ("--json" in options) != ("--csv" in options)} == set()
    tables = {name for name, options in found.items() if "--json" in options} - {"status"}
    assert {name for name in tables if not {"--plain", "--no-color"} <= found[name]} == set()
    assert {"note", "measure", "testnet status", "results", "config"} <= tables
