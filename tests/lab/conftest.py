"""What the lab tests share: reading a lab from text, and the real LAN where the test needs it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from vnet.lab.plan import Lab
from vnet.lab.source import load

sys.path.insert(0, str(Path(__file__).parent))  # for fake_lan and reading, whatever pytest's import mode is

from reading import ReadLab


@pytest.fixture
def read(tmp_path: Path) -> ReadLab:
    """Reads a lab from text, as a file in a directory of the test's own."""

    def read_text(text: str, **settings: Any) -> Lab:
        path = tmp_path / "lab.yaml"
        path.write_text(text, encoding="utf-8")
        return load(str(path), **settings)

    return read_text


@pytest.fixture
def real_lan() -> Any:
    """The ``vnet.Lan`` class; CI has it built, elsewhere the test is skipped."""
    try:
        return importlib.import_module("vnet").Lan
    except (ImportError, AttributeError):
        if os.environ.get("CI"):
            pytest.fail("vnet is not built: run make")
        pytest.skip("vnet is not built: run make")
