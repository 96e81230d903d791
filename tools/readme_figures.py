#!/usr/bin/env python3
"""Puts the figures of a benchmark into the README: ``.venv/bin/vnet bench --json | tools/readme_figures.py``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
LABELS = {
    "stream_64B": "64-byte datagrams, batches of 32",
    "stream_1500B": "1,500-byte datagrams, batches of 32",
    "stream_64B_routed": "64-byte datagrams, across 8 routers",
    "roundtrip_spin": "round trip, both sides spinning",
    "roundtrip_sleep": "round trip, both sides asleep",
    "python_single": "from Python, one call for each datagram",
    "python_many": "from Python, `send_many` and `recv_many`",
    "tcp_65535": "TCP between two stacks, MTU of 65,535",
    "tcp_1500": "TCP between two stacks, MTU of 1,500",
    "stream_64B_captured": "64-byte datagrams, all captured",
    "stream_1500B_captured": "1,500-byte datagrams, all captured",
    "pipe_64KiB": "pipe, writes of 64 KiB",
    "pipe_64KiB_ring": "the same, beside a ring that only copies",
    "pipe_64KiB_python": "the same from Python",
    "pipe_roundtrip": "pipe, 64 bytes there and back",
    "pipe_roundtrip_python": "the same from Python",
    "queue_posts": "work queue, `post_many` to a busy dispatcher",
    "queue_wake": "work queue, an idle dispatcher and back",
    "call_100B": "call with 100 bytes",
    "call_region": "call with a region of 1 MiB",
    "region_1GiB": "region of 1 GiB, made and attached",
}
# Of these rows the README has room for; docs/figures.md tells of all.
IN_README = (
    "stream_64B", "stream_64B_routed", "roundtrip_spin", "roundtrip_sleep", "python_many", "tcp_65535",
    "pipe_64KiB", "pipe_roundtrip", "call_100B",
)  # fmt: skip
SOCKETS = ("Unix datagram socket", "UDP on loopback")


def quantity(value: float, unit: str) -> str:
    """Three digits, in the unit that people read."""
    if unit in ("bit/s", "B/s"):
        return f"{value * 1e-9:.3g} G{unit}"
    scale, name = (1e-6, "M/s") if unit.endswith("/s") else (1e6, "µs") if value < 1e-3 else (1e3, "ms")
    return f"{value * scale:.3g} {name}"


def row(result: dict[str, object]) -> str:
    """A line of the table."""
    unit, beside = result["unit"], result.get("beside", {})
    if result["reference_value"] is None:
        sys.exit(f"{result['name']} has no reference: {result['missing']}")
    more = result.get("difference")
    cells = [
        LABELS[result["name"]],
        quantity(result["value"], unit),
        f"{result['reference']}: {quantity(result['reference_value'], unit)}",
        f"{result['ratio']:.2f}" if more is None else f"{quantity(more, unit)} more",
        *(quantity(beside[name], unit) if name in beside else "" for name in SOCKETS),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    results = json.load(sys.stdin)["results"]
    table = [
        f"| | vnet | bare reference | ratio | {' | '.join(SOCKETS)} |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row(result) for result in results if result["name"] in IN_README),
    ]
    text, count = re.subn(
        r"(<!-- figures: [^\n]*-->\n).*?(<!-- end of figures -->)",
        lambda found: "\n".join([found[1], *table, "", found[2]]),
        README.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"{README} has no place for the figures")
    README.write_text(text, encoding="utf-8")


main()
