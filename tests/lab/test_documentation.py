"""The lab reference tells what is so: its example runs, and its tables name every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reading import ReadLab

from vnet.lab import schema
from vnet.lab.runner import Options, run_lab
from vnet.lab.units import DURATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "labs.md").read_text(encoding="utf-8")


def test_the_example_of_the_reference_runs(read: ReadLab, real_lan: Any) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    report = run_lab(read(example), Options())
    assert report.passed, report.as_json()


@pytest.mark.parametrize(
    "model",
    [
        *(schema.LabFile, schema.NodeFile, schema.PingFile, schema.PingAllFile, schema.InjectFile, schema.ReplayFile),
        *(schema.ExecFile, schema.PingAllExpect, schema.ReplayExpect, schema.ExecExpect, schema.TextExpect),
    ],
)
def test_the_reference_names_every_key(model: type[schema.Said]) -> None:
    for name, field in model.model_fields.items():
        assert re.search(rf"[`{{ ]{field.alias or name}[`,:}}]", PAGE), f"{model.__name__}: {field.alias or name}"


def test_the_reference_names_every_kind_of_step_and_unit_of_time() -> None:
    for kind in schema.STEP_KINDS:
        assert f"### {kind}\n" in PAGE
    assert all(f"`{unit}`" in PAGE for unit in DURATIONS if unit.isascii())
