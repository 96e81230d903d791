"""Projects with tests in them, which pytest runs in a process of its own, with the plugin as it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

HEAD = f"""
import os, sys, time
import pytest
import vnet
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support import datagram
from vnet import Verdict
"""


class Project:
    """A directory with tests in it, which run in a process of their own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path = pytester.path
        self._pytester = pytester

    def write(self, name: str, text: str) -> None:
        """A file; a module of tests gets what all of them need at its head."""
        self.path.joinpath(name).write_text((HEAD if name.startswith("test_") else "") + text, encoding="utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        """Runs pytest as a user would; whatever it says is one of pytest's own answers."""
        done = self._pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *arguments, timeout=60)
        for said in (done.stdout.str(), done.stderr.str()):
            assert "INTERNALERROR" not in said
        return done

    def test(self, text: str, *arguments: str) -> pytest.RunResult:
        """Writes one module of tests and runs it."""
        self.write("test_it.py", text)
        return self.run(*arguments)


def sections(said: str) -> dict[str, str]:
    """The sections of a report by title; of several with one title, the last."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in said.splitlines():
        stripped = line.strip("-_= ")
        if line.startswith(("-----", "_____", "=====")) and stripped:
            lines = found[stripped] = []
        else:
            lines.append(line)
    return {title: "\n".join(lines) for title, lines in found.items()}
