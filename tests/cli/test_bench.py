"""`vnet bench` as programs read it."""

from __future__ import annotations

import json
import subprocess
import sys

UNITS = {
    "stream_64B": "datagrams/s",
    "stream_1500B": "datagrams/s",
    "stream_64B_captured": "datagrams/s",
    "stream_1500B_captured": "datagrams/s",
    "stream_64B_routed": "datagrams/s",
    "roundtrip_spin": "s",
    "roundtrip_sleep": "s",
    "python_single": "datagrams/s",
    "python_many": "datagrams/s",
    "tcp_65535": "bit/s",
    "tcp_1500": "bit/s",
    "pipe_64KiB": "B/s",
    "pipe_64KiB_ring": "B/s",
    "pipe_64KiB_python": "B/s",
    "pipe_roundtrip": "s",
    "pipe_roundtrip_python": "s",
    "queue_posts": "posts/s",
    "queue_wake": "s",
    "call_100B": "s",
    "call_region": "s",
    "region_1GiB": "s",
}

OTHERS = {
    "Unix datagram socket",
    "UDP on loopback",
    "cache line",
    "futex",
    "multiprocessing connection",
    "one item a call",
    "a new region each time",
    "1 MiB as bytes",
}


def test_every_figure_stands_beside_its_reference() -> None:
    command = [sys.executable, "-m", "vnet", "bench", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    results = json.loads(done.stdout)["results"]
    assert {result["name"]: result["unit"] for result in results} == UNITS
    for result in results:
        assert result["value"] > 0
        assert result["reference"]
        assert result["reference_value"] > 0
        # The median of the pairs' ratios, so it lies in their range; that of the medians need not be the same.
        low, high = result["ratio_range"]
        assert 0 < low <= result["ratio"] <= high
        assert set(result["beside"]) <= OTHERS
    assert done.stderr == ""
