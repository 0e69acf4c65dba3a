"""Run the benches that are named, or all of them, one after the other.

Each runs in a process of its own: it starts with a fresh reactor, and the memory of one is not another's.
A missed target is reported, again at the end, but is no failure; a bench that breaks is one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.verdict import MISSED

HERE = Path(__file__).parent


def names() -> list[str]:
    """The benches: the modules here that can be run."""
    return sorted(
        path.stem for path in HERE.glob("[!_]*.py") if "\nif __name__ ==" in path.read_text(encoding="utf-8")
    )


def run(name: str) -> tuple[int, list[str]]:
    """Run a bench and pass on what it prints. Gives its exit code and its lines about missed targets."""
    missed = []
    command = [sys.executable, "-m", f"bench.{name}"]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if MISSED in line:
                missed.append(f"{name}: {line.strip()}")
    return process.returncode, missed


def main() -> int:
    """Run them, and print what was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Speed and memory against peers.")
    parser.add_argument("name", nargs="*", help=", ".join(names()))
    chosen = parser.parse_args().name or names()
    if unknown := sorted({*chosen} - {*names()}):
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(names())}")
    missed: list[str] = []
    broken: list[str] = []
    for name in chosen:
        print(f"== {name}", flush=True)
        code, lines = run(name)
        missed += lines
        if code:
            broken.append(name)
            print(f"{name} ended with exit code {code}")
        print()
    print("\n".join(["targets that were missed:", *missed]) if missed else "no target was missed")
    if broken:
        print(f"broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
