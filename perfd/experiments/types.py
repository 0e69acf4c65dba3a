"""From an experiment's configuration to what runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from perfd.config import ExperimentConfig
from perfd.config.extensions import extensions
from perfd.experiments.bootstrap import BootstrapRun
from perfd.experiments.download import DownloadRun
from perfd.experiments.pageload import Material, MeasuredBrowser, MeasuredPage, NoUse, PageLoadRun
from perfd.experiments.parallel import ParallelRun
from perfd.experiments.rtt import RTTRun
from perfd.experiments.run import Alternative, Extra, Run, Setup, TorExperiment
from perfd.experiments.series import SeriesRun
from perfd.experiments.upload import UploadRun
from perfd.experiments.ways import NoTor
from perfd.proxy import MeasuringProxy
from perfd.record import EMPTY

Make = Callable[[ExperimentConfig, Setup], TorExperiment]
"""Makes what runs the experiment of a configuration."""


def make_experiment(config: ExperimentConfig, setup: Setup) -> TorExperiment:
    """What runs the experiment of ``config``."""
    make = MAKERS.get(config.type) or runs_of(extensions().usable[config.type].run)
    return make(config, setup)


def make_page_load(
    config: ExperimentConfig,
    setup: Setup,
    *,
    browser: MeasuredBrowser,
    proxy: MeasuringProxy,
    page: MeasuredPage,
    material: Material | None,
    no_use: NoUse,
) -> TorExperiment:
    """What runs the page loads of ``config`` in one browser."""

    def loads(optimistic: bool | None) -> Alternative:
        run = partial(PageLoadRun, browser=browser, proxy=proxy, page=page, material=material, no_use=no_use)
        known: Extra = {"BROWSER": browser.name, "DRIVER": browser.driver, **_optimistic(optimistic)}
        return Alternative(partial(run, optimistic=bool(optimistic)), known)

    return TorExperiment(setup, [loads(optimistic) for optimistic in _ways(config)], browser.turn)


def make_downloads(config: ExperimentConfig, setup: Setup) -> TorExperiment:
    """What runs the downloads of ``config``: in pairs, in parallel, or as they come."""
    ways = (None,) if isinstance(setup.tor, NoTor) else _ways(config)  # without Tor there is nothing to save
    return TorExperiment(setup, [_downloads(config, setup, optimistic) for optimistic in ways])


def _downloads(config: ExperimentConfig, setup: Setup, optimistic: bool | None) -> Alternative:
    known = {**_target(setup), **_optimistic(optimistic)}
    streams, one_circuit = config.options["streams"], config.options["one_circuit"]
    if streams == 1:
        return Alternative(partial(DownloadRun, optimistic=bool(optimistic)), known)
    run = partial(ParallelRun, streams=streams, one_circuit=one_circuit, optimistic=bool(optimistic))
    return Alternative(run, {**known, "PARALLEL": streams})


def _ways(config: ExperimentConfig) -> Sequence[bool | None]:
    """With optimistic data or without, or both in pairs; None if the experiment says nothing of it."""
    optimistic = config.options["optimistic"]
    if optimistic is None:
        return (None,)
    return (False, True) if optimistic == "both" else (optimistic == "yes",)


def _optimistic(optimistic: bool | None) -> dict[str, int]:
    """What a record says about optimistic data: nothing if the experiment says nothing."""
    return {} if optimistic is None else {"OPTIMISTIC": int(optimistic)}


def _target(setup: Setup) -> Extra:
    """What a record says about a target elsewhere."""
    return EMPTY if setup.target is None else setup.target.keys


def runs_of(run: Callable[..., Run]) -> Make:
    """For a kind whose ``run`` takes just the options of the kind."""
    return lambda config, setup: TorExperiment(setup, [Alternative(partial(run, **config.options), _target(setup))])


def make_scan(_config: ExperimentConfig, setup: Setup) -> TorExperiment:
    """What runs a scan: downloads, each over a circuit with the next relay."""
    return TorExperiment(setup, [Alternative(DownloadRun, _target(setup))])


MAKERS: dict[str, Make] = {
    "download": make_downloads,
    "upload": runs_of(UploadRun),
    "series": runs_of(SeriesRun),
    "rtt": runs_of(RTTRun),
    "bootstrap": runs_of(BootstrapRun),
    "scan": make_scan,
}
"""What runs each kind of experiment but those with a browser, by the kind's name."""
