"""The halves of work queues, and of what stands beside them."""

from __future__ import annotations

from . import references
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]


def _connection_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.gate()
    references.send_connection(shared.stream, bytes(size), count)


def _connection_in(shared: Shared, size: int, count: int) -> float:
    shared.arena.gate()
    return references.receive_connection(shared.stream, count)


SEND: dict[str, Send] = {"python_connection": _connection_out}

RECEIVE: dict[str, Receive] = {"python_connection": _connection_in}
