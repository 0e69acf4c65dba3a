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


Make = Callable[[ExperimentConfig, Setup], Prepared]
"""Makes what runs the experiment of a configuration."""


def make_experiment(config: ExperimentConfig, setup: Setup) -> Prepared:
    """What runs the experiment of ``config``."""
    return MAKERS[config.type](config, setup)


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

    optimistic = config.options["optimistic"]
    if optimistic == "both":
        return Pair(loads(optimistic=False), loads(optimistic=True))
    return loads(optimistic=None if optimistic is None else optimistic == "yes")


def make_downloads(config: ExperimentConfig, setup: Setup) -> Prepared:
    """What runs the downloads of ``config``: in pairs, in parallel, or as they come."""
    optimistic = None if isinstance(setup.tor, NoTor) else config.options["optimistic"]  # nothing to save there
    if optimistic == "both":
        return Pair(_downloads(config, setup, optimistic=False), _downloads(config, setup, optimistic=True))
    return _downloads(config, setup, optimistic=None if optimistic is None else optimistic == "yes")


def _downloads(config: ExperimentConfig, setup: Setup, *, optimistic: bool | None) -> TorExperiment:
    known = _optimistic(optimistic)
    streams, one_circuit = config.options["streams"], config.options["one_circuit"]
    if streams == 1:
        return TorExperiment(setup, partial(DownloadRun, optimistic=bool(optimistic)), known=known)
    run = partial(ParallelRun, streams=streams, one_circuit=one_circuit, optimistic=bool(optimistic))
    return TorExperiment(setup, run, known={**known, "PARALLEL": streams})


def _optimistic(optimistic: bool | None) -> dict[str, int]:
    """What a record says about optimistic data: nothing if the experiment says nothing."""
    return {} if optimistic is None else {"OPTIMISTIC": int(optimistic)}


def runs_of(run: Callable[..., Run]) -> Make:
    """For a kind whose ``run`` takes just the options of the kind."""
    return lambda config, setup: TorExperiment(setup, partial(run, **config.options))


MAKERS: dict[str, Make] = {
    "download": make_downloads,
    "upload": runs_of(UploadRun),
    "series": runs_of(SeriesRun),
    "rtt": runs_of(RTTRun),
}
"""What runs each kind of experiment but those with a browser, by the kind's name."""
