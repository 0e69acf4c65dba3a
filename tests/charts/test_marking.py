"""The words of marks in pictures."""

from __future__ import annotations

from perfd.charts.axes import Axis
from perfd.charts.marking import ROOM, ROWS, placed, without_words
from perfd.charts.model import LineChart, Mark

X, Y = Axis(label="", low=0.0, high=100.0), Axis(label="", low=0.0, high=1.0)
LONG = "the parameters of the consensus changed, and those of others"


def test_words_stand_beside_their_marks() -> None:
    """To the right, or to the left where there is no room; below others that they would meet."""
    marks = [Mark(90, "the last one of all"), Mark(10, "first"), Mark(12, "second"), Mark(40, "third")]
    found = [(place, words and (words.lines, words.row, words.is_right)) for place, words in placed(marks, X, Y)]
    assert found == [
        (0.1, (("first",), 0, True)),
        (0.12, (("second",), 1, True)),
        (0.4, (("third",), 0, True)),
        (0.9, (("the last one of all",), 0, False)),
    ]


def test_words_meet_nothing() -> None:
    """However many marks there are: what has no room has no words, which is said."""
    marks = tuple(Mark(n, f"{n} {LONG}") for n in range(100))
    found = [(place, words) for place, words in placed(marks, X, Y) if words is not None]
    boxes = []
    for place, words in found:
        width = max(map(len, words.lines)) / ROOM
        low = place if words.is_right else place - width
        assert low >= 0
        assert low + width <= 1
        assert words.row + len(words.lines) <= ROWS
        boxes += [(words.row + n, low, low + width) for n in range(len(words.lines))]
    assert len(found) >= 5
    assert not any(
        a is not b and a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for n, a in enumerate(boxes) for b in boxes[:n]
    )
    chart = LineChart(name="x", title="X", x=X, y=Y, lines=(), marks=marks)
    assert without_words(chart) == f"For the words of {100 - len(found)} of 100 marks there is no room."
    assert without_words(LineChart(name="x", title="X", x=X, y=Y, lines=(), marks=marks[:2])) == ""


def test_words_that_are_none() -> None:
    """Words may be empty, and longer than two lines."""
    (_, empty), (_, long) = placed([Mark(1, " "), Mark(2, "word " * 50)], X, Y)
    assert empty is not None
    assert empty.lines == ()
    assert long is not None
    assert len(long.lines) == 2
    assert long.lines[1].endswith("...")
