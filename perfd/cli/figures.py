"""Charts that commands draw into files."""

from __future__ import annotations

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


def draw(charts: Sequence[Chart], directory: Path, form: str = "png") -> None:
    """Draw them into ``directory``, each with its CSV. Raises OSError."""
    from perfd.charts import files  # noqa: PLC0415

    try:
        files.write(charts, directory, form)
    except files.DrawingError as error:
        raise OSError(0, str(error)) from None
