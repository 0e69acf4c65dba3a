"""Axes: where a value stands between the ends of a chart, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise

import attrs

HOUR, DAY = 3600.0, 86400.0

MILLISECONDS = 0.01
"""Seconds; shorter times are told in milliseconds."""

_TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 3 * DAY, 5 * DAY, 10 * DAY),
)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60)
_TAIL = (0, 0.5, 0.9, 0.99, 0.999, 0.9999)


class Scale(Enum):
    """How distances on an axis grow."""

    LINEAR = "linear"
    LOGARITHMIC = "logarithmic"  # of positive values
    TIME = "time"  # seconds since the epoch, told in UTC
    SHARE = "share"  # 0 to 1, told in per cent
    TAIL = "tail"  # shares from 0 to below 1; as far from 0 to 0.9 as from 0.9 to 0.99


@attrs.frozen
class Tick:
    """A value that is written beside an axis."""

    value: float
    text: str


@attrs.frozen(kw_only=True)
class Axis:
    """A direction of a chart, from ``low`` to ``high``. Raises ValueError where that is no range."""

    label: str
    low: float
    high: float
    unit: str = ""
    scale: Scale = Scale.LINEAR

    def __attrs_post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"an axis cannot go from {self.low} to {self.high}")
        if self.scale is Scale.LOGARITHMIC and self.low <= 0:
            raise ValueError("a logarithmic axis begins above 0")
        if self.scale is Scale.TAIL and not 0 == self.low < self.high < 1:
            raise ValueError("an axis of a tail goes from 0 to below 1")

    @property
    def title(self) -> str:
        """The label with its unit."""
        unit = {Scale.TIME: "UTC", Scale.SHARE: "%", Scale.TAIL: "%"}.get(self.scale, self.unit)
        return f"{self.label} ({unit})" if self.label and unit else self.label or unit

    def place(self, value: float) -> float:
        """Where ``value`` stands: 0 at the low end, 1 at the high one; what is outside stands at the end."""
        value = min(max(value, self.low), self.high)
        if self.scale is Scale.LOGARITHMIC:
            return math.log(value / self.low) / math.log(self.high / self.low)
        if self.scale is Scale.TAIL:
            return math.log(1 - value) / math.log(1 - self.high)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 7) -> list[Tick]:
        """About ``most`` round values, at most one more."""
        if self.scale is Scale.TIME:
            return list(_time_ticks(self.low, self.high, most))
        if self.scale is Scale.LOGARITHMIC:
            return [Tick(value, number(value)) for value in _powers(self.low, self.high, most)]
        if self.scale is Scale.TAIL:
            return [Tick(share, f"{share * 100:g}") for share in _TAIL if share <= self.high]
        step = round_step((self.high - self.low) / most)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-6), math.floor(self.high / step + 1e-6)
        if self.scale is Scale.SHARE:
            values = [n * step for n in range(first, last + 1)]
            return [Tick(value, f"{value * 100:.{max(0, decimals - 2)}f}") for value in values]
        return [Tick(n * step, f"{n * step:.{decimals}f}".replace("-0.0", "0.0")) for n in range(first, last + 1)]

    def text(self, value: float) -> str:
        """``value`` in words, with its unit."""
        if self.scale is Scale.TIME:
            return moment(value)
        if self.scale in (Scale.SHARE, Scale.TAIL):
            return f"{number(value * 100)} %"
        if self.unit == "s" and 0 < abs(value) < MILLISECONDS:
            return f"{number(value * 1000)} ms"
        return f"{number(value)} {self.unit}".rstrip()


def covering(
    values: Iterable[float], label: str, unit: str = "", scale: Scale = Scale.LINEAR, *, zero: bool = False
) -> Axis:
    """An axis for finite ``values``, which goes on to round numbers; from 0 with ``zero``. Infinite ones don't
    count.
    """
    finite = [value for value in values if math.isfinite(value)]
    if scale is Scale.LOGARITHMIC:
        finite = [value for value in finite if value > 0]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if scale is Scale.LOGARITHMIC:
        low, high = (low, high) if finite else (1.0, 10.0)
        if high / low < 1.2:
            low, high = low / 1.1, high * 1.1
        return Axis(label=label, low=low * 0.97, high=high * 1.03, unit=unit, scale=scale)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < max(1e-300, max(abs(low), abs(high)) * 1e-12):  # one value, as far as numbers can tell
        low, high = (
            (low, high + 1.0) if zero and low == 0 else (low - abs(low) * 0.1 - 1e-9, high + abs(high) * 0.1 + 1e-9)
        )
    if scale is not Scale.TIME:
        step = round_step((high - low) / 6)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(label=label, low=low, high=high, unit=unit, scale=scale)


def shares(label: str) -> Axis:
    """From 0 to all."""
    return Axis(label=label, low=0.0, high=1.0, scale=Scale.SHARE)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least so much."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def number(value: float) -> str:
    """Three significant digits, and never an exponent where a person would not write one."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = math.floor(math.log10(abs(value)) + 1e-12)
    if size >= 9 or size < -6:
        return f"{value:.3g}"
    text = f"{value:,.{max(0, 2 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(epoch: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(" ", "seconds")[:19]  # strftime takes four times as long


def _powers(low: float, high: float, most: int) -> list[float]:
    """Round values of a logarithmic axis: as many of 1, 2, 5 in each decade as there is room for."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def _time_ticks(low: float, high: float, most: int) -> Iterator[Tick]:
    step = next((step for step in _TIME_STEPS if (high - low) / step <= most), None)
    if step is None:
        yield from _month_ticks(low, high, most)
        return
    if step >= DAY:  # begun anew with each month, so that the first one is a tick
        for month, following in pairwise(_months(low, high + 40 * DAY)):
            first, days = month.timestamp(), step / DAY
            for n in range(math.ceil((following - month).days / days)):
                at = first + n * step
                if low <= at <= high and (n == 0 or following.timestamp() - at > step / 2):
                    yield Tick(at, f"{datetime.fromtimestamp(at, UTC):%b %-d}")
        return
    for n in range(math.ceil(low / step), math.floor(high / step) + 1):
        time = datetime.fromtimestamp(n * step, UTC)
        form = "%b %-d" if n * step % DAY == 0 else "%H:%M" if step >= 60 else "%H:%M:%S"
        yield Tick(n * step, time.strftime(form))


def _month_ticks(low: float, high: float, most: int) -> Iterator[Tick]:
    months = [month for month in _months(low, high) if low <= month.timestamp() <= high]
    step = next((step for step in _MONTH_STEPS if len(months) / step <= most), 120)
    for month in months:
        if ((month.year * 12 + month.month - 1) % step) == 0:
            yield Tick(month.timestamp(), f"{month:%Y}" if month.month == 1 else f"{month:%b}")


def _months(low: float, high: float) -> Iterator[datetime]:
    """The beginnings of months, from that of ``low`` on to the one after ``high``."""
    month = datetime.fromtimestamp(low, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while True:
        yield month
        if month.timestamp() > high:
            return
        month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
