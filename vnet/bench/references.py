"""References of pipes and queues from Python: what a program has without vnet."""

from __future__ import annotations

import os
import socket
import time
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

__all__ = [
    "answer_bytes",
    "bytes_trips",
    "receive_bytes",
    "receive_connection",
    "send_bytes",
    "send_connection",
]


def send_bytes(sock: socket.socket, piece: bytes, count: int) -> None:
    """Writes ``count`` pieces to a stream socket."""
    sendall = sock.sendall
    for _ in repeat(None, count):
        sendall(piece)


def receive_bytes(sock: Any, size: int, count: int) -> float:
    """Reads ``count`` times ``size`` bytes, into one buffer.  Returns bytes a second.

    Arguments:
        sock: what has ``recv_into`` (a socket) or ``readinto`` (a pipe).
    """
    into, buffer, left = getattr(sock, "recv_into", None) or sock.readinto, bytearray(size), size * count
    start = time.perf_counter()
    while left > 0:
        if not (taken := into(buffer)):
            raise RuntimeError(f"the stream ended {left} bytes early")
        left -= taken
    return size * count / (time.perf_counter() - start)


def bytes_trips(put: Any, into: Any, size: int, count: int) -> float:
    """Writes a message and reads the answer, ``count`` times.  Returns seconds a round trip."""
    message, buffer = bytes(size), bytearray(size)
    start = time.perf_counter()
    for _ in repeat(None, count):
        put(message)
        if into(buffer) != size:
            raise RuntimeError("the answer was cut")
    return (time.perf_counter() - start) / count


def answer_bytes(put: Any, into: Any, size: int, count: int) -> None:
    """Reads a message and writes it back, ``count`` times."""
    message, buffer = bytes(size), bytearray(size)
    for _ in repeat(None, count):
        if into(buffer) != size:
            raise RuntimeError("the message was cut")
        put(message)


def send_connection(sock: socket.socket, item: bytes, count: int) -> None:
    """Sends objects as ``multiprocessing`` does between processes, of which its queues are made."""
    with Connection(os.dup(sock.fileno())) as connection:
        for _ in repeat(None, count):
            connection.send(item)


def receive_connection(sock: socket.socket, count: int) -> float:
    """Receives them.  Returns objects a second."""
    with Connection(os.dup(sock.fileno())) as connection:
        start = time.perf_counter()
        for _ in repeat(None, count):
            connection.recv()
        return count / (time.perf_counter() - start)
