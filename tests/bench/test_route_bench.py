"""`vnet bench --routes`: every figure stands beside what it is held against, and files that are wrong are told."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vnet", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_the_figures_of_a_table_stand_beside_those_of_the_array(tmp_path: Path) -> None:
    file = tmp_path / "table.txt.gz"
    v4 = [f"{first}.{second}.0.0/{16 + second % 12}" for first in range(1, 200) for second in range(0, 256, 16)]
    file.write_bytes(gzip.compress("\n".join([*v4, "2001:db8::/32", "10.0.0.7"]).encode()))
    done = bench("--routes", str(file), "--quick", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["routes"] == len(v4) + 2
    rows = {row["name"]: row for row in told["results"]}
    # On one processor there is nobody to write beside a reader.
    assert set(rows) - {"update", "update_most", "map"} == {
        "compile",
        "bytes",
        "look_up_any4",
        "look_up_routed4",
        "look_up_routed6",
    }
    for row in rows.values():
        low, high = row["range"]
        assert 0 < low <= row["value"] <= high
    for name in ("look_up_any4", "look_up_routed4"):
        assert set(rows[name]["beside"]) == {"DIR-24-8, 32 bits", "DIR-24-8, 16 bits"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "No such file or directory"),
        (b"10.0.0.0/8\n10.0.0.1/8\n", ', line 2: "10.0.0.1/8" is no prefix'),
        (b"# nothing\n", "no prefix is in it"),
        (gzip.compress(b"10.0.0.0/8" * 99)[:-8], "damaged gzip file"),
    ],
)
def test_a_file_that_is_no_list_of_prefixes_is_told_and_ends_with_2(
    tmp_path: Path, text: bytes | None, sentence: str
) -> None:
    file = tmp_path / "table"
    if text is not None:
        file.write_bytes(text)
    done = bench("--routes", str(file))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert str(file) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_names_of_benchmarks_do_not_go_with_a_table() -> None:
    done = bench("stream_64B", "--routes", "table")
    assert done.returncode == 2
    assert "leave the names out" in done.stderr
