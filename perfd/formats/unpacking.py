"""Files as they come: plain, compressed with xz, gzip or bzip2, and tar archives of such.

Everything is read as a stream, and how much may come out of a file is bounded. Nothing gets a name on the disk that
an archive has chosen. What compression is used is known by how the content begins.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import attrs

from perfd.formats.errors import Damage, FormatError, shown

MOST_TIMES = 1000
"""A file may unpack to so many times its size: results do to some thirty times, bombs to many thousands."""

ALWAYS = 1 << 28
"""Bytes to which any file may unpack."""

MEMORY = 1 << 28
"""Bytes of memory that a decompressor may take; the largest preset of xz needs a quarter of that."""

MOST_HEADER = 1 << 16
"""Bytes of the headers that make a member's name longer, which tarfile holds in memory."""

BUFFER = 1 << 16

UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError)
"""What reading raises for damage, besides FormatError."""

COMPRESSED = (".xz", ".gz", ".bz2")
"""How names of compressed files end."""

_SHORT = {".txz": ".tar.xz", ".tgz": ".tar.gz", ".tbz2": ".tar.bz2"}
_MAGIC = b"ustar"  # of a tar archive, at this place:
_MAGIC_AT = 257
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


class Allowance:
    """How many bytes may still come out of a file of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        self._left = max(ALWAYS, MOST_TIMES * size)

    def take(self, count: int) -> None:
        """Raise FormatError if these are too many."""
        self._left -= count
        if self._left < 0:
            problem = f"it unpacks to more than {MOST_TIMES} times its size"
            raise FormatError(problem, remedy="if that is meant, unpack it and import what is in it")


Read = Callable[[int], bytes]
"""Gives at most so many of the next bytes; none at the end."""


class _Xz:
    """The content of .xz: streams behind one another, with zeros between and behind them (the format's padding)."""

    def __init__(self, opened: IO[bytes]) -> None:
        self._opened = opened
        self._stream = _new_stream()
        self._input = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof and not self._find_stream():
                return b""
            if self._stream.needs_input and not self._input:
                self._input = self._opened.read(BUFFER)
                if not self._input:
                    raise EOFError("it ends within its compressed data")
            content = self._stream.decompress(self._input, size)
            self._input = b""
            if content:
                return content

    def _find_stream(self) -> bool:
        rest = self._stream.unused_data
        while not (found := rest.lstrip(b"\0")):
            rest = self._opened.read(BUFFER)
            if not rest:
                return False
        self._stream, self._input = _new_stream(), found
        return True


def _new_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)


class _Content(io.RawIOBase):
    """What a decompressor or an archive gives, as far as it is allowed; without an allowance, all of it."""

    def __init__(self, read: Read, allowance: Allowance | None = None) -> None:
        super().__init__()
        self._read = read
        self._allowance = allowance
        self._damage: Exception | None = None  # behind what was given last

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        # As much as there is, since what a file is must be seen in the first read.
        count, size = 0, len(buffer)
        while count < size and (piece := self._piece(size - count, count)):
            buffer[count : count + len(piece)] = piece
            count += len(piece)
        if self._allowance is not None:
            self._allowance.take(count)
        return count

    def _piece(self, size: int, before: int) -> bytes:
        """The next piece. Damage is raised when the ``before`` bytes that came before it are taken."""
        if self._damage is not None:
            raise self._damage
        try:
            return self._read(size)
        except UNREADABLE as error:
            self._damage = error
            if before:
                return b""
            raise


# read1 gives what is before damage, where read would not.
_DECOMPRESSORS: Mapping[bytes, Callable[[IO[bytes]], Read]] = {
    b"\xfd7zXZ\x00": lambda opened: _Xz(opened).read,
    b"\x1f\x8b": lambda opened: gzip.GzipFile(fileobj=opened, mode="rb").read1,
    b"BZh": lambda opened: bz2.BZ2File(opened).read1,
}


def unpacked(opened: io.BufferedReader, allowance: Allowance) -> io.BufferedReader:
    """The content of an open file, decompressed if it is compressed."""
    head = opened.peek(BUFFER)
    for magic, decompressor in _DECOMPRESSORS.items():
        if head.startswith(magic):
            return io.BufferedReader(_Content(decompressor(opened), allowance), BUFFER)
    return opened


def allowance_of(opened: IO[bytes]) -> Allowance:
    """What may come out of an open file."""
    return Allowance(os.fstat(opened.fileno()).st_size)


def stem(name: str) -> str:
    """A name in lower case, without the ending of its compression: ``x.tar`` of ``x.tar.xz`` and ``x.txz``."""
    name = name.lower()
    for short, long in _SHORT.items():
        if name.endswith(short):
            name = name[: -len(short)] + long
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name


def is_archive(name: str, head: bytes) -> bool:
    """Whether a file is a tar archive, by its name or the beginning of its content."""
    return stem(name).endswith(".tar") or head[_MAGIC_AT:].startswith(_MAGIC)


@attrs.frozen
class Member:
    """A file in an archive; ``path`` is what it is called there, for messages only."""

    path: str
    opened: io.BufferedReader

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class _Header(tarfile.TarInfo):
    """A member's header. Where tarfile would take damage for the end of the archive, this raises FormatError."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if not buf:
            raise FormatError("the archive ends without the mark of its end, and may have been cut off")
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):
                raise FormatError(f"the archive is damaged: {error}") from None
            raise  # zeros: the end
        if member.type in _LONG_NAMES and member.size > MOST_HEADER:
            raise FormatError(f"the archive has a header of {member.size} bytes")
        return member


def members(archive: io.BufferedReader, label: str, wanted: Callable[[str], bool]) -> Iterator[Member | Damage]:
    """The files of a tar archive whose names are ``wanted``, as they are still compressed, to be read in turn.

    Raises FormatError and ``UNREADABLE``. Links and the like are reported: they have no content of their own.
    """
    with tarfile.open(fileobj=archive, mode="r|", tarinfo=_Header, errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined] # which would grow with the archive
            path = member.name if member.name.isprintable() and len(member.name) < 200 else shown(member.name, 200)
            if member.isdir() or not wanted(member.name):
                continue
            if not member.isreg() or member.issparse():
                yield Damage(f"{label}/{path}", None, "it is a link or another special file in the archive")
                continue
            opened = tar.extractfile(member)
            assert isinstance(opened, io.BufferedReader)
            yield Member(path, io.BufferedReader(_Content(opened.read1), BUFFER))
