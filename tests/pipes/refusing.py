"""What tests ask of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def message_of(act: Callable[[], Any], kind: type[BaseException]) -> str:
    """The message of the error of exactly that kind that `act` raises."""
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    return str(caught.value)
