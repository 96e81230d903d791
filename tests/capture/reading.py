"""Captures read back by tshark, which we did not write."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark")

FIELDS = (
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.comment",
    "frame.len",
    "frame.cap_len",
    "ip.src",
    "ip.dst",
    "udp.dstport",
)


def packets(path: Path) -> list[dict[str, Any]]:
    """The packets of a capture; tshark says nothing against the file."""
    command = ["tshark", "-r", str(path), "-T", "json", *(word for field in FIELDS for word in ("-e", field))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cut short" not in ended.stderr
    layers = [packet["_source"]["layers"] for packet in json.loads(ended.stdout)]
    return [{field: layer.get(field, [None])[0] for field in FIELDS} for layer in layers]


def seen(path: Path) -> list[tuple[str, str]]:
    """Interface and direction of each packet."""
    ways = {1: "in", 2: "out"}
    return [
        (packet["frame.interface_name"], ways[int(packet["frame.packet_flags_direction"], 0)])
        for packet in packets(path)
    ]
