"""perfd.conf becomes frozen objects, and all of its mistakes are told at once."""

from importlib import resources
from pathlib import Path

import pytest

from perfd.config import Config, ConfigError, load_config, parse_config
from perfd.values import Address

PATH = Path("/instance/perfd.conf")
CHECKOUT = Path(__file__).parent.parent


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, PATH)
    return list(caught.value.problems)


def parse(text: str) -> Config:
    return parse_config(text, PATH)


def test_empty_file_has_defaults() -> None:
    """Everything has a default but the experiments."""
    config = parse("")
    assert config.network == "testnet"
    assert config.database == "sqlite:///perfd.sqlite"
    assert config.server.listen == config.server.public_address == Address("127.0.0.1", 8080)
    assert [tor.name for tor in config.tors] == ["default"]
    assert config.experiments == ()
    assert config.directory == Path("/instance")


def test_checkout_config_is_the_testnet_profile() -> None:
    """`perfd init` writes what the checkout runs with, and it has no mistakes."""
    config = load_config(CHECKOUT / "perfd.conf")
    assert [experiment.size for experiment in config.experiments] == [51200, 1048576, 5242880]
    template = (resources.files("perfd") / "templates" / "testnet.conf").read_text(encoding="utf-8")
    assert template == (CHECKOUT / "perfd.conf").read_text(encoding="utf-8")


def test_every_option() -> None:
    """Options are read with their units, comments are cut, torrc keeps its lines."""
    config = parse(
        """
[perfd]
source = op-nl  # a comment
network = tor
database = sqlite:////var/lib/perfd/x.sqlite
keep-logs = 7 d
[server]
listen = [::]:80
public-address = 192.0.2.1:80
results = local
max-size = 10 MiB
max-connections = 7
[tor]
torrc = MaxCircuitDirtiness 60 seconds
  SafeLogging 0
bootstrap-timeout = 90 s
[tor:alpha]
binary = /opt/alpha/tor
[tor:running]
control = 127.0.0.1:9051
[experiment:big]
size = 5 MiB
interval = 1 h
offset = 8 min
timeout = 3595 s
tor = default, alpha
server = public
"""
    )
    assert config.source == "op-nl"
    assert config.keep_logs == 7
    assert config.server.listen == Address("::", 80)
    assert config.server.max_connections == 7
    default, alpha, running = config.tors
    assert default.torrc == alpha.torrc == "MaxCircuitDirtiness 60 seconds\nSafeLogging 0"
    assert (default.binary, alpha.binary) == ("tor", "/opt/alpha/tor")
    assert running.control == "127.0.0.1:9051"
    assert alpha.bootstrap_timeout == 90.0
    (big,) = config.experiments
    assert (big.size, big.interval, big.offset, big.timeout) == (5 * 2**20, 3600.0, 480.0, 3595.0)
    assert big.tors == ("default", "alpha")


def test_all_problems_at_once() -> None:
    """Each problem names file, section and option, and what would be right."""
    found = problems(
        """
[perfd]
source = two words
netwrok = testnet
keep-logs = 1 h
[serve]
[server]
listen = nowhere
results = some
[tor]
control = here
[experiment:]
[experiment:a]
type = downlaod
size = 50 kB
interval = 5 m
offset = 1 h
tor = beta
"""
    )
    text = "\n".join(found)
    for expected in (
        "/instance/perfd.conf: [serve]: unknown section; did you mean 'server'?",
        "[perfd] source: 'two words' must be letters, digits and hyphens",
        "[perfd] netwrok: unknown option; did you mean 'network'?",
        "[perfd] keep-logs: '1 h' is not a whole number of days",
        "[server] listen: 'nowhere' is not an address such as 127.0.0.1:8080",
        "[server] results: 'some' is not one of all, local, none",
        "[tor] control: 'here' is not an address",
        "[experiment:]: the name must be",
        "[experiment:a] type: 'downlaod' is not one of download",
        "[experiment:a] size: unknown unit 'kB'",
        "[experiment:a] interval: unknown unit 'm'",
        "[experiment:a] offset: must be smaller than the interval",
        "[experiment:a] tor: no tor is named 'beta'; there is default",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[perfd]\nsource = a\nsource = b", "already exists"),
        ("stray", "no section headers"),
        ("[perfd", "no section headers"),
        ("[server]\nlisten = 0.0.0.0:80", "public-address: needed"),
        ("[perfd]\nnetwork = tor", "cannot be reached over the public Tor network"),
        ("[perfd]\nsocks-proxy = 127.0.0.1:9050", "only used with network = socks"),
        ("[experiment:a]\ninterval = 500 ms", "must be from 1 s to 366 d"),
        ("[experiment:a]\ninterval = 999999999999999 d", "is more than ten years"),
        ("[server]\nmax-size = 99999999999999 GiB", "must be at most 1024 GiB"),
        ("[experiment:a]\nsize = 2 GiB", "larger than max-size of [server], which is 1 GiB"),
        ("[experiment:a]\nsize = 0", "must be greater than 0"),
        ("[perfd]\ndatabase = mysql://x", "is not a database such as sqlite:///perfd.sqlite"),
        ("[perfd]\nnetwork = socks\n[experiment:a]\ntor = alpha\n[tor:alpha]", "no tor is named 'alpha'"),
    ],
)
def test_single_problems(text: str, expected: str) -> None:
    """Mistakes that stand alone."""
    assert expected in "\n".join(problems(text))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    """A file that is not there, and one that is no text, are config errors too."""
    with pytest.raises(ConfigError, match="no such file; `perfd init DIR` writes one"):
        load_config(tmp_path / "perfd.conf")
    (tmp_path / "perfd.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "perfd.conf")


def test_addresses() -> None:
    """Addresses know whether they are loopback, and are written as they are read."""
    assert str(Address("::1", 80)) == "[::1]:80"
    assert Address("::1", 80).is_loopback
    assert Address("localhost", 80).is_loopback
    assert not Address("192.0.2.1", 80).is_loopback
    assert Address("0.0.0.0", 80).is_any
