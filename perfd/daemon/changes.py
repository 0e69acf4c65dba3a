"""What another perfd.conf changes for a daemon that runs, and what of that only a restart can.

Whatever a tor, a port, the database or the name of this instance depends on needs a restart: to change it would
cost circuits, guards or measurements in flight, or root's privileges, which are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from perfd.config import BrowserConfig, Config, ExperimentConfig, TorConfig
from perfd.config.kinds import kind_of
from perfd.config.options import Option
from perfd.config.records import ClientConfig, ComparisonConfig
from perfd.config.relays import PLACES, RelaysConfig

PERFD = frozenset({"keep_logs", "keep", "keep_events", "keep_har", "keep_curves", "archive"})
SERVER = frozenset(
    {"results", "max_size", "max_rate", "max_connections", "public_address", "title", "description", "contact"}
)
"""The options of [perfd] and [server] that can change while Perfd runs."""

_OF_FILE = frozenset({"path", "directory"})
_SECTIONS = frozenset({"server", "tors", "clients", "browsers", "experiments", "comparisons"})

Lacks = Callable[[ExperimentConfig], str | None]
"""What the running daemon does not have for an experiment, in words; None if it could be measured."""


@attrs.frozen
class Changes:
    """``config`` is what holds from now on: as much of the new one as can be had without a restart.

    ``changed`` and ``restart`` name sections and options, for people.
    """

    config: Config
    changed: tuple[str, ...]
    restart: tuple[str, ...]
    measured: tuple[ExperimentConfig, ...]
    """The experiments that are to be measured in another way than before, or that are new."""
    removed: tuple[str, ...]


def compare(old: Config, new: Config, lacks: Lacks) -> Changes:
    """What ``new`` changes for a daemon that runs with ``old``."""
    changed: list[str] = []
    restart: list[str] = []
    names = _differences(old, new, _OF_FILE | _SECTIONS)
    _sort(names, PERFD, "[perfd]", changed, restart)
    perfd = {name: getattr(new, name) for name in names if name in PERFD}

    names = _differences(old.server, new.server)
    # If only listen is given it is the public address too, and that stays what is listened on.
    fixed = {"public_address"} if "listen" in names else set()
    _sort(names, SERVER - fixed, "[server]", changed, restart)
    server = {name: getattr(new.server, name) for name in names if name in SERVER - fixed}

    restart += _of_tors("tor", old.tors, new.tors)
    restart += _of_tors("client", old.clients, new.clients)
    restart += _of_comparisons(old.comparisons, new.comparisons)
    moved = _of_browsers(old.browsers, new.browsers)
    changed += moved.values()

    config = attrs.evolve(old, server=attrs.evolve(old.server, **server), browsers=new.browsers, **perfd)
    experiments: list[ExperimentConfig] = []
    measured: list[ExperimentConfig] = []
    before = {each.name: each for each in old.experiments}
    for each in new.experiments:
        was = before.pop(each.name, None)
        is_moved = ("public_address" in server and "public" in each.servers) or any(
            name in moved for name in each.browsers
        )
        if each == was and not is_moved:
            experiments.append(each)
        elif (reason := lacks(each)) is not None:
            restart.append(f"[experiment:{each.name}] {reason}")
            experiments += [] if was is None else [was]
        else:
            experiments.append(each)
            measured.append(each)
            if each != was:
                changed.append(f"[experiment:{each.name}] {_what(was, each)}")
    changed += (f"[experiment:{name}] removed" for name in before)
    config = attrs.evolve(config, experiments=tuple(experiments))
    return Changes(config, tuple(changed), tuple(restart), tuple(measured), tuple(before))


def _differences(old: attrs.AttrsInstance, new: attrs.AttrsInstance, without: Iterable[str] = ()) -> list[str]:
    """The fields in which two records of a kind differ."""
    fields = (field.name for field in attrs.fields(type(old)))
    return [name for name in fields if name not in without and getattr(old, name) != getattr(new, name)]


def _sort(names: Iterable[str], can: Iterable[str], section: str, changed: list[str], restart: list[str]) -> None:
    """Name the options of a section among those that ``can`` change, and those that need a restart."""
    for options, those in (
        ([name for name in names if name in can], changed),
        ([name for name in names if name not in can], restart),
    ):
        if options:
            those.append(f"{section} {_options(options)}")


def _options(names: Iterable[str]) -> str:
    return ", ".join(name.removeprefix("is_").replace("_", "-") for name in names)


def _what(was: ExperimentConfig | None, now: ExperimentConfig) -> str:
    """What is different in an experiment, in words."""
    if was is None:
        return "added"
    if was.type != now.type:
        return f"type = {now.type}"
    own = [each.name for each in kind_of(now.type).options if _value(each, was) != _value(each, now)]
    return _options([*_differences(was, now, ["options", "relays", "scan"]), *own, *_relays(was, now)])


def _relays(was: ExperimentConfig, now: ExperimentConfig) -> Iterator[str]:
    """The options that say over which relays it is measured, as far as they are different."""
    chosen = [each.relays or RelaysConfig.of({}) for each in (was, now)]
    if any(each.is_path for each in chosen):
        yield from ["path"] * (chosen[0] != chosen[1])
    else:
        for place, before, after in zip(PLACES, chosen[0].hops, chosen[1].hops, strict=True):
            yield from [place] * (before != after)
    if was.scan is not None and now.scan is not None:
        yield from _differences(was.scan, now.scan)


def _value(option: Option, config: ExperimentConfig) -> object:
    return config.options.get(option.attribute)


def _of_tors(
    kind: str, old: Sequence[TorConfig | ClientConfig], new: Sequence[TorConfig | ClientConfig]
) -> list[str]:
    """What is different in tors, or in the clients in their place: both need a restart."""
    before = {tor.name: tor for tor in old}
    texts = []
    for tor in new:
        was = before.pop(tor.name, None)
        if was is None:
            texts.append(f"[{kind}:{tor.name}] added")
        elif names := _differences(was, tor):
            texts.append(f"[{kind}:{tor.name}] {_options(names)}")
    return [*texts, *(f"[{kind}:{name}] removed" for name in before)]


def _of_comparisons(old: Iterable[ComparisonConfig], new: Iterable[ComparisonConfig]) -> list[str]:
    before, after = ({each.name: each for each in some} for some in (old, new))
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"[comparison:{name}] changed" for name in names]


def _of_browsers(old: Iterable[BrowserConfig], new: Iterable[BrowserConfig]) -> dict[str, str]:
    """The browsers that are others now, with what has changed."""
    before = {browser.name: browser for browser in old}
    found = {}
    for browser in new:
        was = before.get(browser.name)
        if was is not None and (names := _differences(was, browser)):
            found[browser.name] = f"[browser:{browser.name}] {_options(names)}"
    return found
