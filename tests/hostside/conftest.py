"""Machines for the tests of TAPs in the machine's own namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from . import machines
from .machines import Machine

_missing = machines.missing()


@pytest.fixture
def another() -> Iterator[Callable[[], Machine]]:
    """Makes machines that end with the test."""
    if _missing:
        pytest.skip(_missing)
    with ExitStack() as stack:

        def make() -> Machine:
            machine = Machine()
            stack.callback(machine.end)
            return machine

        yield make


@pytest.fixture
def machine(another: Callable[[], Machine]) -> Machine:
    """The machine that the base is in."""
    return another()
