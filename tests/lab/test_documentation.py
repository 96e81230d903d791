"""The lab reference tells what is so: its example runs, and its tables name every key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from reading import ReadLab

from vnet.lab import schema
from vnet.lab.runner import Options, run_lab
from vnet.lab.units import DURATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "labs.md").read_text(encoding="utf-8")
TOOL = Path(__file__).parents[2] / "tools" / "lab_reference.py"


def test_the_example_of_the_reference_runs(read: ReadLab, real_lan: Any) -> None:
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    report = run_lab(read(example), Options())
    assert report.passed, report.as_json()


def test_the_tables_of_the_reference_are_those_of_the_models() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_reference_has_a_table_for_every_mapping_of_the_language() -> None:
    # Steps and defaults are told in words; ReplayExpect has one key more than InjectExpect, HostsFile those of a node.
    told = {"ReplayExpect", "AnyExpect", "NodeDefaults", "StepFile", "HostsFile"}
    models = [
        model
        for model in vars(schema).values()
        if isinstance(model, type) and issubclass(model, schema.Said) and not issubclass(model, schema.StepFile)
    ]
    assert len(models) > 20
    for model in models:
        assert model is schema.Said or model.__name__ in told or f"<!-- keys {model.__name__} -->" in PAGE, model


def test_the_reference_names_every_kind_of_step_and_unit_of_time() -> None:
    for kind in schema.STEP_KINDS:
        assert f"### {kind}\n" in PAGE
    assert all(f"`{unit}`" in PAGE for unit in DURATIONS if unit.isascii())
