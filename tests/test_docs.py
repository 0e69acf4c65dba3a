"""The README and docs/ are true: their log lines, options, error codes, keys, examples, commands and links."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.cli.command import _parser
from perfd.config import parse_config
from perfd.config.kinds import KINDS
from perfd.formats import dictionary, imported
from perfd.formats.onionperf_runs import TGEN_STEPS
from perfd.formats.outputs import OUTPUTS
from perfd.logfile.line import parse, render
from perfd.record import FIELDS, Error, Kind, Outcome
from perfd.store import parameters
from tests.support.places import CHECKOUT
from tests.support.routes import described

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "docs").glob("*.md"))}
PAGES = {
    "README.md": README,
    "CONTRIBUTING.md": (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    **{f"docs/{name}": text for name, text in DOCS.items()},
}
PAGES_OF_KINDS = DOCS["experiments.md"] + DOCS["pages.md"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOG_LINE = re.compile(r"[0-9-]{10} [0-9:]{8}\+0000 \[perfd\.")

QUANTILES = {"MIN", "Q1", "MEDIAN", "Q3", "P95", "MAX"}
"""What keys of round-trip times end in; no keys themselves."""


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a document."""
    return [block for found, block in BLOCK.findall(text) if found == language]


def whole_lines() -> list[str]:
    """The log lines in docs/ that are not shortened; each has a block of its own."""
    lines = (" ".join(block.split()) for block in blocks(PAGES_OF_KINDS, ""))
    return [line for line in lines if LOG_LINE.match(line) and "..." not in line]


def documented_keys() -> set[str]:
    """The keys of the tables in records.md. DATAPERCn stands for all that have a number there."""
    rows = re.findall(r"^\| key \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", DOCS["records.md"], re.MULTILINE)
    cells = [row.split("|")[1] for table in rows for row in table.splitlines()]
    return {key for cell in cells for key in cell.replace(",", " ").split()}


def upgraded_keys() -> Iterator[tuple[str, str]]:
    """The keys that upgrades of the database write."""
    for script in (CHECKOUT / "perfd" / "store" / "schema").glob("*.sql"):
        for key in re.findall(r"json_set\([^;]*?'\$\.([A-Z]+)'", script.read_text(encoding="utf-8")):
            yield script.name, key


def written_keys() -> Iterator[tuple[str, str]]:
    """The keys of a type's own that the source writes: as they are, or as a pattern if they are put together."""
    perfd = CHECKOUT / "perfd"
    sources = [
        *perfd.glob("experiments/*.py"),
        perfd / "comparison/service.py",
        perfd / "daemon/schedule.py",
        perfd / "browser/files/contents.py",
        perfd / "tor/circuits/chosen.py",
        perfd / "tor/events/rendezvous.py",
        perfd / "tor/events/relays.py",
        perfd / "tor/events/layers.py",
        perfd / "tor/events/consensus.py",
        perfd / "tor/events/join.py",
    ]
    yield from upgraded_keys()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[ast.expr | None] = []
            if isinstance(node, ast.Dict):
                found = list(node.keys)
            elif isinstance(node, ast.JoinedStr):
                found = [node]
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                found = [node.slice]
            elif isinstance(node, ast.keyword):
                found = [ast.Constant(node.arg)]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("PAIR", "STAMPS"):
                found = [node.value]
            for each in found:
                pattern = key_pattern(each)
                if re.fullmatch(r"[A-Z][A-Z0-9]*(\[A-Z0-9n\]\+[A-Z0-9]*)*", pattern) and pattern not in QUANTILES:
                    yield path.name, pattern


def imported_keys() -> set[str]:
    """The keys that imported results have besides."""
    return {imported.DATACOMPLETE, imported.DIDTIMEOUT, imported.FILTERED_OUT, *TGEN_STEPS}


def key_pattern(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "[A-Z0-9n]+" for part in node.values)
    return ""


def options() -> set[str]:
    """All options that perfd.conf may have, as the source asks for them."""
    source = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "perfd" / "config").glob("*.py"))
    own = {option.name for kind in KINDS.values() for option in kind.options}
    return set(re.findall(r'(?:section|perfd)\.get\(\s*"([a-z-]+)"', source)) | own


def test_readme_is_short() -> None:
    """What it is, how to begin, and where to read on."""
    assert README.count("\n") <= 130


def test_extras() -> None:
    """The table of installing.md has each extra of setup.py, and its libraries; no other."""
    source = (CHECKOUT / "setup.py").read_text(encoding="utf-8")
    extras = ast.literal_eval(re.findall(r"^EXTRAS = (\{.*?^\})", source, re.MULTILINE | re.DOTALL)[0])
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", DOCS["installing.md"], re.MULTILINE))
    assert set(rows) == set(extras)
    for name in set(extras) - {"test"}:
        assert {rows[name]} == {requirement.partition(">=")[0] for requirement in extras[name]}


def test_options() -> None:
    """The table names every option, and no other."""
    page = DOCS["configuration.md"]
    table = page[page.index("| section | option |") : page.index("`[tor]` is the tor named")]
    named = {
        name for row in table.splitlines()[2:] if row for name in re.findall(r"`([a-z-]+)`", row.split("|")[2])
    }
    assert named == options()


def test_options_in_the_commented_file() -> None:
    """perfd.conf, which `perfd init` writes, has every option, set or in a comment."""
    text = (CHECKOUT / "perfd.conf").read_text(encoding="utf-8")
    missing = {name for name in options() if not re.search(rf"^#?{name} =", text, re.MULTILINE)}
    assert missing <= {"socks-proxy", "control", "control-password", "control-password-file", "transport"}
    assert all(name in text for name in missing - {"transport"})
    parse_config(text, Path("perfd.conf"))


def test_error_codes() -> None:
    """Every error code of Perfd's own is explained, and no other."""
    codes = {value for name, value in vars(Error).items() if not name.startswith("_")}
    assert set(re.findall(r"`(PERFD/[A-Z]+)`", DOCS["records.md"])) == codes


def test_keys() -> None:
    """Every key of the log line is explained."""
    documented = documented_keys()
    for field in FIELDS:
        if field.kind is not Kind.EXTRA:
            assert {field.key, f"{field.key}n"} & documented, field


@pytest.mark.parametrize(
    "command",
    sorted(set(re.findall(r"(?:^|^\$ |`)(?:\./)?perfd ([a-z]+)", "\n".join(PAGES.values()), re.MULTILINE))),
)
def test_commands(command: str) -> None:
    """Every command in an example exists."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([command, "--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize("line", re.findall(r"^\$ perfd (.*?)(?: &)?$", "\n".join(PAGES.values()), re.MULTILINE))
def test_command_lines(line: str) -> None:
    """Every command whose output is shown can be given like that."""
    _parser().parse_args(shlex.split(line))


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=name) for name, text in DOCS.items() for block in blocks(text, "ini")]
)
def test_examples(block: str) -> None:
    """Every example is a perfd.conf without mistakes."""
    assert parse_config(block, Path("perfd.conf")).experiments


def test_whole_log_lines() -> None:
    """The measurements in docs/ can be read, and are written as they stand there; there is one of each type."""
    lines = whole_lines()
    for line in lines:
        measurement = parse(line)
        assert measurement.outcome is Outcome.OK
        assert line.endswith(render(measurement))
    types = {parse(line).type for line in lines}
    assert types == set(KINDS)


def test_dictionary() -> None:
    """It is in docs/records.md as it is printed, and has a column for every key."""
    assert dictionary.markdown() in DOCS["records.md"]
    columns = {column.name for column in dictionary.COLUMNS}
    without = {key for key in documented_keys() if key.lower() not in columns}
    assert without == {"DATAPERCn", "PARTIALn", "SENTPERCn"}  # of which there are those that are usual


def test_keys_of_the_types() -> None:
    """Every key that a type adds is explained in docs/, and no other."""
    documented = documented_keys()
    known = {field.key for field in FIELDS} | {
        "DIDTIMEOUT"
    }  # which is written for its readers, and made of OUTCOME
    assert documented
    written = {(path, pattern) for path, pattern in written_keys() if pattern not in known}
    for path, pattern in written:
        assert any(re.fullmatch(pattern, key) for key in documented), (path, pattern)
    shown = {key for line in whole_lines() for key in parse(line).extra}
    assert {re.sub("^SENTPERC[0-9]+$", "SENTPERCn", key) for key in shown} <= documented
    patterns = {pattern for _, pattern in written} | known | imported_keys()
    for key in documented:
        assert key.removesuffix("n") in known or any(re.fullmatch(each, key) for each in patterns), key


def test_formats() -> None:
    """Every format that ``perfd export`` writes is explained, and no other."""
    table = DOCS["formats.md"].split("| `--format` |")[1].split("\n\n")[0]
    assert dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", table, re.MULTILINE)) == {
        output.name: output.doc for output in OUTPUTS
    }


def test_routes() -> None:
    """Every path that openapi.json knows is in the table of http.md."""
    table = DOCS["http.md"].split("## Health")[0]
    for path in described(2**30)["paths"]:
        shown = re.sub(r"\\{\w+\\}", "[^/`]+", re.escape(path))
        assert re.search(rf"`(GET |POST )?{shown}`", table), path


def test_filters() -> None:
    """Everything that may be asked of results is in the table of http.md, and nothing else."""
    table = DOCS["http.md"].split("| argument | only |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() if row for name in re.findall(r"`([a-z]+)`", row.split("|")[1])}
    known = [each.name for each in parameters.RESULTS]
    assert named == {name for name in known if not name.startswith(parameters.EXCLUDING)}


def test_layout() -> None:
    """CONTRIBUTING.md names every package and every module at the root."""
    layout = blocks(PAGES["CONTRIBUTING.md"], "")[1]
    names = [path.name + "/" * path.is_dir() for path in (CHECKOUT / "perfd").iterdir()]
    wanted = [name for name in names if not name.startswith("_") and not name.startswith(("py.typed", "templates"))]
    assert [name for name in wanted if name not in layout] == []


@pytest.mark.parametrize("name", PAGES)
def test_links(name: str) -> None:
    """Every link to a file or a section leads there."""
    page = CHECKOUT / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, section = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.is_file(), target
        if to.suffix != ".md":
            continue
        headings = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not section or section in anchors, target
