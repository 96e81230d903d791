"""TCP streams: between the stacks of the two processes, and over the kernel's loopback beside them."""

from __future__ import annotations

import socket
import time
from typing import Any, Protocol

from .. import _native
from ..nic import Nic

__all__ = ["MTUS", "network", "receive_tcp", "send_tcp"]

# Those of the cases, in bytes of IP. Each has a network of its own, so that both stacks have that MTU.
MTUS = (65_535, 1500)

# Bytes that the program hands to its socket in one call, and asks for.
_PIECE = 1 << 18


class _Side(Protocol):
    arena: _native.Arena
    streams: dict[int, Nic]
    stream_port: int


def network(mtu: int) -> tuple[str, str, tuple[str, str]]:
    """The network of an MTU: its name, its prefix, and the two processes' addresses."""
    number = MTUS.index(mtu) + 1
    return f"tcp-{mtu}", f"10.0.{number}.0/24", (f"10.0.{number}.1", f"10.0.{number}.2")


def send_tcp(side: _Side, mtu: int | None, count: int) -> None:
    """Sends ``count`` bytes to the other process; ``mtu`` None: over the kernel's loopback."""
    if mtu is None:
        side.arena.gate()
        with socket.create_connection(("127.0.0.1", side.stream_port)) as sock:
            _send(sock, count)
        return
    with side.streams[mtu].stack() as stack:
        side.arena.gate()
        ours = stack.create_connection((network(mtu)[2][0], side.stream_port))
        _send(ours, count)
        ours.close()


def receive_tcp(side: _Side, mtu: int | None, count: int) -> float:
    """Receives them.  Returns bits a second."""
    if mtu is None:
        with socket.create_server(("127.0.0.1", side.stream_port)) as server:
            side.arena.gate()
            sock, _ = server.accept()
            with sock:
                return _receive(sock, count)
    with side.streams[mtu].stack() as stack:
        listener = stack.listen(side.stream_port)
        side.arena.gate()
        ours, _ = listener.accept()
        rate = _receive(ours, count)
        ours.close()
        listener.close()
        return rate


def _send(sock: Any, count: int) -> None:
    piece = bytes(_PIECE)
    for _ in range(count // _PIECE):
        sock.sendall(piece)


def _receive(sock: Any, count: int) -> float:
    count = count // _PIECE * _PIECE
    recv = sock.recv
    # From the first bytes on: what opening a connection takes is not asked.
    left = count - len(recv(_PIECE))
    measured, start = left, time.perf_counter()
    while left > 0:
        piece = recv(_PIECE)
        if not piece:
            raise RuntimeError(f"the stream ended {left} bytes early")
        left -= len(piece)
    return measured * 8 / (time.perf_counter() - start)
