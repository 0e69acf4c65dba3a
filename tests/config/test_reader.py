"""perfd.conf becomes frozen objects, and all of its mistakes are told at once."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from perfd.config import Config, ConfigError, ExperimentConfig, load_config, parse_config
from perfd.config.kinds import KINDS
from perfd.config.relays import RELAYS, SCANNED
from perfd.config.target import TARGET, TargetConfig
from perfd.config.values import Address, socks_address
from tests.support.places import CHECKOUT

PATH = Path("/instance/perfd.conf")


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
max-rate = 5 MiB/s
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
    assert (config.server.max_rate, config.server.max_connections) == (5 * 2**20, 7)
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
        "[experiment:a] size: unknown unit 'kB'; did you mean '50 KiB'?",
        "[experiment:a] interval: unknown unit 'm'; did you mean '5 min'?",
        "[experiment:a] offset: must be smaller than the interval",
        "[experiment:a] tor: no tor is named 'beta'; there is default",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[perfd]\nsource = a\nsource = b", "line 3: source is given above in [perfd] already"),
        ("stray", "line 1: 'stray' is in no section such as [perfd]"),
        ("[perfd", "line 1: '[perfd' is in no section such as [perfd]"),
        ("[server]\nlisten = 0.0.0.0:80", "public-address: needed"),
        ("[perfd]\nnetwork = tor", "cannot be reached over the public Tor network"),
        ("[perfd]\nsocks-proxy = 127.0.0.1:9050", "only used with network = socks"),
        ("[tor]\ncontrol-password = x", "control-password: only used with control"),
        ("[tor]\ncontrol = a:1\ncontrol-password-file = none", "'none' cannot be read: No such file or directory"),
        (
            "[tor]\ncontrol = a:1\ncontrol-password-file = /dev/null",
            "'/dev/null' cannot be read: it is no regular file",
        ),
        ("[perfd]\nsocks-proxy = http://127.0.0.1:80", "'http' is not one of socks4, socks4a, socks5, socks5h"),
        ("[perfd]\nsocks-proxy = socks5://127.0.0.1", "'127.0.0.1' is not an address"),
        ("[perfd]\nsocks-proxy = socks5://:secret@127.0.0.1:1", "a user name is needed before the @"),
        ("[perfd]\nsocks-proxy = socks4://me:secret@127.0.0.1:1", "SOCKS 4 has a user name, but no password"),
        ("[perfd]\nsocks-proxy = socks5://a%00b@127.0.0.1:1", "at most 255 bytes, and no NUL"),
        ("[experiment:a]\ninterval = 500 ms", "must be from 1 s to 366 d"),
        ("[experiment:a]\ninterval = 999999999999999 d", "is more than ten years"),
        ("[server]\nmax-rate = 0", "must be more than 0, or none"),
        ("[server]\nmax-rate = fast", "a size is a number"),
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


def test_unfinished_heading() -> None:
    """What follows it is taken for its options, and a stray bracket for none."""
    found = problems("[perfd]\n[server\nresults = sme\n[\nlisten = 127.0.0.1:1\n")
    assert [each.removeprefix("/instance/perfd.conf: ") for each in found] == [
        "line 2: '[server' lacks the ] at its end",
        "line 4: '[' lacks the ] at its end",
        "[server] results: 'sme' is not one of all, local, none",
    ]


def test_all_syntax_mistakes() -> None:
    """Each has the number of its line, and the other mistakes are told with them."""
    found = problems(
        "stray\n[perfd]\nsource = a\nsource = b\n  c\nnetwork testnet\nkeep-har = 0 d\n[tor]\ntorrc =\n"
        "SafeLogging 0\nClientOnly 1\nBridge 192.0.2.1:1\n[perfd]\narchive = no\n[server]\nbind\n"
    )
    assert [each.removeprefix("/instance/perfd.conf: ") for each in found] == [
        "line 1: 'stray' is in no section such as [perfd]",
        "line 4: source is given above in [perfd] already",
        "line 6: 'network testnet' is not OPTION = VALUE",
        "line 10: 'SafeLogging 0' is not OPTION = VALUE; if it belongs to torrc above, indent it",
        "line 11: 'ClientOnly 1' is not OPTION = VALUE; if it belongs to torrc above, indent it",
        "line 13: there is a section [perfd] above; write its options there",
        "line 16: 'bind' is not OPTION = VALUE",
        "[tor] bridge 192.0.2.1: unknown option; if it belongs to the option above, such as torrc, indent it",
        "[perfd] keep-har: '0 d' is not a whole number of days, such as 14 d",
    ]


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


# Experiments of all types


def experiment(text: str) -> ExperimentConfig:
    """The one experiment of a perfd.conf with two tors and two browsers."""
    (found,) = parse(f"[tor:alpha]\n[browser:tb]\n[experiment:a]\n{text}").experiments
    return found


def defaults(kind: str, **changes: Any) -> ExperimentConfig:
    """What an experiment of a type is, apart from ``changes``."""
    values: dict[str, Any] = {"size": 51200, "interval": 300.0, "offset": 0.0, "timeout": 295.0}
    values |= {"tors": ("default",), "servers": ("public",)}
    own: dict[str, Any] = {
        option.attribute: None if option.default is None else option.read(option.default)
        for option in KINDS[kind].options
        if option.name != "size" and option not in (*(TARGET if KINDS[kind].has_target else ()), *RELAYS, *SCANNED)
    }
    assert set(changes) <= set(values) | own.keys() | {
        "fresh_circuits",
        "skip_until_cbt",
        "fresh_descriptor",
        "targets",
    }
    options = {name: changes.pop(name, value) for name, value in own.items()}
    return ExperimentConfig(name="a", type=kind, **values | changes, options=options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", defaults("download")),
        ("type = upload\nexpect-continue = yes", defaults("upload", expect_continue=True)),
        ("type = series", defaults("series", requests=10, groups=1, stagger=None)),
        (
            "type = series\nrequests = 20\ngroups = 20\nstagger = 500 ms",
            defaults("series", requests=20, groups=20, stagger=0.5),
        ),
        ("type = series\nstagger = 0", defaults("series", stagger=0.0)),
        ("type = rtt", defaults("rtt", size=5 * 2**20, rate=10.0, duration=10.0)),
        (
            "type = rtt\nsize = 1 MiB\nrate = 0.5\nduration = 1 min",
            defaults("rtt", size=2**20, rate=0.5, duration=60.0),
        ),
        ("parallel = 50", defaults("download", streams=50, one_circuit=True)),
        ("parallel = 2\nparallel-circuits = each", defaults("download", streams=2, one_circuit=False)),
        ("type = series\nrequests = 1000", defaults("series", requests=1000)),
        ("parallel = 1000\n[server]\nmax-connections = 1000", defaults("download", streams=1000)),
        ("optimistic = both", defaults("download", optimistic="both")),
        ("type = pageload\noptimistic = yes", defaults("pageload", size=0, optimistic="yes")),
        ("tor = none, alpha", defaults("download", tors=("none", "alpha"))),
        ("circuit = reuse\nskip-until-cbt = yes", defaults("download", fresh_circuits=False, skip_until_cbt=True)),
        (
            "server = public, onion\nfresh-descriptor = yes",
            defaults("download", servers=("public", "onion"), fresh_descriptor=True),
        ),
        (
            "type = pageload\nurl = https://example.org/a?b\nbrowser = default, tb\nquiet = 5 s\nscreenshot = no\n"
            "filmstrip = yes\ninsecure = yes",
            defaults(
                "pageload",
                size=0,
                servers=("url",),
                url="https://example.org/a?b",
                browsers=("default", "tb"),
                quiet=5.0,
                screenshot=False,
                filmstrip=True,
                insecure=True,
            ),
        ),
        ("type = pageload\npage = heavy", defaults("pageload", size=0, page="heavy")),
        (
            "url = http://a/b",
            defaults("download", size=0, servers=("url",), targets=(TargetConfig(url="http://a/b"),)),
        ),
        (
            f"type = series\nurl = https://{'a' * 56}.onion/\nsize = 1 KiB\nfresh-descriptor = yes\nredirects = 3\n"
            f"expect-status = 200, 206\nexpect-digest = sha256:{'AB' * 32}\nsize-limit = 2 KiB\ninsecure = yes\n"
            "pause = 5 s",
            defaults(
                "series",
                size=1024,
                fresh_descriptor=True,
                servers=("url",),
                targets=(
                    TargetConfig(
                        url=f"https://{'a' * 56}.onion/",
                        redirects=3,
                        statuses=(200, 206),
                        size=1024,
                        digest="ab" * 32,
                        size_limit=2048,
                        insecure=True,
                        pause=5.0,
                    ),
                ),
            ),
        ),
    ],
)
def test_experiments(text: str, expected: ExperimentConfig) -> None:
    """The options of each type, and their defaults."""
    assert experiment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parallel = 0", "parallel: must be greater than 0"),
        ("parallel = 1001", "parallel: must be at most 1000"),
        ("parallel = 501", "parallel: more than max-connections of [server], which is 500"),
        (
            "type = series\nrequests = 501\nstagger = 0",
            "requests: more than max-connections of [server], which is 500",
        ),
        ("parallel = some", "parallel: 'some' is not a whole number"),
        ("parallel = 1000000000", "parallel: must be 0 to 999999999"),
        ("type = scan\nseed = -1", "seed: must be 0 to 999999999"),
        ("parallel-circuits = two", "parallel-circuits: 'two' is not one of one, each"),
        ("optimistic = perhaps", "optimistic: 'perhaps' is not one of no, yes, both"),
        ("circuit = stale", "circuit: 'stale' is not one of fresh, reuse"),
        ("server = hidden", "server: 'hidden' is not one of public, onion"),
        ("skip-until-cbt = 1", "skip-until-cbt: '1' is neither yes nor no"),
        ("size = 2 GiB", "size: larger than max-size of [server], which is 1 GiB"),
        ("type = series\nsize = 2 GiB", "size: larger than max-size"),
        ("type = series\nrequests = 1001", "requests: must be at most 1000"),
        ("type = series\nrequests = 0", "requests: must be greater than 0"),
        ("type = series\nrequests = 3\ngroups = 4", "groups: must be at most as many as there are requests"),
        ("type = series\nstagger = 8 s\ntimeout = 72 s", "stagger: the last request would begin after the timeout"),
        ("optimistic = both\ntor = none", "optimistic: there is no SOCKS reply that would not be waited for"),
        ("type = series\nstagger = soon", "stagger: 'soon' cannot be read; a duration is a number"),
        ("type = rtt\nrate = fast", "rate: 'fast' is not a number such as 10 or 0.5"),
        ("type = rtt\nrate = 0", "rate: '0' must be over 0"),
        ("type = rtt\nrate = nan", "rate: 'nan' must be over 0"),
        ("type = rtt\nrate = inf", "rate: 'inf' must be over 0"),
        ("type = rtt\nrate = 101\nduration = 1 s", "rate: must be at most 100 exchanges a second"),
        ("type = rtt\nrate = 100\nduration = 11 s", "duration: rate x duration must be at most 1000"),
        ("type = rtt\nduration = 0 s", "duration: must be greater than 0"),
        ("type = rtt\ntimeout = 20 s", "duration: both phases together must be shorter than the timeout"),
        ("type = pageload\npage = front", "page: 'front' is not one of canonical, light, heavy"),
        ("type = pageload\nurl = ftp://example.org/", "url: 'ftp://example.org/' is not an address like https:"),
        ("type = pageload\nurl = https:///x", "is not an address like https://example.org/"),
        ("type = pageload\nurl = http://a b/", "url: 'http://a b/' is not an address like https:"),
        ("type = pageload\nurl = http://h/a b", "url: 'http://h/a b' is not an address like https:"),
        ("type = pageload\nurl = http://xn--/", "url: 'http://xn--/' is not an address like https:"),
        ("type = pageload\nurl = http://a..b/", "url: 'http://a..b/' is not an address like https:"),
        ("type = pageload\nurl = http://%41/", "is not an address like https://example.org/"),
        ("type = pageload\nurl = http://me:secret@a/", "url: user names and passwords are not taken here"),
        ("type = pageload\nurl = http://a:0/", "url: 'http://a:0/' is not an address like https:"),
        ("type = pageload\nurl = http://a:65536/", "url: Port out of range 0-65535"),
        ("type = pageload\nurl = http://[::1/", "url: Invalid IPv6 URL"),
        ("type = pageload\nurl = http://a/\npage = light", "page: cannot be given together with url"),
        ("type = pageload\nurl = http://a/\nserver = onion", "server: cannot be given together with url"),
        ("type = pageload\nbrowser = lynx", "browser: no browser is named 'lynx'; there is default, tb"),
        ("type = pageload\nquiet = 0", "quiet: must be greater than 0"),
        ("type = pageload\nscreenshot = maybe", "screenshot: 'maybe' is neither yes nor no"),
        ("tor = none\nserver = onion", "tor: an onion service cannot be reached with tor = none"),
        ("tor = beta", "tor: no tor is named 'beta'; there is alpha, default, none"),
        ("fresh-descriptor = yes", "fresh-descriptor: only used with server = onion"),
        ("requests = 3", "requests: only used with type = series"),
        ("type = upload\ngroups = 3", "groups: only used with type = series"),
        ("stagger = 3 s", "stagger: only used with type = series"),
        ("type = series\nparallel = 3", "parallel: only used with type = download"),
        ("type = rtt\nparallel-circuits = one", "parallel-circuits: only used with type = download"),
        ("type = rtt\noptimistic = yes", "optimistic: only used with type = download or pageload"),
        ("type = series\nexpect-continue = yes", "expect-continue: only used with type = upload"),
        ("rate = 3", "rate: only used with type = rtt"),
        ("duration = 3 s", "duration: only used with type = rtt"),
        ("type = upload\nurl = http://a/", "url: only used with type = download or series or rtt or pageload"),
        ("type = rtt\nurl = http://a/", "rate: more often than pause allows; with url, rate = 1 is usual"),
        ("type = rtt\nrate = 1\nurl = http://a/\nsize = 1 KiB", "size: not used by type = rtt with url"),
        ("type = rtt\nrate = 1\nurl = http://a/\nredirects = 1", "redirects: not used by type = rtt with url"),
        ("method = HEAD", "method: only used with url"),
        ("redirects = 2", "redirects: only used with url"),
        ("onion-key = x", "onion-key: only used with url"),
        ("urls = none.txt", "urls: 'none.txt': No such file or directory"),
        ("url = http://a/\nonion-key = none", "onion-key: 'none': No such file or directory"),
        ("url = http://a/\nmethod = POST", "method: 'POST' is not one of GET, HEAD"),
        ("url = ftp://a/", "url: 'ftp://a/' is not an address like https://example.org/"),
        ("url = http://me:secret@a/", "url: user names and passwords are not taken here"),
        ("url = http://short.onion/", "url: short.onion is no address of a v3 onion service"),
        ("url = http://a/\nredirects = 21", "redirects: must be 0 to 20"),
        ("url = http://a/\nexpect-status = 200, ok", "expect-status: '200, ok' is not a list of statuses"),
        ("url = http://a/\nexpect-status = 100", "expect-status: '100' is not a list of statuses"),
        ("url = http://a/\nexpect-digest = 12ab", "expect-digest: '12ab' is not a SHA-256"),
        (f"url = http://a/\nmethod = HEAD\nexpect-digest = {'0' * 64}", "expect-digest: there is no payload"),
        ("url = http://a/\nserver = public", "server: cannot be given together with url"),
        ("url = http://a/\nsize = 65 MiB", "size: larger than size-limit"),
        ("url = http://a/\ninterval = 9 s", "interval: must be at least 10 s with url"),
        ("url = http://a/\nparallel = 2", "parallel: with url it needs pause = 0 s"),
        (
            "url = http://a/\nfresh-descriptor = yes",
            "fresh-descriptor: only used with server = onion, or with the url",
        ),
        (f"url = http://{'a' * 56}.onion/\ntor = none", "tor: an onion service cannot be reached with tor = none"),
        ("type = pageload\nsize = 1 KiB", "size: only used with type = download or upload or series or rtt"),
        ("paralel = 3", "paralel: unknown option; did you mean 'parallel'?"),
    ],
)
def test_problems_of_experiments(text: str, expected: str) -> None:
    """Each mistake is the only problem, and named with its section and option."""
    (found,) = problems(f"[tor:alpha]\n[browser:tb]\n[experiment:a]\n{text}")
    assert found.startswith(f"{PATH}: [experiment:a] ")
    assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[perfd]\nnetwork = socks\n[experiment:a]\nserver = onion",
            "there are no onion services with network = socks",
        ),
        (
            "[server]\nsingle-onion = yes\n[experiment:a]\nserver = onion",
            "default publishes a single onion service",
        ),
        ("[server]\nonion-tor = beta", "[server] onion-tor: no tor is named 'beta'"),
        ("[server]\nsingle-onion = maybe", "'maybe' is neither yes nor no"),
        ("[server]\npage-ports = 1,2,3,4,5", "is not a list of up to four ports"),
        (
            "[perfd]\nnetwork = tor\n[server]\npublic-address = 192.0.2.1:80\npage-ports = 0",
            "page-ports: must be ports that the internet can reach",
        ),
        ("[tor:none]", "[tor:none]: tor = none stands for no tor at all"),
        ("[browser:x y]", "[browser:x y]: the name must be letters, digits and hyphens"),
        ("[brwoser]", "[brwoser]: unknown section; did you mean 'browser'?"),
        ("[browser]\ndriver = opera", "driver: 'opera' is not one of bidi, selenium"),
        ("[browser]\nprocess = cold", "process: 'cold' is not one of warm, fresh"),
        ("[browser]\ngeckodriver = x", "geckodriver: only used with driver = selenium"),
        ("[browser:a]\nselenium-url = http://x", "[browser:a] selenium-url: only used with driver = selenium"),
        ("[perfd]\nkeep-har = 1 h", "keep-har: '1 h' is not a whole number of days"),
    ],
)
def test_problems_of_other_sections(text: str, expected: str) -> None:
    """What the new types need besides their own sections."""
    (found,) = problems(text)
    assert expected in found


def test_several_problems_of_one_experiment() -> None:
    """All are told at once, also those between options."""
    found = problems(
        "[experiment:a]\ntype = series\nrequests = 2\ngroups = 3\nrate = 5\ntor = none\nserver = onion"
    )
    assert [problem.partition("] ")[2].partition(":")[0] for problem in found] == ["tor", "groups", "rate"]


def test_the_baseline_needs_no_public_address() -> None:
    """Without Tor, the own machine reaches itself; any experiment over Tor needs an address that exits reach."""
    config = "[perfd]\nnetwork = tor\n[experiment:a]\ntor = none\n"
    assert parse(config).experiments[0].tors == ("none",)
    assert "cannot be reached" in problems(f"{config}[experiment:b]")[0]


def test_overrides() -> None:
    """Options from elsewhere take the place of the file's, and are checked like them."""
    text = "[experiment:a]\nsize = 1 MiB\ntimeout = 9 s"
    changes = {"experiment:a": {"size": "2 MiB", "parallel": "3"}, "experiment:b": {"type": "rtt"}}
    a, b = parse_config(text, PATH, changes).experiments
    assert (a.size, a.options["streams"], a.timeout, b.type) == (2 * 2**20, 3, 9.0, "rtt")
    with pytest.raises(ConfigError, match="on the command line: colour: unknown option"):
        parse_config(text, PATH, {"experiment:a": {"colour": "red"}})


@pytest.mark.parametrize(
    ("text", "shown", "login"),
    [
        ("127.0.0.1:9050", "socks5://127.0.0.1:9050", None),
        ("socks5h://[::1]:9050/", "socks5://[::1]:9050", None),
        ("SOCKS5://me:@proxy.example:1", "socks5://proxy.example:1", ("me", "")),
        ("me:s%40cret:x@127.0.0.1:1", "socks5://127.0.0.1:1", ("me", "s@cret:x")),
        ("socks4://127.0.0.1:1080", "socks4://127.0.0.1:1080", None),
        ("socks4a://m%C3%A9@127.0.0.1:1080", "socks4://127.0.0.1:1080", ("m\xe9", "")),
    ],
)
def test_socks_address(text: str, shown: str, login: tuple[str, str] | None) -> None:
    """Every scheme, with and without a login; the login is never shown."""
    found = socks_address(text)
    assert (str(found), found.login) == (shown, login)
    assert "cret" not in repr(found)


def test_control_password(tmp_path: Path) -> None:
    """In the file itself, or in the first line of another, which is beside it; not in both, and never shown."""
    (tmp_path / "secret").write_text("s3cret #1\nmore\n")
    path, given = tmp_path / "perfd.conf", "[tor]\ncontrol = /run/tor/control\ncontrol-password{}\n[tor:b]\n"
    for text, expected in ((given.format(" = s3cret"), "s3cret"), (given.format("-file = secret"), "s3cret #1")):
        config = parse_config(text, path)
        assert [tor.control_password for tor in config.tors] == [expected] * 2
        assert "s3cret" not in repr(config)
    with pytest.raises(ConfigError, match="control-password-file: control-password is given as well"):
        parse_config(given.format(" = x\ncontrol-password-file = secret"), path)
