"""gRPC over a Unix socket, beside which calls are measured: bytes as they are, without a schema or its compiler."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from .. import _native

__all__ = ["ask_grpc", "serve_grpc"]

# Calls before those that count: the first ones connect, and start threads.
_WARM = 100


def serve_grpc(arena: _native.Arena, sock: socket.socket, name: str) -> None:
    """Serves ``/bench/echo`` on a Unix socket until the other process says on ``sock`` that it is done.

    Arguments:
        name: that of the socket, which has none in a file system, so that nothing is left there.
    """
    import grpc

    def echo(request: bytes, context: Any) -> bytes:
        return request

    handler = grpc.unary_unary_rpc_method_handler(echo)
    service = grpc.method_handlers_generic_handler("bench", {"echo": handler})
    # One thread, as there is one caller: more of them are no faster.
    server = grpc.server(ThreadPoolExecutor(1), handlers=(service,))
    server.add_insecure_port(f"unix-abstract:{name}")
    server.start()
    try:
        arena.gate()
        # Asleep: this thread would take the processor from the server's.
        sock.recv(1)
    finally:
        server.stop(0).wait()


def ask_grpc(arena: _native.Arena, sock: socket.socket, name: str, size: int, count: int) -> float:
    """Calls it ``count`` times with ``size`` bytes.  Returns seconds a call."""
    import grpc

    arena.gate()
    try:
        with grpc.insecure_channel(f"unix-abstract:{name}") as channel:
            call, request = channel.unary_unary("/bench/echo"), bytes(size)
            for _ in repeat(None, _WARM):
                call(request)
            start = time.perf_counter()
            for _ in repeat(None, count):
                call(request)
            took = time.perf_counter() - start
    except grpc.RpcError as error:
        raise RuntimeError(f"gRPC: {error}") from None
    finally:
        sock.send(b".")
    return took / count
