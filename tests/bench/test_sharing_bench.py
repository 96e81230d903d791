"""`vnet bench` of what guests share: every row has both sides, and no half outlives the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

_COMMAND = [sys.executable, "-m", "vnet", "bench"]


def test_rows_tell_what_interrupted_and_what_is_resident_beside_their_figures() -> None:
    done = subprocess.run(
        [*_COMMAND, "--quick", "--json", "queue_posts", "region_1GiB", "call_region"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    posts, region, call = json.loads(done.stdout)["results"]
    assert posts["bar"] == {"on": "value", "at_least": 1e7}
    assert 0 <= posts["interrupts_share"] <= 1
    # Twice what was touched where each process had a copy; smaps counts in kilobytes, and zero pages not at all.
    assert 0.99 <= region["resident_share"] <= 1.01
    assert call["bar"] == {"on": "difference", "at_most": 20e-6}
    low, high = call["range"]
    assert low - call["reference_value"] <= high
    assert abs(call["difference"]) <= high + call["reference_value"]


def test_a_row_without_its_reference_says_in_one_sentence_what_provides_it() -> None:
    # As where grpcio is not installed: None stands for a module that cannot be found.
    program = (
        "import sys; sys.modules['grpc'] = None; from vnet.cli import main; "
        "sys.argv = ['vnet', 'bench', '--quick', *sys.argv[1:], 'call_100B']; main()"
    )
    for options in (["--json"], []):
        done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "grpcio is not installed; pip install 'vnet[bench]' provides it" in " ".join(done.stdout.split())
        if options:
            (row,) = json.loads(done.stdout)["results"]
            assert row["value"] > 0
            assert row["reference_value"] is row["ratio"] is row["met"] is None


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A benchmark of one row that runs for long enough to be disturbed."""
    with subprocess.Popen(
        [*_COMMAND, request.param], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def _peer(bench: subprocess.Popen[str]) -> int:
    """The process id of a benchmark's peer, in the midst of its halves."""
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")

    def peers() -> list[int]:
        # One that has its setup has a thread that watches whom it measures with.
        return [int(pid) for pid in children.read_text().split() if len(os.listdir(f"/proc/{pid}/task")) > 1]

    assert support.eventually(peers, timeout=30.0)
    (peer,) = peers()
    # Into the measuring; a row can be over half a second later.
    time.sleep(0.05)
    return peer


def _alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waits for has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_ROWS = ["pipe_64KiB", "pipe_64KiB_python", "pipe_roundtrip", "queue_posts", "queue_wake", "call_100B", "region_1GiB"]


@pytest.mark.parametrize("bench", _ROWS, indirect=True)
def test_a_half_whose_peer_is_killed_ends_with_one_sentence(bench: subprocess.Popen[str]) -> None:
    os.kill(_peer(bench), signal.SIGKILL)
    _, complaints = bench.communicate(timeout=20)
    assert bench.returncode == 2
    assert complaints == "vnet: the benchmark's peer process ended early (code -9)\n"


@pytest.mark.parametrize("bench", ["pipe_64KiB", "call_100B"], indirect=True)
def test_a_peer_goes_when_the_one_it_measures_with_is_killed(bench: subprocess.Popen[str]) -> None:
    peer = _peer(bench)
    bench.kill()
    assert support.eventually(lambda: not _alive(peer), timeout=10.0)
