"""Every lab in ``topologies/`` runs as it stands and passes, from whatever directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vnet.lab.source import shipped_labs


@pytest.mark.parametrize("name", sorted(shipped_labs()))
def test_a_shipped_lab_passes(name: str, tmp_path: Path, real_lan: Any) -> None:
    command = [sys.executable, "-m", "vnet", "run", name, "--json", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["capture"]["missed"] == 0
