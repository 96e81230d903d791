"""What the tests of the pytest plugin share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inner import Project


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """A directory for tests that a test writes and runs."""
    return Project(pytester)
