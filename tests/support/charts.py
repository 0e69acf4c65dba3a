"""One chart of each kind, with names that try to be markup."""

from __future__ import annotations

import math
from random import Random

from perfd.charts.axes import Axis, Scale, covering
from perfd.charts.build import cdf, over_time, scatter
from perfd.charts.model import (
    Bar,
    Bars,
    Chart,
    Column,
    HeatMap,
    Line,
    Mark,
    Point,
    Row,
    Stacks,
    Stretch,
    Strip,
    Tone,
    Waterfall,
    tone,
)

HOSTILE = "<script>alert(1)</script>\"'&"
START = 1_795_000_000.0
HOUR = 3600.0
PERIOD = (START, START + 48 * HOUR)
MARKS = (Mark(START + 10 * HOUR, HOSTILE),)

_TIME = Axis(label="", low=PERIOD[0], high=PERIOD[1], scale=Scale.TIME)


def every_kind() -> list[Chart]:
    """They have gaps, failures and intervals beyond their axes."""
    chance = Random(5)
    samples = {HOSTILE: [*(chance.lognormvariate(-0.5, 0.4) for _ in range(300)), math.inf], "few": [0.5, 1.0, 1.5]}
    points = [Point(START + n * HOUR, None if n in {20, 21} else 1 + n / 50, 0.8, 2.2) for n in range(48)]
    line = Line(name=HOSTILE, points=tuple(points))
    tones = [Tone.OK, Tone.FAILED, Tone.TIMEOUT, Tone.SKIPPED]
    return [
        cdf("distribution", f"Time to first byte {HOSTILE}", samples, label="first byte", unit="s"),
        over_time("series", "Over time", [line], label="first byte", unit="s", period=PERIOD, marks=MARKS),
        scatter(
            "scatter",
            "Delay by rate",
            {HOSTILE: [(chance.gauss(20, 5), chance.gauss(0.2, 0.1)) for _ in range(40)], "two": [(1, 1), (2, 3)]},
            x=("rate", "Mbit/s"),
            y=("delay", "s"),
            what="a run",
        ),
        Strip(
            name="strip",
            title="Outcomes",
            x=_TIME,
            stretches=tuple(
                Stretch(START + n * HOUR, START + (n + 1) * HOUR, tones[n % 4], HOSTILE) for n in range(48)
            ),
            marks=MARKS,
        ),
        Waterfall(
            name="steps",
            title="Steps",
            x=covering([0, 2], "since the start", "s", zero=True),
            rows=tuple(Row(f"{HOSTILE}{n}", (Stretch(n / 4, n / 4 + 0.3, tone(n), HOSTILE),)) for n in range(7)),
        ),
        HeatMap(
            name="heat",
            title="Hours",
            columns=tuple(f"{hour:02}" for hour in range(24)),
            rows=("Mon", HOSTILE),
            values=(tuple(h / 10 for h in range(24)), (None, *(h / 20 for h in range(23)))),
            label="median first byte",
            unit="s",
        ),
        Bars(
            name="effects",
            title="Effects",
            x=Axis(label="change", low=-5, high=5, unit="%"),
            bars=(Bar("complete", 2, -1, 8, text=HOSTILE), Bar(HOSTILE, -1, -math.inf, math.inf, Tone.B)),
            marks=(Mark(0, "no change"), Mark(3, "margin")),
        ),
        Stacks(
            name="failures",
            title="Failures",
            x=_TIME,
            y=covering([0, 0.3], "failed", "", Scale.SHARE, zero=True),
            names=("TOR/END/MISC", HOSTILE),
            columns=tuple(
                Column(START + n * HOUR, START + (n + 1) * HOUR, (0.1, n / 500)) for n in range(48) if n != 7
            ),
            marks=MARKS,
        ),
    ]
