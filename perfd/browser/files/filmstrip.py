"""How fast a page filled the screen, from pictures of it: SpeedIndex and visual completeness.

The measures are WebPageTest's (its documentation, "Speed Index"). The progress of a picture is how far its colour
histogram has come from the first picture's to the last one's; SpeedIndex is the area above that curve: the smaller,
the earlier most of the page was seen. It is as fine as the pictures are: every 100 ms gives steps of 100 ms.

Needs Pillow. Decoding holds the CPU for some 10 ms per picture, so call this in a child process, never in the
process that takes time stamps.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import attrs
from PIL import Image, UnidentifiedImageError

from perfd.browser.records import Frame

MAX_PIXELS = 50_000_000
"""Pictures with more are refused before they are decoded."""

_CHANNELS = 3
_LEVELS = 256


@attrs.frozen
class VisualProgress:
    """The curve and what is read from it. Times are ms since the navigation began."""

    curve: tuple[tuple[float, float], ...]  # time, and how complete the page looked: 0 to 1
    first_change: float
    last_change: float
    complete_85: float  # the page first looked 85 % complete
    speed_index: float

    def har_fields(self) -> dict[str, object]:
        """Members of a HAR's page, named as browsertime names them."""
        return {
            "_visualMetrics": {
                "FirstVisualChange": self.first_change,
                "LastVisualChange": self.last_change,
                "VisualComplete85": self.complete_85,
                "SpeedIndex": self.speed_index,
            }
        }


def visual_progress(frames: Sequence[Frame], navigation_start: float) -> VisualProgress | None:
    """The visual progress over ``frames``, in the order of their times; None if nothing ever changed.

    The first frame is what the screen showed before the page, the last one the complete page. ``navigation_start``
    is in seconds since the epoch, as are the frames' times. Raises ``ValueError`` if a picture cannot be read.
    """
    ordered = sorted(frames, key=lambda frame: frame.at)
    if not ordered:
        return None
    histograms = [_histogram(frame, number) for number, frame in enumerate(ordered, 1)]
    shares = [_progress(histogram, histograms[0], histograms[-1]) for histogram in histograms]
    if histograms[0] == histograms[-1]:
        return None
    times = [max(round((frame.at - navigation_start) * 1000, 3), 0.0) for frame in ordered]
    changes = [n for n in range(1, len(ordered)) if histograms[n] != histograms[n - 1]]
    return VisualProgress(
        curve=tuple(zip(times, shares, strict=True)),
        first_change=times[changes[0]],
        last_change=times[changes[-1]],
        complete_85=next(time for time, share in zip(times, shares, strict=True) if share >= 0.85),
        speed_index=round(_speed_index(times, shares), 3),
    )


def _speed_index(times: Sequence[float], shares: Sequence[float]) -> float:
    """The area above the curve, which keeps each picture's value until the next one; nothing is seen before."""
    area = times[0]
    for n in range(len(times) - 1):
        area += (times[n + 1] - times[n]) * (1 - shares[n])
    return area


def _progress(now: Sequence[float], first: Sequence[float], last: Sequence[float]) -> float:
    """The mean over red, green and blue of how much of the change from ``first`` to ``last`` has happened.

    What counts for a level is its change in the right direction, up to the whole of it. A channel in which first
    and last are alike says nothing.
    """
    shares = []
    for start in range(0, _CHANNELS * _LEVELS, _LEVELS):
        whole = done = 0.0
        for level in range(start, start + _LEVELS):
            wanted, got = last[level] - first[level], now[level] - first[level]
            whole += abs(wanted)
            if wanted * got > 0:
                done += min(abs(got), abs(wanted))
        if whole:
            shares.append(done / whole)
    return round(sum(shares) / len(shares), 6) if shares else 0.0


def _histogram(frame: Frame, number: int) -> list[float]:
    """The share of the pixels that have each level of red, green and blue: so pictures of any sizes compare."""
    try:
        with Image.open(io.BytesIO(frame.image), formats=("PNG", "JPEG")) as picture:
            pixels = picture.width * picture.height
            if not 0 < pixels <= MAX_PIXELS:
                raise ValueError(f"frame {number} has {pixels} pixels; at most {MAX_PIXELS} are read")
            counts = picture.convert("RGB").histogram()
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"frame {number} cannot be read: {error}") from None
    return [count / pixels for count in counts]
