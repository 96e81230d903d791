"""Kernel routers need network namespaces; without them there is nothing to compare with."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

# For the programs that are run in guests there, too.
sys.path.insert(0, str(Path(__file__).parent.parent / "interop"))

from . import kernel_side


@functools.cache
def _missing() -> str | None:
    return kernel_side.missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here and (reason := _missing()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))
