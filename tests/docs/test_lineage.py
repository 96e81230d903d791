"""docs/lineage.md names code and tests; they are there."""

from __future__ import annotations

import re

import pytest
from pages import ROOT

PAGE = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| element"))
]
NAMED = sorted(set(re.findall(r"`([\w./-]+)::(\w+)`", PAGE)))

# What gives a name its meaning, in Rust and in Python.
DEFINES = r"\b(?:fn|struct|enum|trait|type|const|static|mod|def|class)\s+{}\b"


@pytest.mark.parametrize(("path", "name"), NAMED, ids=["::".join(each) for each in NAMED])
def test_what_the_page_names_is_there(path: str, name: str) -> None:
    file = ROOT / path
    assert file.is_file()
    text = file.read_text(encoding="utf-8")
    assert re.search(DEFINES.format(name), text)
    if "tests/" in path:
        assert re.search(rf"#\[test\][^{{}}]*?\bfn {name}\b|\n(?:async )?def {name}\b", text), "it is no test"


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_element_has_code_and_a_test(row: tuple[str, ...]) -> None:
    _, code, test = row
    assert all("tests/" not in path for path in re.findall(r"`([^`]+)::", code))
    assert all("tests/" in path for path in re.findall(r"`([^`]+)::", test))
    assert "::" in code
    assert "::" in test


def test_the_page_has_all_five_designs() -> None:
    assert re.findall(r"^## US ([\d,/]+):", PAGE, re.MULTILINE) == [
        "7,111,303",
        "7,181,744",
        "2016/0314076",
        "8,255,922",
        "7,941,800",
    ]
