"""`vnet bench` as programs read it."""

from __future__ import annotations

import json
import subprocess
import sys

NAMES = ["stream_64B", "stream_1500B", "roundtrip_spin", "roundtrip_sleep", "python_single", "python_many"]


def test_every_figure_stands_beside_its_reference() -> None:
    command = [sys.executable, "-m", "vnet", "bench", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    results = json.loads(done.stdout)["results"]
    assert [result["name"] for result in results] == NAMES
    for result in results:
        assert result["unit"] == ("s" if result["name"].startswith("roundtrip") else "datagrams/s")
        assert result["value"] > 0
        assert result["reference"]
        assert result["reference_value"] > 0
        # The median of the pairs' ratios, so it lies in their range; that of the medians need not be the same.
        low, high = result["ratio_range"]
        assert 0 < low <= result["ratio"] <= high
        assert set(result["beside"]) <= {"Unix datagram socket", "UDP on loopback"}
    assert done.stderr == ""
