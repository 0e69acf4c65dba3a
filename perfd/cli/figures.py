"""Charts that commands draw into files."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfd.charts.model import Chart


def check_plots() -> None:
    """Raise MissingLibraryError if there is no matplotlib: before what takes long, not after it."""
    from perfd.charts import files  # noqa: PLC0415 - --help must not wait
    from perfd.formats.table import MissingLibraryError  # noqa: PLC0415

    try:
        files.check()
    except files.NoMatplotlibError as error:
        raise MissingLibraryError(str(error)) from None


def check_writable(report: Path | None, plots: Path | None) -> None:
    """Raise OSError if the page or the charts could not be written: before what takes long, not after it."""
    if report is not None:
        _check(report, report.parent)
        if report.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(report))
    if plots is not None:
        _check(plots, next(path for path in (plots, *plots.absolute().parents) if path.exists()))


def _check(path: Path, directory: Path) -> None:
    """Raise OSError if ``path`` cannot be in ``directory``."""
    if not directory.is_dir():
        number = errno.ENOTDIR if directory.exists() else errno.ENOENT
    elif not os.access(directory, os.W_OK | os.X_OK):
        number = errno.EACCES
    else:
        return
    raise OSError(number, os.strerror(number), str(path))


def draw(charts: Sequence[Chart], directory: Path, form: str = "png") -> None:
    """Draw them into ``directory``, each with its CSV. Raises OSError."""
    from perfd.charts import files  # noqa: PLC0415

    try:
        files.write(charts, directory, form)
    except files.DrawingError as error:
        raise OSError(0, str(error)) from None
