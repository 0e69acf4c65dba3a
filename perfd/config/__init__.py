"""perfd.conf as frozen records: ``load_config`` reads it, and raises ``ConfigError`` with all problems at once."""

from perfd.config.reader import load_config, parse_config
from perfd.config.records import BrowserConfig, Config, ExperimentConfig, ServerConfig, TorConfig
from perfd.config.section import ConfigError

__all__ = [
    "BrowserConfig",
    "Config",
    "ConfigError",
    "ExperimentConfig",
    "ServerConfig",
    "TorConfig",
    "load_config",
    "parse_config",
]
