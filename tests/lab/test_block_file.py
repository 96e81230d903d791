"""The file of blocks of the lab resource-host: wherever a write is cut off, a block is its old self or its new one."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[2] / "topologies" / "programs"


@pytest.fixture
def block_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    import block_file

    yield block_file
    sys.modules.pop("block_file")


def content(number: int) -> bytes:
    return bytes([number % 251 + 1]) * 4096


def test_what_was_written_is_there_again(block_file: Any, tmp_path: Path) -> None:
    draw, plain = random.Random(7), {}
    for turn in range(20):
        file = block_file.BlockFile(tmp_path / "disk", 8)
        assert [file.read(block) for block in range(8)] == [plain.get(block, bytes(4096)) for block in range(8)]
        written = {block: content(turn * 8 + block) for block in draw.sample(range(8), 3)}
        file.write(written)
        plain |= written
        file.close()


def test_a_write_that_is_cut_off_anywhere_leaves_the_old_or_the_new(
    block_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = block_file.BlockFile(tmp_path / "disk", 4)
    for turn in (1, 2, 3):
        file.write({block: content(10 * turn + block) for block in range(4)})
    file.close()
    whole = os.pwrite
    # The power fails after so many bytes of what is written; a part of the last sector is garbage.
    for left in (0, 1, 7, 23, 24, 600, 4096, 4097, 5000, 8191, 8192, 8193, 12_000):
        (tmp_path / "copy").write_bytes((tmp_path / "disk").read_bytes())
        file = block_file.BlockFile(tmp_path / "copy", 4)
        room = left

        def torn(fd: int, data: bytes, at: int) -> int:
            nonlocal room
            kept, room = min(room, len(data)), room - len(data)
            if kept < len(data):
                whole(fd, data[:kept] + b"\xff" * min(100, len(data) - kept), at)
                raise OSError("the power failed")
            return whole(fd, data, at)

        monkeypatch.setattr(block_file.os, "pwrite", torn)
        with pytest.raises(OSError, match="power"):
            file.write({block: content(90 + block) for block in range(4)})
        monkeypatch.setattr(block_file.os, "pwrite", whole)
        file.close()
        file = block_file.BlockFile(tmp_path / "copy", 4)
        # None of it was acknowledged, so each may be either; and no block is lost.
        assert all(file.read(block) in (content(30 + block), content(90 + block)) for block in range(4)), left
        file.write({0: b"n" * 4096})
        assert file.read(0) == b"n" * 4096
        file.close()


def test_damage_is_never_read_as_content(block_file: Any, tmp_path: Path) -> None:
    file = block_file.BlockFile(tmp_path / "disk", 1)
    file.write({0: content(1)})
    file.write({0: content(2)})
    file.close()
    whole = bytearray((tmp_path / "disk").read_bytes())
    draw = random.Random(7)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (tmp_path / "damaged").write_bytes(damaged)
        file = block_file.BlockFile(tmp_path / "damaged", 1)
        assert file.read(0) in (content(1), content(2))
        file.close()


def test_one_server_has_the_file(block_file: Any, tmp_path: Path) -> None:
    file = block_file.BlockFile(tmp_path / "disk", 1)
    with pytest.raises(BlockingIOError):
        block_file.BlockFile(tmp_path / "disk", 1)
    file.close()
    block_file.BlockFile(tmp_path / "disk", 1).close()
