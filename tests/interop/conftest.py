"""A LAN with a guest of each kind, which the tests of a module share, and the receiving kernels' word on all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for scene and programs, whatever pytest's import mode is

import scene as scenes
from scene import Scene

_MISSING = scenes.missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _MISSING:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=_MISSING))


@pytest.fixture(scope="module")
def own_network() -> Iterator[None]:
    """A network namespace that stands for the host's."""
    with scenes.own_network():
        yield


@pytest.fixture(scope="module")
def mtu() -> int:
    """The network's MTU; modules say otherwise."""
    return 1500


@pytest.fixture(scope="module")
def scene(own_network: None, mtu: int) -> Iterator[Scene]:
    """A guest of each kind on one LAN."""
    with Scene(mtu) as scene:
        yield scene


@pytest.fixture
def no_errors(scene: Scene) -> Iterator[None]:
    """What each kernel counts of checksums, headers, lengths and fragments that were wrong does not grow meanwhile."""
    before = {place.name: place.errors() for place in scene.kernels}
    yield
    for place in scene.kernels:
        now = place.errors()
        grown = {name: now[name] - before[place.name][name] for name in now if now[name] != before[place.name][name]}
        assert not grown, f"{place.name}: {grown}"
