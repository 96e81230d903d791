"""The halves of pipes, and of what stands beside them: a Unix stream socket, and a ring that only copies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import repeat

from ..pipes.pipe import Pipe
from ..pipes.sizes import SIZE
from . import references
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]

# Bytes of the ring that only copies: those of a pipe's.
_RING = SIZE

_SERVICE = "bench"


@contextlib.contextmanager
def _pipe(shared: Shared, first: bool) -> Iterator[Pipe]:
    """A pipe between the two processes; ``first`` listens for it."""
    if first:
        with shared.guest.listen(_SERVICE) as listener:
            shared.tell()
            pipe = listener.accept()
    else:
        shared.hear()
        pipe = shared.guest.connect(shared.peer, _SERVICE)
    with pipe:
        yield pipe


def _pipe_out(shared: Shared, size: int, count: int) -> None:
    with _pipe(shared, False) as pipe:
        shared.arena.pipe_send(pipe._end, bytes(size), count)


def _pipe_in(shared: Shared, size: int, count: int) -> float:
    with _pipe(shared, True) as pipe:
        return size * count / shared.arena.pipe_receive(pipe._end, size, count)


def _pipe_answer(shared: Shared, size: int, count: int) -> None:
    with _pipe(shared, False) as pipe:
        shared.arena.pipe_round_trips(pipe._end, bytes(size), False, count)


def _pipe_ask(shared: Shared, size: int, count: int) -> float:
    with _pipe(shared, True) as pipe:
        return shared.arena.pipe_round_trips(pipe._end, bytes(size), True, count)


def _python_pipe_out(shared: Shared, size: int, count: int) -> None:
    with _pipe(shared, False) as pipe:
        write, piece = pipe.write, bytes(size)
        shared.arena.gate()
        for _ in repeat(None, count):
            write(piece)


def _python_pipe_in(shared: Shared, size: int, count: int) -> float:
    with _pipe(shared, True) as pipe:
        shared.arena.gate()
        return references.receive_bytes(pipe, size, count)


def _python_pipe_answer(shared: Shared, size: int, count: int) -> None:
    with _pipe(shared, False) as pipe:
        shared.arena.gate()
        references.answer_bytes(pipe.write, pipe.readinto, size, count)


def _python_pipe_ask(shared: Shared, size: int, count: int) -> float:
    with _pipe(shared, True) as pipe:
        shared.arena.gate()
        return references.bytes_trips(pipe.write, pipe.readinto, size, count)


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
    "pipe": _pipe_out,
    "pipe_trip": _pipe_answer,
    "python_pipe": _python_pipe_out,
    "python_pipe_trip": _python_pipe_answer,
    "bytes": _bytes_out,
    "copies": _copies_out,
    "python_bytes": _python_bytes_out,
    "bytes_trip": _bytes_answer,
    "python_bytes_trip": _python_bytes_answer,
}

RECEIVE: dict[str, Receive] = {
    "pipe": _pipe_in,
    "pipe_trip": _pipe_ask,
    "python_pipe": _python_pipe_in,
    "python_pipe_trip": _python_pipe_ask,
    "bytes": _bytes_in,
    "copies": _copies_in,
    "python_bytes": _python_bytes_in,
    "bytes_trip": _bytes_ask,
    "python_bytes_trip": _python_bytes_ask,
}
