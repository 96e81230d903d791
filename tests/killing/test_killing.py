"""The kill test, in a short form; ``VNET_KILLS`` says how many kills, and the program beside this file runs 2,000."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .guests import _Peer


@pytest.mark.timeout(600)
def test_killed_guests_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    kills = int(os.environ.get("VNET_KILLS", "60"))
    command = [sys.executable, "-m", "tests.killing", "--kills", str(kills), "--seed", "1", "--json"]
    root = Path(__file__).parent.parent.parent
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["kills"] == kills
    assert report["senders_killed"]
    assert report["receivers_killed"]
    # Kills that strike where it does not matter prove nothing.
    assert report["locks_held_at_death"] > 0
    assert report["checks"] > kills
    assert max(report["nic_down_ms"]) < 100


def _peer_after(*datagrams: tuple[int, int, int, int]) -> _Peer:
    peer = _Peer()
    for sequence, batch, place, delivered in datagrams:
        peer.take(sequence, batch, place, delivered)
    return peer


def test_the_receivers_notice_what_must_not_happen() -> None:
    two_batches = [(1, 1, 0, 0), (2, 1, 1, 0), (3, 2, 0, 2), (5, 2, 2, 2), (6, 3, 0, 4)]
    assert _peer_after(*two_batches).count == 5
    with pytest.raises(AssertionError, match="doubled"):
        _peer_after(*two_batches, two_batches[-1])
    with pytest.raises(AssertionError, match="out of order"):
        _peer_after(*two_batches, (4, 2, 1, 2))
    with pytest.raises(AssertionError, match="delivered"):
        _peer_after(*two_batches[:3], two_batches[4])


def test_a_receiver_that_comes_in_the_middle_of_a_batch_takes_its_bearings_from_the_next() -> None:
    # Datagrams 1 to 3 of the batch, and 10 before it, went to its predecessor.
    peer = _peer_after((14, 5, 3, 10), (15, 5, 4, 10), (16, 6, 0, 15))
    assert peer.base == 13
    with pytest.raises(AssertionError, match="delivered"):
        peer.take(17, 7, 0, 17)
