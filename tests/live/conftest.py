"""Users for the tests of live labs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .users import User, at_a_shell


@pytest.fixture
def user(tmp_path: Path, runtime_directory: Path) -> Iterator[User]:
    """Somebody at a shell, in a directory of their own."""
    with at_a_shell(tmp_path, runtime_directory) as user:
        yield user


@pytest.fixture
def another(tmp_path: Path, runtime_directory: Path) -> Iterator[Callable[[str], User]]:
    """Makes users with the same files and other runtime directories."""
    with ExitStack() as users:

        def make(name: str) -> User:
            runtime = runtime_directory / name
            runtime.mkdir(mode=0o700)
            users.callback(runtime.rmdir)
            return users.enter_context(at_a_shell(tmp_path, runtime))

        yield make
