"""How fast other people's formats are read and written, as multiples of a floor that only splits the same text.

Run from the checkout: python -m bench.formats [FILE.tpf]
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.compare import Comparison
from perfd.formats import legacy, onionperf, onionperf_writer, torperf
from perfd.record import Measurement

SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "torperf-51200-2016-10-02.tpf"
RESULTS, BLOCKS, EACH = 3000, 2, 5


def drain(items: Iterable[object]) -> None:
    """Take everything and keep nothing, as a pipeline does."""
    deque(items, maxlen=0)


def results(path: Path) -> list[str]:
    """As many lines of a .tpf file as the bench is of, repeated if it has fewer."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        found = list(lines)
    return (found * (2 * RESULTS // len(found) + 1))[: 2 * RESULTS]


def main() -> None:
    """Time everything against its floor."""
    lines = results(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
    runs = [m for m in torperf.read(lines) if isinstance(m, Measurement)]
    data = list(legacy.write_data(runs))
    document = onionperf_writer.dumps(onionperf_writer.analysis(runs[0].source, runs), xz=False)
    contests: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "read .tpf": (
            lambda: drain(torperf.read(lines)),
            lambda: drain([pair.split("=") for pair in line.split(" ")] for line in lines if line[0] != "@"),
        ),
        "write .tpf": (lambda: drain(torperf.write(runs)), lambda: drain(map(repr, runs))),
        "read .data": (
            lambda: drain(legacy.read_data(data, "moria", 51200)),
            lambda: drain(list(map(int, line.split())) for line in data),
        ),
        "read OnionPerf": (lambda: drain(onionperf.read(document)), lambda: json.loads(document)),
    }
    print(f"{RESULTS} results, CPU time of {BLOCKS} blocks of {EACH} + {EACH} rounds in random order")
    for name, (ours, floor) in contests.items():
        ways = {"perfd": ours, "floor": floor}
        comparison = Comparison(*ways)
        for _ in range(BLOCKS):
            for way in comparison.block(EACH):
                start = time.process_time()
                ways[way]()
                comparison.add(way, time=time.process_time() - start)
        speed, floors = (RESULTS / comparison.median("time", way) for way in ways)
        ratio = comparison.ratio("time", "perfd", "floor")
        print(f"{name:15} {speed:8.0f}/s, the floor {floors:.0f}/s; time / floor {ratio}")


if __name__ == "__main__":
    main()
