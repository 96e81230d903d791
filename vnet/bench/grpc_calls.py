"""gRPC over a Unix socket, beside which calls are measured: bytes as they are, without a schema or its compiler."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from .shared import Shared

__all__ = ["ask", "serve"]

# Calls before those that count: the first ones connect, and start threads.
_WARM = 100


def _address(shared: Shared) -> str:
    # Not in a file system, so that nothing is left there.
    return f"unix-abstract:vnet-{shared.name}"


def serve(shared: Shared) -> None:
    """Serves ``/bench/echo`` until the other process says that it is done."""
    import grpc

    def echo(request: bytes, context: Any) -> bytes:
        return request

    handler = grpc.unary_unary_rpc_method_handler(echo)
    service = grpc.method_handlers_generic_handler("bench", {"echo": handler})
    # One thread, as there is one caller: more of them are no faster.
    server = grpc.server(ThreadPoolExecutor(1), handlers=(service,))
    server.add_insecure_port(_address(shared))
    server.start()
    try:
        shared.tell()
        # Asleep: this thread would take the processor from the server's.
        shared.hear()
    finally:
        server.stop(0).wait()


def ask(shared: Shared, size: int, count: int) -> float:
    """Calls it ``count`` times with ``size`` bytes.  Returns seconds a call."""
    import grpc

    shared.hear()
    try:
        with grpc.insecure_channel(_address(shared)) as channel:
            call, request = channel.unary_unary("/bench/echo"), bytes(size)
            for _ in repeat(None, _WARM):
                call(request)
            start = time.perf_counter()
            for _ in repeat(None, count):
                call(request)
            return (time.perf_counter() - start) / count
    except grpc.RpcError as error:
        raise RuntimeError(f"gRPC: {error}") from None
    finally:
        shared.tell()
