"""From an experiment's configuration to what runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from perfd.config import ExperimentConfig
from perfd.experiments.download import DownloadRun, Pair
from perfd.experiments.pageload import Material, MeasuredBrowser, NoUse, Page, PageLoadRun
from perfd.experiments.parallel import ParallelRun
from perfd.experiments.rtt import RTTRun
from perfd.experiments.run import Run, Setup, TorExperiment
from perfd.experiments.series import SeriesRun
from perfd.experiments.upload import UploadRun
from perfd.proxy import MeasuringProxy

Prepared = TorExperiment | Pair
"""What runs an experiment over one tor and one way to the server."""


def make_experiment(config: ExperimentConfig, setup: Setup) -> Prepared:
    """What runs the experiment of ``config``."""
    if config.type == "download" and config.optimistic == "both":
        return Pair(
            TorExperiment(setup, _download(config, optimistic=False)),
            TorExperiment(setup, _download(config, optimistic=True)),
        )
    return TorExperiment(setup, _MAKERS[config.type](config))


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
        return TorExperiment(setup, partial(run, optimistic=optimistic), browser.turn)

    if config.optimistic == "both":
        return Pair(loads(optimistic=False), loads(optimistic=True))
    return loads(optimistic=None if config.optimistic is None else config.optimistic == "yes")


def _plain_download(config: ExperimentConfig) -> Callable[..., Run]:
    return _download(config, optimistic=None if config.optimistic is None else config.optimistic == "yes")


def _download(config: ExperimentConfig, *, optimistic: bool | None) -> Callable[..., Run]:
    if config.parallel > 1:
        return partial(
            ParallelRun, streams=config.parallel, one_circuit=config.is_on_one_circuit, optimistic=optimistic
        )
    return partial(DownloadRun, optimistic=optimistic)


def _series(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(SeriesRun, requests=config.requests, groups=config.groups, stagger=config.stagger)


def _rtt(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(RTTRun, rate=config.rate, duration=config.duration)


def _upload(config: ExperimentConfig) -> Callable[..., Run]:
    return partial(UploadRun, expect_continue=config.expect_continue)


_MAKERS: dict[str, Callable[[ExperimentConfig], Callable[..., Run]]] = {
    "download": _plain_download,
    "series": _series,
    "upload": _upload,
    "rtt": _rtt,
}
