"""The bytes of the canonical page's parts, the same on every machine for ever.

All that looks random comes from SHAKE-128 (FIPS 202) of the part's name. Nothing is left to a library whose output
may change with its version: images are deflated without compression (RFC 1951, 3.2.4). Each function gives exactly
``size`` bytes. A change of any byte needs a new `perfd.web.targets.page_plan.VERSION`.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import shake_128
from math import isqrt

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "lo", "mu", "ra")
_WORDS = tuple(first + second for first in _SYLLABLES for second in _SYLLABLES)

_CALLS = 2000
"""How many calls of its own functions a script makes: one or two milliseconds' work for a browser."""

_BOOT = """\
"use strict";
var perfd = {missing: [], sums: {}, waiting: []};
var perfdDone = false;
addEventListener("error", function (event) {
  var url = event.target.src || event.target.href;
  if (url) perfd.missing.push(url);
}, true);
perfd.added = function (url) {
  return new Promise(function (resolve) {
    var element;
    if (/css$/.test(url)) {
      element = document.createElement("link");
      element.rel = "stylesheet";
      element.href = url;
    } else {
      element = document.createElement(/js$/.test(url) ? "script" : "img");
      element.src = url;
    }
    element.onload = element.onerror = resolve;
    (element.tagName === "IMG" ? document.getElementById("late") : document.head).appendChild(element);
  });
};
perfd.fetched = function (url) {
  return fetch(url).then(function (response) {
    if (!response.ok) throw new Error(response.status);
    return response.json();
  }).then(function (found) {
    var row = document.createElement("li");
    row.textContent = found.name + " " + found.rows.length;
    document.getElementById("data").appendChild(row);
  }).catch(function () {
    perfd.missing.push(url);
  });
};
perfd.start = function (url) {
  perfd.waiting.push(/json$/.test(url) ? perfd.fetched(url) : perfd.added(url));
};
addEventListener("DOMContentLoaded", function () {
  perfd.parts = JSON.parse(document.getElementById("parts").textContent);
  perfd.parts.fetch.forEach(perfd.start);
});
addEventListener("load", function () {
  perfd.parts.late.forEach(perfd.start);
  document.querySelectorAll("img[loading=lazy]").forEach(function (image) {
    image.loading = "eager";
    if (image.complete) return;
    perfd.waiting.push(new Promise(function (resolve) {
      image.addEventListener("load", resolve);
      image.addEventListener("error", resolve);
    }));
  });
  Promise.all(perfd.waiting).then(function () {
    return document.fonts.ready;
  }).then(function () {
    document.fonts.forEach(function (font) {
      if (font.status !== "loaded") perfd.missing.push(font.family);
    });
    perfdDone = perfd.missing.length === 0;
    document.getElementById("state").textContent = perfdDone ? "complete" : perfd.missing.length + " missing";
  });
});
"""
"""What the first script adds: it loads the late parts and tells when all are there.

``perfdDone`` becomes true when every part has loaded; ``perfd.missing`` has the URLs of those that failed.
"""


def filled(head: str, pieces: Iterable[str], tail: str, size: int) -> bytes:
    """``head``, as many of ``pieces`` as there is room for, spaces, and ``tail``: ``size`` bytes of ASCII."""
    parts = [head]
    left = size - len(head) - len(tail)
    for piece in pieces:
        if len(piece) > left:
            break
        parts.append(piece)
        left -= len(piece)
    return "".join([*parts, " " * left, tail]).encode("ascii")


def sentences(seed: str, count: int) -> Iterator[str]:
    """``count`` sentences of twelve words."""
    stream = shake_128(seed.encode()).digest(12 * count)
    for start in range(0, len(stream), 12):
        yield " ".join([_WORDS[byte] for byte in stream[start : start + 12]]).capitalize() + "."


def style(name: str, size: int, prefix: str, fonts: Iterable[str] = ()) -> bytes:
    """A style sheet with rules for the classes ``PREFIX-0`` and on, and with the files ``fonts``."""
    return filled(_font_faces(fonts), _rules(name, size // 100 + 1, prefix), "\n", size)


def _font_faces(fonts: Iterable[str]) -> str:
    """Each font gets a family, ``Perfd 0`` and so on, and elements that use it."""
    return "".join(
        f'@font-face{{font-family:"Perfd {number}";src:url("{font}") format("truetype");font-display:swap}}\n'
        f'.f{number}{{font-family:"Perfd {number}",serif}}\n'
        for number, font in enumerate(fonts)
    )


def _rules(name: str, count: int, prefix: str) -> Iterator[str]:
    stream = shake_128(name.encode()).digest(10 * count)
    for number in range(count):
        a, b, c, d = stream[10 * number + 6 : 10 * number + 10]
        text, ground = (stream[10 * number + start : 10 * number + start + 3].hex() for start in (0, 3))
        yield (
            f".{prefix}-{number}{{color:#{text};background:#{ground}40;padding:{a % 8}px {b % 8}px;"
            f"border-left:{c % 6}px solid #{text};border-radius:{d % 10}px}}\n"
        )


def script(name: str, size: int, *, boots: bool = False) -> bytes:
    """A script of many small functions, which it calls; ``boots``: the first of the page, which has `_BOOT`."""
    count = size // 100 + 1
    head = f'{_BOOT if boots else ""}(function(){{"use strict";var f=[\n'
    tail = (
        f"];var h=1;for(var c=0;c<{_CALLS};c++)h=f[c%f.length](h);"
        f'perfd.sums["{name.rpartition("/")[2]}"]=h;}})();\n'
    )
    return filled(head, _functions(name, count), tail, size)


def _functions(name: str, count: int) -> Iterator[str]:
    numbers = struct.unpack(f">{2 * count}I", shake_128(b"numbers of " + name.encode()).digest(8 * count))
    text = _text(name, 64 * count)
    for number in range(count):
        yield (
            f"function(x){{return Math.imul(x^{numbers[2 * number]},{numbers[2 * number + 1] | 1})"
            f'+"{text[64 * number : 64 * number + 64]}".charCodeAt(x&63)|0}},\n'
        )


def data(name: str, size: int) -> bytes:
    """A JSON document with ``name`` and ``rows``."""
    head = f'{{"name":"{name.rpartition("/")[2]}","rows":['
    text = _text(name, size)
    rows = (f'"{text[start : start + 64]}",\n' for start in range(0, size - 64, 64))
    return filled(head, rows, '""]}\n', size)


def _text(name: str, length: int) -> str:
    """``length`` random characters of base64."""
    return b64encode(shake_128(name.encode()).digest(length * 3 // 4 + 3)).decode()[:length]


def image_size(size: int) -> tuple[int, int]:
    """Width and height, in pixels, of an `image` of so many bytes: about four to three."""
    room = size - _PNG_FRAME
    width = isqrt(room * 4 // 9)
    return width, (room - 5 * (room // _BLOCK + 1)) // (1 + 3 * width)


_PNG_FRAME = 8 + 25 + 18 + 12 + 20
"""The bytes of the signature, of IHDR, of IDAT and zlib without blocks, of IEND and of an empty tEXt."""

_BLOCK = 65535  # bytes in a stored block


def image(name: str, size: int) -> bytes:
    """A PNG (RFC 2083) of noise, with 24 bits per pixel, not compressed, filled up by a comment."""
    width, height = image_size(size)
    noise = shake_128(name.encode()).digest(3 * width * height)
    rows = b"".join([b"\0" + noise[start : start + 3 * width] for start in range(0, len(noise), 3 * width)])
    blocks = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        is_last = start + _BLOCK >= len(rows)
        blocks += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    deflated = b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(rows))
    drawn = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", deflated)
    )
    end = _chunk(b"IEND", b"")
    left = size - len(drawn) - len(end) - 20
    return drawn + _chunk(b"tEXt", b"Comment\0" + b" " * left) + end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_FIRST, _LAST = 0x20, 0x7E  # the characters that the fonts have
_GLYPHS = _LAST - _FIRST + 2  # one for each, after the glyph of those that are missing


def font(name: str, size: int) -> bytes:
    """A TrueType font (ISO/IEC 14496-22) whose letters are boxes, with noise in a table of its own.

    ``size`` is a multiple of four.
    """
    tables = {
        b"OS/2": _os2(),
        b"cmap": _cmap(),
        b"glyf": _glyf(),
        b"head": _head(),
        b"hhea": struct.pack(
            ">I3hH11hH", 0x00010000, 800, -200, 0, 700, 50, 50, 650, 1, 0, 0, 0, 0, 0, 0, 0, _GLYPHS
        ),
        b"hmtx": b"".join(struct.pack(">Hh", _advance(glyph), 50) for glyph in range(_GLYPHS)),
        b"loca": b"".join(struct.pack(">I", 36 * glyph) for glyph in range(_GLYPHS + 1)),
        b"maxp": struct.pack(">I14H", 0x00010000, _GLYPHS, 4, 1, 0, 0, 2, *[0] * 8),
        b"name": _name(),
        b"post": struct.pack(">IIhh5I", 0x00030000, 0, -100, 50, *[0] * 5),
    }
    used = 12 + 16 * (len(tables) + 1) + sum(len(_padded(table)) for table in tables.values())
    tables[b"PERF"] = shake_128(name.encode()).digest(size - used)
    whole = _sfnt(tables)
    place = whole.index(_head()) + 8  # of the sum that makes the whole file's sum the one that it must be
    return whole[:place] + struct.pack(">I", (0xB1B0AFBA - _checksum(whole)) & 0xFFFFFFFF) + whole[place + 4 :]


def _sfnt(tables: dict[bytes, bytes]) -> bytes:
    """The font file of ``tables``."""
    count = len(tables)
    power = count.bit_length() - 1
    directory = [struct.pack(">IHHHH", 0x00010000, count, 16 << power, power, 16 * count - (16 << power))]
    offset = 12 + 16 * count
    for tag, table in sorted(tables.items()):
        directory.append(struct.pack(">4sIII", tag, _checksum(table), offset, len(table)))
        offset += len(_padded(table))
    return b"".join([*directory, *(_padded(table) for _, table in sorted(tables.items()))])


def _padded(table: bytes) -> bytes:
    return table + b"\0" * (-len(table) % 4)


def _checksum(table: bytes) -> int:
    whole = _padded(table)
    total: int = sum(struct.unpack(f">{len(whole) // 4}I", whole))
    return total & 0xFFFFFFFF


def _advance(glyph: int) -> int:
    """The width of a letter and of the space after it, in thousandths of the font's size."""
    return 400 + glyph * 37 % 300


def _glyf() -> bytes:
    """A rectangle for each letter, a flat one for the space."""
    glyphs = []
    for glyph in range(_GLYPHS):
        right, top = _advance(glyph) - 50, 20 if glyph == 1 else 500 + glyph % 5 * 50
        outline = struct.pack(">5h2H4B", 1, 50, 0, right, top, 3, 0, 1, 1, 1, 1)
        glyphs.append(outline + struct.pack(">8h2x", 50, 0, right - 50, 0, 0, top, 0, -top))
    return b"".join(glyphs)


def _head() -> bytes:
    return struct.pack(
        ">4I2H2q4h2H3h", 0x00010000, 0x00010000, 0, 0x5F0F3CF5, 3, 1000, 0, 0, 50, 0, 650, 700, 0, 8, 2, 1, 0
    )


def _cmap() -> bytes:
    segments = struct.pack(">2HH2H2H2H", _LAST, 0xFFFF, 0, _FIRST, 0xFFFF, (1 - _FIRST) & 0xFFFF, 1, 0, 0)
    return struct.pack(">4HI", 0, 1, 3, 1, 12) + struct.pack(">7H", 4, 32, 0, 4, 4, 1, 0) + segments


def _os2() -> bytes:
    scripts = (650, 600, 0, 75, 650, 600, 0, 350, 50, 250, 0)  # subscripts, superscripts, strikeout
    return struct.pack(
        ">Hh3H11h10s4I4s3H3h2H2I2h3H",
        *(4, 550, 400, 5, 0, *scripts, bytes(10), 1, 0, 0, 0, b"PRFD", 64, _FIRST, _LAST),
        *(800, -200, 0, 800, 200, 1, 0, 500, 700, 0, 32, 0),
    )


def _name() -> bytes:
    names = {1: "Perfd", 2: "Regular", 4: "Perfd Regular", 6: "Perfd-Regular"}
    texts = {number: text.encode("utf-16-be") for number, text in names.items()}
    records, offset = [struct.pack(">3H", 0, len(texts), 6 + 12 * len(texts))], 0
    for number, text in texts.items():
        records.append(struct.pack(">6H", 3, 1, 0x0409, number, len(text), offset))
        offset += len(text)
    return b"".join([*records, *texts.values()])
