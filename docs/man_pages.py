"""Makes the man pages: perfd(1) of what the command line understands, perfd.conf(5) of docs/configuration.md.

``python docs/man_pages.py DIRECTORY`` writes both there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from perfd import __version__
from perfd.cli.command import _parser

DOCS = Path(__file__).parent

EXIT_STATUS = "0: done. 1: failed. 2: wrong usage. start, stop and status also have those of LSB init scripts."
FILES = (
    ("perfd.conf", "the configuration of an instance, see perfd.conf(5)"),
    ("perfd.log", "a line of KEY=value pairs for each measurement"),
    ("perfd.sqlite", "the measurements, and what tor told"),
)


def escape(text: str) -> str:
    """``text`` for roff (groff(7)): nothing in it is a command or a sign of its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def page(name: str, section: int, summary: str, body: Sequence[str]) -> str:
    """A whole man page (man(7))."""
    head = f'.TH {name.upper()} {section} "" "Perfd {__version__}" "Perfd"'
    return "\n".join((head, ".SH NAME", f"{escape(name)} \\- {escape(summary)}", *body)) + "\n"


def command_page() -> str:
    """perfd(1)."""
    parser = _parser()
    body = [".SH SYNOPSIS", ".B perfd", "COMMAND [OPTION]...", ".SH DESCRIPTION", escape(parser.description or "")]
    body.append("It serves random bytes over HTTP, fetches them back through a tor, and keeps what it measured.")
    body.append(".SH COMMANDS")
    for name, text, command in _commands(parser):
        body += [f".SS {escape(name)}", escape(command.description or f"{text}.")]
        body += _options(command)
    body += [".SH EXIT STATUS", escape(EXIT_STATUS), ".SH FILES"]
    for name, text in FILES:
        body += [".TP", f".I {escape(name)}", escape(text)]
    body += [".SH SEE ALSO", ".BR perfd.conf (5)"]
    return page("perfd", 1, "measure the performance of Tor, continuously", body)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield f"{command.prog}", helps.get(name, name), command
                yield from _commands(command)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
        yield ".TP"
        if action.option_strings:
            yield " ".join(filter(None, (f"\\fB{escape(', '.join(action.option_strings))}\\fR", escape(value))))
        else:
            yield f"\\fI{escape(value)}\\fR"
        yield escape((action.help or "").replace("%%", "%")) or "\\&"
    if parser.epilog:
        yield from (".PP", ".nf", escape(parser.epilog), ".fi")


def configuration_page() -> str:
    """perfd.conf(5)."""
    tokens = MarkdownIt("commonmark").enable("table").parse((DOCS / "configuration.md").read_text(encoding="utf-8"))
    written = _Roff()
    for token in tokens:
        written.take(token)
    body = [".SH DESCRIPTION", *written.lines, ".SH SEE ALSO", ".BR perfd (1)"]
    return page("perfd.conf", 5, "what Perfd measures, and how", body)


class _Roff:
    """The lines of a document in Markdown, without its title: a method for each type of token."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._cells: list[str] | None = None  # of the row of a table that is read
        self._heading = ""
        self._in_item = False

    def take(self, token: Token) -> None:
        method = getattr(self, token.type, None)
        if method is not None:
            method(token)

    def heading_open(self, token: Token) -> None:
        self._heading = token.tag

    def heading_close(self, token: Token) -> None:
        self._heading = ""

    def tr_open(self, token: Token) -> None:
        self._cells = []

    def tr_close(self, token: Token) -> None:
        self.lines += _row(self._cells or [])
        self._cells = None

    def list_item_open(self, token: Token) -> None:
        self.lines.append(".IP \\(bu 2")
        self._in_item = True

    def paragraph_open(self, token: Token) -> None:
        self.lines += [] if self._in_item else [".PP"]
        self._in_item = False

    def fence(self, token: Token) -> None:
        self.lines += [".PP", ".RS 4", ".nf", escape(token.content.rstrip("\n")), ".fi", ".RE"]

    def inline(self, token: Token) -> None:
        text = _inline(token)
        if self._cells is not None:
            self._cells.append(text)
        elif not self._heading:
            self.lines.append(text)
        elif self._heading != "h1":
            self.lines.append(f"{'.SH' if self._heading == 'h2' else '.SS'} {text}")


def _row(cells: Sequence[str]) -> list[str]:
    """A row of a table: what stands in its last cell is said of the others; four cells begin with the section."""
    *names, text = cells
    if not any(cells) or text == "meaning":
        return []
    section = [f".SS {names.pop(0)}"] if len(cells) == 4 and names[0] else []
    name, *more = filter(None, names) or ("\\&",)
    default = (
        f" (default: {', '.join(more)})" if more and len(cells) == 4 else "".join(f"  {each}" for each in more)
    )
    return [*section, ".TP", f"{name}{default}", text or "\\&"]


def _inline(token: Token) -> str:
    words = []
    for child in token.children or ():
        if child.type == "code_inline":
            words.append(f"\\fB{escape(child.content)}\\fR")
        elif child.type == "text":
            words.append(escape(child.content))
        elif child.type in ("softbreak", "hardbreak"):
            words.append(" ")
        elif child.type in ("em_open", "strong_open"):
            words.append("\\fI")
        elif child.type in ("em_close", "strong_close"):
            words.append("\\fR")
    return re.sub(r"^([.'])", r"\\&\1", "".join(words))


def main() -> None:
    """Write both pages into the directory that is named."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("perfd.1", command_page()), ("perfd.conf.5", configuration_page())):
        (directory / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{directory / name}\n")


if __name__ == "__main__":
    main()
