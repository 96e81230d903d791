"""Namespaces with TAP devices, or a skip that says what this machine lacks for them."""

from __future__ import annotations

import namespaces
import pytest


@pytest.fixture(autouse=True)
def namespaces_are_there() -> None:
    if (lack := namespaces.missing()) is not None:
        pytest.skip(lack)
