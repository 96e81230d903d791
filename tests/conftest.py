"""What all tests stand on: a runtime directory of their own, and a look whether they left anything behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import support

import vnet

_failed = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR of this test. Short, because a socket's path is."""
    # Not tmp_path: tests that become another user must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="vn"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    # Images of the user's own would make tests depend on what ran before.
    cache = Path(f"{directory}-cache")
    monkeypatch.setenv("VNET_CACHE", str(cache))
    for variable in ("VNET_LAN", "VNET_NIC"):
        monkeypatch.delenv(variable, raising=False)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def signals_as_in_a_terminal() -> None:
    """A run in the background, or under nohup, ignores signals, and so would every process that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _belongings() -> set[str]:
    memory = {f"descriptor {fd}: {what}" for fd, what in support.descriptors().items() if "/memfd:vnet:" in what}
    threads = {f"thread {number}: {name}" for number, name in support.threads().items()}
    processes = {f"process {pid}: {command}" for pid, command in support.children().items()}
    return memory | threads | processes


@pytest.fixture(autouse=True)
def nothing_left_behind(runtime_directory: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """No process, thread, memory file, socket file or directory of vnet outlives its test."""
    before = _belongings()
    yield

    def left() -> set[str]:
        # walk() bears with directories that go away under it.
        files = {
            os.path.join(at, name) for at, within, names in os.walk(runtime_directory) for name in (*within, *names)
        }
        return (_belongings() - before) | files

    def collected() -> bool:
        # Each time: a thread that ends just now may hold what the collector did not get before.
        gc.collect()
        return not left()

    if request.node.stash.get(_failed, False):
        # The traceback holds the test's variables.
        return
    # pytest itself would hold the test's LAN until later.
    request.node.funcargs.clear()
    if not left():
        return
    # A test's own variables may hold one in a reference cycle; that is no leak.
    if not support.eventually(collected, timeout=3.0):
        pytest.fail("left behind: " + "; ".join(sorted(left())))


@pytest.fixture
def lan() -> Iterator[vnet.Lan]:
    """A private LAN with a network of both families."""
    with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"]) as lan:
        yield lan


@pytest.fixture
def named() -> Iterator[vnet.Lan]:
    """A LAN that other processes can find, called `office`."""
    with vnet.Lan("office", ["10.0.0.0/24", "fd00::/64"]) as lan:
        yield lan


@pytest.fixture
def guest() -> Iterator[Callable[..., support.Guest]]:
    """Starts processes that end with the test."""
    started: list[support.Guest] = []

    def start(program: str, *arguments: str, **popen: Any) -> support.Guest:
        started.append(support.Guest(program, *arguments, **popen))
        return started[-1]

    yield start
    for each in started:
        each.release()


def _forbidden(reason: str) -> bool:
    """Whether a skip is a failure: CI has every program and privilege, but perhaps not the data in shared/."""
    return bool(os.environ.get("CI")) and "shared/" not in reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if _forbidden(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} must not be skipped in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if _forbidden(reason):
            report.outcome = "failed"
            report.longrepr = f"{collector.nodeid} must not be skipped in CI: {reason}"
    return report
