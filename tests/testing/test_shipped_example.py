"""The tested program that comes with vnet passes its tests, and they would find a broken one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from inner import Project
from support import ROOT

pytest_plugins = ["pytester"]


def ship(project: Project) -> Path:
    for path in (ROOT / "topologies" / "tested").iterdir():
        if path.is_file():
            shutil.copy(path, project.path)
    return project.path


def test_it_passes_with_workers(project: Project) -> None:
    ship(project)
    project.run("-n", "2").assert_outcomes(passed=47)


@pytest.mark.parametrize(
    ("right", "wrong", "failing"),
    [
        ("name in names else NO_SUCH_NAME", "True else NO_SUCH_NAME", ["test_a_name_that_nobody_knows"]),
        ("server.sendto(reply, client)", "pass", ["test_the_server_answers", "test_the_office"]),
    ],
)
def test_a_broken_server_fails_them(project: Project, right: str, wrong: str, failing: list[str]) -> None:
    program = ship(project) / "names.py"
    text = program.read_text()
    assert right in text
    program.write_text(text.replace(right, wrong))
    tests = project.path / "test_names.py"
    tests.write_text(tests.read_text().replace("timeout=5", "timeout=0.3"))
    done = project.run("-k", " or ".join(failing))
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert done.parseoutcomes().get("failed", 0) == len(failing)
