"""From an experiment's configuration to what runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from perfd.config import ExperimentConfig
from perfd.experiments.download import DownloadRun, Pair
from perfd.experiments.pageload import Material, MeasuredBrowser, NoUse, Page, PageLoadRun
from perfd.experiments.parallel import ParallelRun
from perfd.experiments.rtt import RTTRun
from perfd.experiments.run import Extra, Run, Setup, TorExperiment
from perfd.experiments.series import SeriesRun
from perfd.experiments.upload import UploadRun
from perfd.experiments.ways import NoTor
from perfd.proxy import MeasuringProxy

Prepared = TorExperiment | Pair
"""What runs an experiment over one tor and one way to the server."""


def make_experiment(config: ExperimentConfig, setup: Setup) -> Prepared:
    """What runs the experiment of ``config``."""
    if config.type != "download":
        return TorExperiment(setup, _MAKERS[config.type](config))
    optimistic = None if isinstance(setup.tor, NoTor) else config.optimistic  # without Tor there is nothing to save
    if optimistic == "both":
        return Pair(_downloads(config, setup, optimistic=False), _downloads(config, setup, optimistic=True))
    return _downloads(config, setup, optimistic=None if optimistic is None else optimistic == "yes")


def make_page_load(
    config: ExperimentConfig,
    setup: Setup,
    *,
    browser: MeasuredBrowser,
    proxy: MeasuringProxy,
    page: Page,
    material: Material | None,
    no_use: NoUse,
) -> Prepared:
    """What runs the page loads of ``config`` in one browser."""

    def loads(*, optimistic: bool | None) -> TorExperiment:
        run = partial(PageLoadRun, browser=browser, proxy=proxy, page=page, material=material, no_use=no_use)
        known: Extra = {"BROWSER": browser.name, "DRIVER": browser.driver, **_optimistic(optimistic)}
        return TorExperiment(setup, partial(run, optimistic=bool(optimistic)), browser.turn, known)

    if config.optimistic == "both":
        return Pair(loads(optimistic=False), loads(optimistic=True))
    return loads(optimistic=None if config.optimistic is None else config.optimistic == "yes")


def _downloads(config: ExperimentConfig, setup: Setup, *, optimistic: bool | None) -> TorExperiment:
    known = _optimistic(optimistic)
    if config.parallel == 1:
        return TorExperiment(setup, partial(DownloadRun, optimistic=bool(optimistic)), known=known)
    run = partial(
        ParallelRun, streams=config.parallel, one_circuit=config.is_on_one_circuit, optimistic=bool(optimistic)
    )
    return TorExperiment(setup, run, known={**known, "PARALLEL": config.parallel})


def _optimistic(optimistic: bool | None) -> dict[str, int]:
    """What a record says about optimistic data: nothing if the experiment says nothing."""
    return {} if optimistic is None else {"OPTIMISTIC": int(optimistic)}


def _series(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(SeriesRun, requests=config.requests, groups=config.groups, stagger=config.stagger)


def _rtt(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(RTTRun, rate=config.rate, duration=config.duration)


def _upload(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(UploadRun, expect_continue=config.expect_continue)


_MAKERS: dict[str, Callable[[ExperimentConfig], Callable[..., Run]]] = {
    "series": _series,
    "upload": _upload,
    "rtt": _rtt,
}
