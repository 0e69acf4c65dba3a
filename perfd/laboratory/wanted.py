"""What the experiments of a configuration ask of a laboratory."""

from __future__ import annotations

from perfd.config import Config, ExperimentConfig
from perfd.config.kinds import kind_of


def all_experiments(config: Config) -> list[ExperimentConfig]:
    """Those of comparisons too."""
    of_comparisons = [each for comparison in config.comparisons for each in comparison.experiments]
    return [*config.experiments, *of_comparisons]


def is_page_wanted(config: Config) -> bool:
    """Whether a browser is to load our own page."""
    return any(each.browsers and each.url is None for each in all_experiments(config))


def is_public_wanted(config: Config) -> bool:
    """Whether our web server is to be measured at its public address."""
    return any("public" in each.servers for each in all_experiments(config))


def is_onion_wanted(config: Config) -> bool:
    """Whether our onion service is to be measured."""
    return any("onion" in each.servers for each in all_experiments(config))


def is_launching(experiment: ExperimentConfig) -> bool:
    """Whether each of its runs launches a tor of its own, so that it needs none that runs."""
    return kind_of(experiment.type).is_launched


def publishes(config: Config, tor: str) -> bool:
    """Whether this is the tor of our onion service."""
    return tor == config.server.onion_tor and is_onion_wanted(config)
