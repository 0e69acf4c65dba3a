"""The files of page loads on disk: their places, and what is deleted when."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from perfd.daemon.upkeep import work
from perfd.daemon.upkeep.work import Work
from perfd.store import page_files
from perfd.store.page_files import HAR, delete_files_before, file_of, is_id
from tests.support.stored import CONFIG, Stored

DAY = 86400.0
TODAY = 20_000 * DAY
"""2024-10-04."""


def test_by_the_day_of_their_start() -> None:
    """The directory is the UTC date."""
    assert file_of(Path("/x"), TODAY, "ab-1", HAR) == Path("/x/2024-10-04/ab-1.har.gz")
    assert file_of(Path("/x"), TODAY - 0.001, "ab-1", HAR) == Path("/x/2024-10-03/ab-1.har.gz")


@pytest.mark.parametrize("text", ["", ".", "..", "../a", "a/b", "a.b", "a\0", "-a", "a\n", "é", "a" * 65])
def test_ids(text: str) -> None:
    """What could lead elsewhere is no id."""
    assert not is_id(text)
    with pytest.raises(ValueError, match="is no id"):
        file_of(Path("/x"), TODAY, text, HAR)


class DeletingTests(SynchronousTestCase):
    """With the daily work."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()))
        self.files = self.instance.directory / "har"
        self.said: list[str] = []

    def fill(self) -> None:
        for name in ("2024-10-04", "2024-10-03", "2024-10-02", "2024-10-01", "2023-01-01"):
            (self.files / name).mkdir(parents=True)
            (self.files / name / "a.har.gz").write_bytes(b"x")

    def left(self, options: str) -> list[str]:
        """The names that are left after the work of this day."""
        self.fill()
        self.instance.configure(CONFIG + options)
        self.assertTrue(work.run(Work.from_config(self.instance.config), TODAY + 5000.0, self.said.append))
        return sorted(path.name for path in self.files.iterdir())

    def test_keep_har(self) -> None:
        """So many whole UTC days before today, also without a database."""
        self.assertEqual(self.left("keep-har = 2 d\n"), ["2024-10-02", "2024-10-03", "2024-10-04"])
        self.assertEqual(self.said, ["deleted the files of page loads of 2 days, which were too old"])

    def test_default(self) -> None:
        """30 days."""
        self.assertEqual(self.left(""), ["2024-10-01", "2024-10-02", "2024-10-03", "2024-10-04"])

    def test_with_their_measurements(self) -> None:
        """When keep deletes the measurements, their files go too."""
        self.assertEqual(self.left("keep = 1 d\n"), ["2024-10-03", "2024-10-04"])

    def test_only_days(self) -> None:
        """Whatever else is there stays, and no link is followed."""
        elsewhere = self.instance.directory / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "kept").write_bytes(b"")
        self.files.mkdir()
        for name in ("notes", "2024-02-31", "2001-1-1", "20010101", "2001-01-01x"):
            (self.files / name).mkdir()
        (self.files / "2001-01-01").write_bytes(b"")
        (self.files / "2001-01-02").symlink_to(elsewhere)
        self.assertEqual(delete_files_before(self.files, TODAY), 0)
        self.assertEqual(len(list(self.files.iterdir())), 7)
        self.assertTrue((elsewhere / "kept").exists())

    def test_cannot_be_deleted(self) -> None:
        """It is said, the rest of the work is done, and the day's work counts as failed."""
        self.instance.add()
        self.patch(page_files, "delete_files_before", self.fail_to_delete)
        self.assertFalse(work.run(Work.from_config(self.instance.config), TODAY, self.said.append))
        self.assertIn("deleting old files of page loads failed: ", self.said[0])
        self.assertTrue((self.instance.directory / "archive" / "index.html").exists())

    def fail_to_delete(self, directory: Path, before: float) -> int:
        raise PermissionError(13, "Permission denied", str(directory))
