"""Every lab in ``topologies/`` runs as it stands and passes, from whatever directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vnet.lab.source import load, shipped_labs

# The network namespace that is the host's for labs which join it, so that the machine's own is left alone.
OWN_HOST = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--net")


@pytest.mark.parametrize("name", sorted(shipped_labs()))
def test_a_shipped_lab_passes(name: str, tmp_path: Path, real_lan: Any) -> None:
    joins_the_host = any(node.kind == "tap" for node in load(name).nodes.values())
    command = [sys.executable, "-m", "vnet", "run", name, "--json", "--out", "out"]
    if joins_the_host:
        command = [*OWN_HOST, *command]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["capture"]["missed"] == 0
