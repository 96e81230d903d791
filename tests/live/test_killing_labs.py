"""Labs are killed, and nothing is left: the short form of ``python -m tests.live.killing``."""

from __future__ import annotations

import os

import pytest

from .killing import kill
from .users import User


@pytest.mark.timeout(600)
def test_killed_labs_leave_nothing_and_come_up_again(user: User) -> None:
    kills = int(os.environ.get("VNET_LAB_KILLS", "16"))
    tally = kill(user, kills, seed=1)
    assert sum(tally.kills.values()) == kills
    assert set(tally.kills) == {"client of up", "base of up", "client of run", "run", "client of down", "base of down"}
