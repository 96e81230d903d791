"""vnet's pytest plugin: a LAN or a lab for each test, and where a test fails, what became of its datagrams.

A package beside :mod:`vnet`, because pytest loads it in every project of the environment: for those who do not use it,
it must cost next to nothing and cannot break.  vnet itself is imported by the first test that asks for a fixture; what
the fixtures do is in :mod:`vnet.testing`, and docs/pytest.md is the guide.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import vnet
    from vnet.testing.guests import StartGuest
    from vnet.testing.labs import LiveLab
    from vnet.testing.watch import Captures, Watch

__all__ = ["guest", "lab", "lan", "make_lan"]

_WATCH: pytest.StashKey[Watch] = pytest.StashKey()
_CAPTURES: pytest.StashKey[Captures] = pytest.StashKey()

# Captures that one process keeps; with pytest-xdist each worker is one.
_KEPT = "20"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--vnet-captures`` and the ini options."""
    parser.getgroup("vnet").addoption(
        "--vnet-captures",
        metavar="DIR",
        default=None,
        help="keep the captures of failed tests in DIR, instead of pytest's temporary directory",
    )
    parser.addini("vnet_capture", "capture the LAN of each test, to keep it where the test fails", "bool", default=True)
    parser.addini("vnet_captures_kept", "how many captures of failed tests a process keeps", default=_KEPT)


def pytest_configure(config: pytest.Config) -> None:
    """Describes the marks and settles where captures go."""
    config.addinivalue_line(
        "markers",
        "lan(*prefixes, mtu=, name=, named=, seed=, max_nics=, buffer=, capture=): what the `lan` fixture is made of; "
        "see vnet's docs/pytest.md",
    )
    config.addinivalue_line(
        "markers",
        "lab(file, seed=, capture=): what the `lab` fixture builds: a file beside the test, or a lab that comes with "
        "vnet",
    )
    kept = config.getini("vnet_captures_kept")
    if not kept.strip().isdecimal():
        raise pytest.UsageError(f"vnet_captures_kept is a number of files, not {kept!r}")
    if config.option.vnet_captures is not None:
        # Workers of pytest-xdist get the option as it is from here on.
        given = Path(config.invocation_params.dir, config.option.vnet_captures).resolve()
        try:
            given.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--vnet-captures {given}: {(error.strerror or str(error)).lower()}") from None
        config.option.vnet_captures = str(given)


@pytest.fixture
def _vnet_watch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Whatever is made for the test: it is closed with it, and tells what became of its datagrams."""
    from vnet.testing.watch import Captures, Watch

    config = request.config
    captures = config.stash.get(_CAPTURES, None)
    if captures is None:
        given = config.option.vnet_captures
        directory = Path(given) if given else tmp_path_factory.getbasetemp() / "vnet-captures"
        captures = config.stash[_CAPTURES] = Captures(directory, int(config.getini("vnet_captures_kept")))
    watch = request.node.stash[_WATCH] = Watch(request.node.nodeid, captures, capture=config.getini("vnet_capture"))
    with watch:
        yield watch


@pytest.fixture
def make_lan(_vnet_watch: Watch) -> Callable[..., vnet.Lan]:
    """Makes LANs for the test: `make_lan(*prefixes, mtu=, name=, named=, ...)`; all of them end with it."""
    from vnet.testing.marks import lan_settings

    def make(*prefixes: str, **settings: Any) -> vnet.Lan:
        return _vnet_watch.make_lan(lan_settings("make_lan", prefixes, settings))

    return make


@pytest.fixture
def lan(_vnet_watch: Watch, request: pytest.FixtureRequest) -> vnet.Lan:
    """A LAN for the test, with 10.0.0.0/24 and fd00::/64; `@pytest.mark.lan(...)` makes it another."""
    from vnet.testing.marks import lan_settings, marked

    with marked(request.node, "lan") as (positional, keywords):
        settings = lan_settings("@pytest.mark.lan", positional, keywords)
        # Guests are other processes, which find it by its name.
        settings.named = settings.named or ("guest" in request.fixturenames and settings.name is None)
        return _vnet_watch.make_lan(settings)


@pytest.fixture
def guest(lan: vnet.Lan, _vnet_watch: Watch, request: pytest.FixtureRequest) -> StartGuest:
    """Starts programs as guests of `lan`: `guest("server", "python3 server.py")`; they end with the test."""
    from vnet.testing.guests import StartGuest

    return StartGuest(lan, directory=request.path.parent, watch=_vnet_watch)


@pytest.fixture
def lab(_vnet_watch: Watch, request: pytest.FixtureRequest) -> LiveLab:
    """The lab of `@pytest.mark.lab("office.yaml")`, up: a file beside the test, or a lab that comes with vnet."""
    from vnet.testing.labs import LiveLab, find_lab
    from vnet.testing.marks import lab_settings, marked

    with marked(request.node, "lab") as (positional, keywords):
        file, seed, capture = lab_settings("@pytest.mark.lab", positional, keywords)
        lab = LiveLab(find_lab(file, request.path.parent, seed), _vnet_watch.unique_name)
        _vnet_watch.undo(lab.close)
        lab.build()
        _vnet_watch.add(lab.lan, capture and None)
        if any(node.commands for node in lab.nodes.values()):
            _vnet_watch.tells(lab.commands_told)
        lab.start()
        return lab


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds to the report of a test that failed what became of its datagrams."""
    outcome = yield
    watch = item.stash.get(_WATCH, None)
    if watch is not None:
        watch.follow(item, outcome.get_result())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says where captures were kept."""
    reports = [report for key in ("failed", "error") for report in terminalreporter.stats.get(key, ())]
    properties = [each for report in reports for each in getattr(report, "user_properties", ())]
    captures = list(dict.fromkeys(value for name, value in properties if name == "vnet_capture"))
    if captures:
        terminalreporter.section("vnet captures of failed tests", sep="-")
        for path in captures:
            terminalreporter.write_line(path)
