"""Writing what a page load leaves besides its record: the HAR file, the screenshot, the filmstrip.

This takes a while and is done in a child process (``material_child``); so nothing of Twisted is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from perfd.browser.files.har import har_bytes, har_document
from perfd.browser.files.har_matching import EntryTor, match_connections
from perfd.browser.records import Frame, PageLoad, PageRequest
from perfd.extras import how_to_get
from perfd.record import Outcome
from perfd.store.page_files import FILMSTRIP, HAR, SCREENSHOT, file_of
from perfd.whole import whole

if TYPE_CHECKING:
    from perfd.browser.files.filmstrip import VisualProgress

_PNG = b"\x89PNG\r\n\x1a\n"

Fields = dict[str, int | float]


@attrs.frozen(kw_only=True)
class Carrier:
    """A connection of the measuring proxy, as far as a HAR needs it."""

    host: str
    port: int
    opened: float
    closed: float | None
    entry: EntryTor


@attrs.frozen(kw_only=True)
class Job:
    """What is to be written, but for the pictures: ``load`` is without them.

    As it is handed over it is also without requests and connections, which can be many.
    """

    directory: Path
    measurement: str
    load: PageLoad
    carriers: tuple[Carrier, ...] = ()


@attrs.frozen
class Written:
    """The keys for the measurement's record, and what could not be done, in words."""

    fields: Fields = attrs.Factory(dict)
    troubles: list[str] = attrs.Factory(list)

    def to_json(self) -> bytes:
        return json.dumps(attrs.asdict(self), allow_nan=False).encode("ascii")


def completed(job: Job, requests: Iterable[PageRequest], carriers: Iterable[Carrier]) -> Job:
    """The job with its requests and connections."""
    return attrs.evolve(job, load=attrs.evolve(job.load, requests=tuple(requests)), carriers=tuple(carriers))


def write_files(job: Job, screenshot: bytes | None, frames: Sequence[Frame]) -> Written:
    """Write all files that there is something for. One that cannot be written does not keep the others back."""
    written = Written()
    progress = _visual_progress(job.load, frames, written) if frames else None
    steps: list[tuple[str, Callable[[], Fields]]] = [("HAR file", lambda: _write_har(job, progress))]
    if screenshot is not None:
        steps.append(("screenshot", lambda: _write_screenshot(job, screenshot)))
    if frames:
        steps.append(("filmstrip", lambda: _write_filmstrip(job, frames)))
    for name, step in steps:
        try:
            written.fields.update(step())
        except Exception as error:  # noqa: BLE001 - whatever it is, the other files may be well
            written.troubles.append(f"no {name}: {_describe(error)}")
    return written


def _visual_progress(load: PageLoad, frames: Sequence[Frame], written: Written) -> VisualProgress | None:
    """The visual progress of a load that was complete: of others the last picture says nothing."""
    if load.outcome is not Outcome.OK or load.navigation_start is None:
        return None
    try:
        from perfd.browser.files.filmstrip import visual_progress  # noqa: PLC0415 - it needs Pillow

        progress = visual_progress(frames, load.navigation_start)
    except ImportError:
        written.troubles.append(f"no SpeedIndex: Pillow is not installed: {how_to_get('browser')}")
        return None
    except Exception as error:  # noqa: BLE001 - a browser's pictures can be anything
        written.troubles.append(f"no SpeedIndex: {_describe(error)}")
        return None
    if progress is not None:
        written.fields["SPEEDINDEX"] = progress.speed_index
        written.fields["FIRSTVISUALCHANGE"] = progress.first_change
        written.fields["VISUALLYCOMPLETE85"] = progress.complete_85
    return progress


def _write_har(job: Job, progress: VisualProgress | None) -> Fields:
    document = har_document(
        job.load,
        matches=match_connections(job.load, job.carriers),
        measurement=job.measurement,
        page_fields=progress.har_fields() if progress is not None else {},
    )
    content = har_bytes(document)
    with _whole(job, HAR) as file:
        file.write(content)
    return {"HAR": 1, "HARBYTES": len(content)}


def _write_screenshot(job: Job, screenshot: bytes) -> Fields:
    if not screenshot.startswith(_PNG):
        raise ValueError("what the browser gave is no PNG")
    with _whole(job, SCREENSHOT) as file:
        file.write(screenshot)
    return {"SCREENSHOT": 1}


def _write_filmstrip(job: Job, frames: Sequence[Frame]) -> Fields:
    """A ZIP file of the pictures. Their names have their order and the ms since the navigation began."""
    from zipfile import ZipFile, ZipInfo  # noqa: PLC0415 - most loads have no filmstrip

    origin = job.load.start if job.load.navigation_start is None else job.load.navigation_start
    with _whole(job, FILMSTRIP) as file, ZipFile(file, "w") as archive:
        for number, frame in enumerate(frames, 1):
            suffix = "png" if frame.image.startswith(_PNG) else "jpg"
            milliseconds = max(round((frame.at - origin) * 1000), 0)
            archive.writestr(ZipInfo(f"{number:04}-{milliseconds:06}ms.{suffix}"), frame.image)
    return {"FILMSTRIP": len(frames)}


@contextmanager
def _whole(job: Job, suffix: str) -> Iterator[IO[bytes]]:
    """The file to write: it appears when it is complete, and only its owner can read it."""
    path = file_of(job.directory, job.load.start, job.measurement, suffix)
    for directory in (job.directory, path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    with whole(path, 0o600) as file:
        yield file


def _describe(error: Exception) -> Any:
    return getattr(error, "strerror", None) or f"{error}" or type(error).__name__
