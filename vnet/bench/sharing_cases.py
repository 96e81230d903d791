"""The rows of what guests share beside the LAN: pipes, work queues, calls and regions."""

from __future__ import annotations

from .case import Case

__all__ = ["SHARING"]

SHARING = (
    Case(
        "pipe_64KiB", "pipe, writes of 64 KiB", "B/s", "pipe", "bytes", "Unix stream socket",
        {}, 65_536, 32_000, 8_000, 2.0,
    ),
    Case(
        "pipe_64KiB_ring", "the same", "B/s", "pipe", "copies", "bare copying ring",
        {}, 65_536, 32_000, 32_000, 0.7,
    ),
    Case(
        "pipe_64KiB_python", "the same from Python", "B/s", "python_pipe", "python_bytes", "Unix stream socket",
        {}, 65_536, 32_000, 8_000, 2.0,
    ),
    Case(
        "pipe_roundtrip", "pipe, 64 B there and back", "s", "pipe_trip", "bytes_trip", "Unix stream socket",
        {"cache line": "line", "futex": "futex"}, 64, 50_000, 3_000, 0.5, lower=True,
    ),
    Case(
        "pipe_roundtrip_python", "the same from Python", "s", "python_pipe_trip", "python_bytes_trip",
        "Unix stream socket", {}, 64, 20_000, 3_000, 0.5, lower=True,
    ),
    Case(
        "queue_posts", "Python, post_many to a busy dispatcher", "posts/s", "queue_posts", "python_unix",
        "Unix datagram socket",
        {"multiprocessing connection": "python_connection", "one item a call": "queue_posts_items"},
        64, 2_000_000, 100_000, 1e7,
        on="value", limits={"interrupts": 0.01},
    ),
    Case(
        "queue_wake", "post to an idle dispatcher and back", "s", "queue_wake", "futex", "futex",
        {"Unix datagram socket": "unix_trip"}, 64, 3_000, 3_000, 1.3, lower=True,
    ),
    Case(
        "call_100B", "call with 100 B, Python", "s", "call", "grpc", "gRPC over a Unix socket",
        {}, 100, 5_000, 1_000, 1 / 3, lower=True,
        needs=("grpc", "grpcio is not installed; pip install 'vnet[bench]' provides it"),
    ),
    Case(
        "call_region", "call with a region of 1 MiB", "s", "call_region", "call_nothing", "no argument",
        {"a new region each time": "call_new_region", "1 MiB as bytes": "call_copied"}, 1 << 20, 5_000, 5_000, 20e-6,
        lower=True, on="difference",
    ),
    Case(
        "region_1GiB", "create 1 GiB and attach in the peer", "s", "region", "memory_file", "bare memory file",
        {}, 1 << 30, 1, 1, 5e-3, lower=True, on="value", limits={"resident": 1.02},
    ),
)  # fmt: skip
