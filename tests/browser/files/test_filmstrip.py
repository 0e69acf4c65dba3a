"""SpeedIndex and visual completeness, with drawn frames."""

import io

import pytest

pytest.importorskip("PIL", reason="Pillow is not installed (extra: browser)")

from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from perfd.browser.files import filmstrip
from perfd.browser.files.filmstrip import visual_progress
from perfd.browser.records import Frame

NOW = 1795444800.0
SIZE = (40, 100)


def frame(at: float, black_rows: int, size: tuple[int, int] = SIZE, kind: str = "PNG") -> Frame:
    """A white picture of which so many percent are black, ``at`` seconds after the navigation began."""
    picture = Image.new("RGB", size, "white")
    picture.paste("black", (0, 0, size[0], black_rows * size[1] // 100))
    written = io.BytesIO()
    picture.save(written, kind)
    return Frame(NOW + at, written.getvalue())


class VisualProgressTests(SynchronousTestCase):
    """The curve and the figures from it."""

    def test_all_at_once(self) -> None:
        """A page that appears in one step has that step as its SpeedIndex."""
        progress = visual_progress([frame(0, 0), frame(0.5, 100), frame(1, 100)], NOW)
        assert progress is not None
        self.assertEqual((progress.speed_index, progress.first_change, progress.last_change), (500.0, 500.0, 500.0))
        self.assertEqual(progress.complete_85, 500.0)

    def test_in_steps(self) -> None:
        """The curve follows what is drawn; SpeedIndex is the area above it."""
        frames = [frame(0, 0), frame(0.1, 0), frame(0.2, 40), frame(0.4, 90), frame(1.0, 100), frame(1.1, 100)]
        progress = visual_progress(frames, NOW)
        assert progress is not None
        self.assertEqual(
            progress.curve, ((0.0, 0.0), (100.0, 0.0), (200.0, 0.4), (400.0, 0.9), (1000.0, 1.0), (1100.0, 1.0))
        )
        self.assertEqual(
            (progress.first_change, progress.complete_85, progress.last_change), (200.0, 400.0, 1000.0)
        )
        self.assertEqual(progress.speed_index, 200 + 200 * 0.6 + 600 * 0.1)

    def test_first_frame_is_late(self) -> None:
        """Until the first picture nothing was seen; one of before the navigation counts from its beginning."""
        late = visual_progress([frame(0.1, 0), frame(0.5, 100)], NOW)
        early = visual_progress([frame(-0.3, 0), frame(0.5, 100)], NOW)
        assert late is not None
        assert early is not None
        self.assertEqual((late.speed_index, early.speed_index), (500.0, 500.0))

    def test_order_size_and_kind_do_not_matter(self) -> None:
        """Frames are taken in the order of their times, whatever their size; JPEG is read as well."""
        progress = visual_progress(
            [frame(0.5, 100, (20, 50), "JPEG"), frame(0, 0, kind="JPEG"), frame(0.2, 50)], NOW
        )
        assert progress is not None
        self.assertEqual([share for _, share in progress.curve], [0.0, 0.5, 1.0])

    def test_overshoot(self) -> None:
        """A picture that has more of a colour than the last one is no more than complete in it."""
        progress = visual_progress([frame(0, 0), frame(0.2, 100), frame(0.4, 50)], NOW)
        assert progress is not None
        self.assertEqual([share for _, share in progress.curve], [0.0, 1.0, 1.0])

    def test_har_fields(self) -> None:
        """A HAR has the figures under browsertime's names."""
        progress = visual_progress([frame(0, 0), frame(0.5, 100)], NOW)
        assert progress is not None
        names = ("FirstVisualChange", "LastVisualChange", "VisualComplete85", "SpeedIndex")
        self.assertEqual(progress.har_fields(), {"_visualMetrics": dict.fromkeys(names, 500.0)})

    def test_nothing_changed(self) -> None:
        """Without a change there is no progress: no frames, one frame, or all alike."""
        for frames in ([], [frame(0, 50)], [frame(0, 50), frame(1, 50)]):
            self.assertIsNone(visual_progress(frames, NOW))

    def test_damaged_frames(self) -> None:
        """What is no picture, is cut short, or would be too large, is a ValueError that names the frame."""
        whole = frame(0, 10)
        for image in (b"", b"text", whole.image[:60], whole.image[:-30]):
            with self.assertRaisesRegex(ValueError, "frame 2 cannot be read"):
                visual_progress([whole, Frame(NOW + 1, image)], NOW)
        self.patch(filmstrip, "MAX_PIXELS", 100)
        with self.assertRaisesRegex(ValueError, "frame 1 has 4000 pixels"):
            visual_progress([whole], NOW)
