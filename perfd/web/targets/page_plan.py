"""The canonical page's plan: its variants, their parts, and the document that puts them together.

``canonical`` is near today's median home page. The HTTP Archive's Web Almanac (2024, chapter "Page Weight",
https://almanac.httparchive.org/en/2024/page-weight; we have its figures from summaries of it) gives about 2.65 MB
in 71 requests on desktops and 2.3 MB in 66 on phones, as transferred; on desktops 1050 kB of it are images (18
requests), 610 kB JavaScript (24), 130 kB fonts, 80 kB style sheets and 20 kB HTML. A year later it was some eight
percent more. The medians of the kinds do not add up to that of the whole, so the rest is JSON here, half a megabyte
in 15 requests, that scripts fetch. How many style sheets and fonts there are, how the bytes of a kind are shared
out among its files, when each is asked for, and how large ``light`` and ``heavy`` are, is our choice.

Results can be compared as long as `page_version` is the same. Whoever changes a byte changes `VERSION`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import cycle, islice

import attrs

from perfd.web.targets import page_material as material

VERSION = "1"

MOST_ORIGINS = 3
"""The page's own origin and two more."""


class When(Enum):
    """When a browser asks for a part."""

    HEAD = "blocks rendering"
    PRINT = "a style sheet that blocks nothing"
    ASYNC = "a script that runs when it is there"
    DEFER = "a script that runs when the document is there"
    END = "a script at the document's end"
    NOW = "an image of the document"
    LAZY = "an image far below the fold"
    STYLE = "a style sheet asks for it"
    FETCH = "a script fetches it when the document is there"
    LATE = "a script adds it after the load event"


@attrs.frozen
class Part:
    """A file of a variant, ``size`` bytes, from the origin with number ``origin`` if there are so many."""

    name: str
    kind: str
    size: int
    origin: int
    when: When


@attrs.frozen
class PageVariant:
    """How large the document is, and how many files of each kind there are and of how many bytes together."""

    name: str
    html: int
    files: Mapping[str, tuple[int, int]]

    def parts(self) -> Iterator[Part]:
        """All files but the document, in a fixed order."""
        for kind, (count, total) in self.files.items():
            weights = list(islice(cycle(_WEIGHTS), count))
            for number, (weight, (when, origin)) in enumerate(zip(weights, cycle(_PLACES[kind]))):
                size = total * weight // sum(weights) // 4 * 4
                yield Part(f"{kind}-{number:02}{_ENDINGS[kind]}", kind, size, origin, when)


_WEIGHTS = (12, 3, 5, 2, 6, 2, 4, 3)
"""How the bytes of a kind are shared out among its files."""

_ENDINGS = {"style": ".css", "script": ".js", "image": ".png", "font": ".ttf", "data": ".json"}

_PLACES: Mapping[str, Sequence[tuple[When, int]]] = {
    "style": (
        (When.HEAD, 1),
        (When.HEAD, 0),
        (When.HEAD, 0),
        (When.HEAD, 0),
        (When.HEAD, 2),
        (When.LATE, 0),
        (When.PRINT, 0),
        (When.LATE, 1),
    ),
    "script": (
        (When.HEAD, 0),
        (When.DEFER, 0),
        (When.ASYNC, 2),
        (When.END, 0),
        (When.DEFER, 0),
        (When.ASYNC, 2),
        (When.DEFER, 0),
        (When.LATE, 0),
    ),
    "image": ((When.NOW, 0), (When.NOW, 1), (When.LAZY, 1), (When.NOW, 1), (When.LAZY, 1), (When.LATE, 2)),
    "font": ((When.STYLE, 1),),
    "data": ((When.FETCH, 0), (When.FETCH, 2), (When.LATE, 0)),
}
"""When, and from which origin, the files of each kind are asked for, over and over."""

CANONICAL = "canonical"

VARIANTS: Mapping[str, PageVariant] = {
    variant.name: variant
    for variant in (
        PageVariant(
            CANONICAL,
            html=30_720,
            files={
                "style": (8, 79_872),
                "script": (24, 627_712),
                "image": (18, 1_079_296),
                "font": (4, 134_144),
                "data": (15, 500_000),
            },
        ),
        PageVariant(
            "light",
            html=12_288,
            files={
                "style": (1, 10_240),
                "script": (2, 40_960),
                "image": (4, 51_200),
                "font": (1, 20_480),
                "data": (1, 15_360),
            },
        ),
        PageVariant(
            "heavy",
            html=61_440,
            files={
                "style": (15, 163_840),
                "script": (50, 2_200_000),
                "image": (50, 4_400_000),
                "font": (6, 230_000),
                "data": (28, 950_000),
            },
        ),
    )
}


def page_version(variant: str, ports: Sequence[int]) -> str:
    """What a record names the page by, such as ``1-canonical-3origins``; ``ports`` are those of other origins."""
    used = 1 + max(part.origin for part in VARIANTS[variant].parts())
    count = min(1 + len(ports), used)
    return f"{VERSION}-{variant}-{count}origin{'s' if count > 1 else ''}"


def page_size(variant: str) -> int:
    """The bytes of the document and of all its files."""
    plan = VARIANTS[variant]
    return plan.html + sum(part.size for part in plan.parts())


def make_part(variant: str, part: Part) -> bytes:
    """The bytes of a file, which takes a millisecond or two."""
    seed = f"perfd/{VERSION}/{variant}/{part.name}"
    if part.kind == "style":
        is_first = part.name.startswith("style-00")
        fonts = [each.name for each in VARIANTS[variant].parts() if each.kind == "font"] if is_first else []
        return material.style(seed, part.size, _prefix(part), fonts)
    if part.kind == "script":
        return material.script(seed, part.size, boots=part.name.startswith("script-00"))
    make: Mapping[str, Callable[[str, int], bytes]] = {
        "image": material.image,
        "font": material.font,
        "data": material.data,
    }
    return make[part.kind](seed, part.size)


def make_document(variant: str, version: str, hosts: Sequence[str]) -> bytes:
    """The document; ``hosts`` are the origins as its links have them: nothing, or such as ``//example.com:8081``.

    It has the same size whatever they are.
    """
    plan = VARIANTS[variant]
    parts = list(plan.parts())

    def urls(kind: str, when: When) -> list[str]:
        return [url(part) for part in parts if part.kind == kind and part.when is when]

    def url(part: Part) -> str:
        return f"{hosts[min(part.origin, len(hosts) - 1)]}/page/{VERSION}/{variant}/{part.name}"

    boot, *blocking = urls("script", When.HEAD)
    lines = [
        f'<!DOCTYPE html>\n<html lang="en" data-version="{version}">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">\n<link rel="icon" href="data:,">',
        f"<title>Perfd's page {version}</title>",
        f'<script src="{boot}"></script>',
        *(f'<link rel="stylesheet" href="{each}">' for each in urls("style", When.HEAD)),
        *(f'<link rel="stylesheet" media="print" href="{each}">' for each in urls("style", When.PRINT)),
        *(f'<script src="{each}"></script>' for each in blocking),
        *(f'<script async src="{each}"></script>' for each in urls("script", When.ASYNC)),
        *(f'<script defer src="{each}"></script>' for each in urls("script", When.DEFER)),
        "</head>\n<body>",
        f'<p>Perfd\'s page <b id="version">{version}</b>: <span id="state">loading</span></p>',
        *_headings(plan),
        *(_image(part, url(part)) for part in parts if part.when is When.NOW),
    ]
    fetched = _json_list(urls("data", When.FETCH))
    late = _json_list([url(part) for part in parts if part.when is When.LATE])
    ending = [
        '<ul id="data"></ul>\n<div id="late"></div>\n<div style="height:4000px"></div>',
        *(_image(part, url(part)) for part in parts if part.when is When.LAZY),
        f'<script type="application/json" id="parts">{{"fetch":{fetched},"late":{late}}}</script>',
        *(f'<script src="{each}"></script>' for each in urls("script", When.END)),
        "</body>\n</html>\n",
    ]
    return material.filled("\n".join(lines) + "\n", _paragraphs(plan), "\n".join(ending), plan.html)


def _headings(plan: PageVariant) -> Iterator[str]:
    """One in each font, so that all are needed."""
    count, _ = plan.files["font"]
    for number, sentence in enumerate(material.sentences(f"perfd/{VERSION}/headings", count)):
        yield f'<h2 class="f{number}">{sentence}</h2>'


def _paragraphs(plan: PageVariant) -> Iterator[str]:
    styles = [_prefix(part) for part in plan.parts() if part.kind == "style"]
    for number, sentence in enumerate(material.sentences(f"perfd/{VERSION}/{plan.name}/text", plan.html // 60)):
        yield f'<p class="{styles[number % len(styles)]}-{number % 20}">{sentence}</p>\n'


def _image(part: Part, url: str) -> str:
    width, height = material.image_size(part.size)
    lazy = ' loading="lazy"' if part.when is When.LAZY else ""
    return f'<img{lazy} width="{width}" height="{height}" alt="" src="{url}">'


def _prefix(part: Part) -> str:
    """What the names of a style sheet's classes begin with."""
    return f"s{part.name[6:8]}"


def _json_list(urls: Sequence[str]) -> str:
    return "[" + ",".join(f'"{each}"' for each in urls) + "]"
