"""The halves of pipes, and of what stands beside them: a Unix stream socket, and a ring that only copies."""

from __future__ import annotations

from . import references
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]

# Bytes of the ring that only copies: those of a pipe's.
_RING = 1 << 20


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


SEND: dict[str, Send] = {
    "bytes": _bytes_out,
    "copies": _copies_out,
    "python_bytes": _python_bytes_out,
    "bytes_trip": _bytes_answer,
    "python_bytes_trip": _python_bytes_answer,
}

RECEIVE: dict[str, Receive] = {
    "bytes": _bytes_in,
    "copies": _copies_in,
    "python_bytes": _python_bytes_in,
    "bytes_trip": _bytes_ask,
    "python_bytes_trip": _python_bytes_ask,
}
