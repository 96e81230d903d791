"""The halves of what guests share beside the LAN, by name, and what they need."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from .. import _native
from ..nic import Nic
from . import references
from .grpc_calls import ask_grpc, serve_grpc

__all__ = ["RECEIVE", "SEND", "Shared"]

# Bytes of the ring of a bare stream: those of a pipe's.
_RING = 1 << 20


@dataclass
class Shared:
    """What one process needs for these halves; pipes, queues and calls are made when they are first asked for.

    Attributes:
        guest: the NIC in whose name all happens.
        peer: the name of the other process's.
        stream: a Unix stream socket to the other process.
        name: a name that no other benchmark has.
        shares: what halves tell beside their figure; see :attr:`vnet.bench.case.Result.shares`.
    """

    arena: _native.Arena
    guest: Nic
    peer: str
    stream: socket.socket
    name: str
    shares: dict[str, float] = field(default_factory=dict)


def _bytes_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.bytes_send(shared.stream.fileno(), bytes(size), count)


def _bytes_in(shared: Shared, size: int, count: int) -> float:
    return size * count / shared.arena.bytes_receive(shared.stream.fileno(), size, count)


def _copies_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.copies_send(_RING, bytes(size), count)


def _copies_in(shared: Shared, size: int, count: int) -> float:
    return size * count / shared.arena.copies_receive(_RING, size, count)


def _python_bytes_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.gate()
    references.send_bytes(shared.stream, bytes(size), count)


def _python_bytes_in(shared: Shared, size: int, count: int) -> float:
    shared.arena.gate()
    return references.receive_bytes(shared.stream, size, count)


def _bytes_answer(shared: Shared, size: int, count: int) -> None:
    shared.arena.socket_round_trips(shared.stream.fileno(), bytes(size), False, count)


def _bytes_ask(shared: Shared, size: int, count: int) -> float:
    return shared.arena.socket_round_trips(shared.stream.fileno(), bytes(size), True, count)


def _python_bytes_answer(shared: Shared, size: int, count: int) -> None:
    shared.arena.gate()
    references.answer_bytes(shared.stream.sendall, shared.stream.recv_into, size, count)


def _python_bytes_ask(shared: Shared, size: int, count: int) -> float:
    shared.arena.gate()
    return references.bytes_trips(shared.stream.sendall, shared.stream.recv_into, size, count)


def _connection_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.gate()
    references.send_connection(shared.stream, bytes(size), count)


def _connection_in(shared: Shared, size: int, count: int) -> float:
    shared.arena.gate()
    return references.receive_connection(shared.stream, count)


def _grpc_answer(shared: Shared, size: int, count: int) -> None:
    serve_grpc(shared.arena, shared.stream, shared.name)


def _grpc_ask(shared: Shared, size: int, count: int) -> float:
    return ask_grpc(shared.arena, shared.stream, shared.name, size, count)


# The peer's halves: it sends, or answers.
SEND: dict[str, Callable[[Shared, int, int], None]] = {
    "bytes": _bytes_out,
    "copies": _copies_out,
    "python_bytes": _python_bytes_out,
    "bytes_trip": _bytes_answer,
    "python_bytes_trip": _python_bytes_answer,
    "python_connection": _connection_out,
    "grpc": _grpc_answer,
}

# The measuring halves. They return what the case counts a second, or seconds a round trip.
RECEIVE: dict[str, Callable[[Shared, int, int], float]] = {
    "bytes": _bytes_in,
    "copies": _copies_in,
    "python_bytes": _python_bytes_in,
    "bytes_trip": _bytes_ask,
    "python_bytes_trip": _python_bytes_ask,
    "python_connection": _connection_in,
    "grpc": _grpc_ask,
}
