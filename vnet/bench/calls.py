"""The halves of calls, and of gRPC beside them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Protocol

from ..rpc.wire import Limits
from ..sharing.region import Region
from . import grpc_calls
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]

_SERVICE = "bench-calls"

# Calls before those that count: the first one with a region has the service attach it.
_WARM = 100

# Bytes of a message: more than by default, so that what a region saves can be seen beside a copy.
_LONGEST = 2 << 20


class Bench(Protocol):
    """What is called."""

    def echo(self, data: bytes) -> bytes:
        """Returns what it gets."""

    def nothing(self) -> int:
        """Takes nothing."""

    def look(self, memory: Region) -> int:
        """Takes a region, and looks at both ends of its memory."""

    def measure(self, data: bytes) -> int:
        """Takes bytes."""


class _Implementation:
    def echo(self, data: bytes) -> bytes:
        return data

    def nothing(self) -> int:
        return 0

    def look(self, memory: Region) -> int:
        with memoryview(memory) as view:
            return int(view[0] + view[-1])

    def measure(self, data: bytes) -> int:
        return len(data)


def _serve(shared: Shared, size: int, count: int) -> None:
    served: Bench = _Implementation()
    with shared.guest.serve_calls(_SERVICE, served, Bench, limits=Limits(message=_LONGEST)):
        shared.tell()
        # Asleep: this thread would take the processor from the service's.
        shared.hear()


@contextlib.contextmanager
def _caller(shared: Shared) -> Iterator[Bench]:
    shared.hear()
    try:
        with shared.guest.caller(shared.peer, _SERVICE, Bench, limits=Limits(message=_LONGEST)) as caller:
            yield caller
    finally:
        shared.tell()


def _measure(call: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> float:
    for _ in repeat(None, _WARM):
        call(*arguments)
    start = time.perf_counter()
    for _ in repeat(None, count):
        call(*arguments)
    return (time.perf_counter() - start) / count


def _call(shared: Shared, size: int, count: int) -> float:
    with _caller(shared) as bench:
        return _measure(bench.echo, (bytes(size),), count)


def _call_nothing(shared: Shared, size: int, count: int) -> float:
    with _caller(shared) as bench:
        return _measure(bench.nothing, (), count)


def _call_region(shared: Shared, size: int, count: int) -> float:
    with shared.guest.create_region(size) as region, _caller(shared) as bench:
        return _measure(bench.look, (region,), count)


def _call_new_region(shared: Shared, size: int, count: int) -> float:
    count = min(count, 200)
    took = 0.0
    with _caller(shared) as bench:
        for _ in repeat(None, count):
            with shared.guest.create_region(size) as region:
                start = time.perf_counter()
                bench.look(region)
                took += time.perf_counter() - start
    return took / count


def _call_copied(shared: Shared, size: int, count: int) -> float:
    with _caller(shared) as bench:
        return _measure(bench.measure, (bytes(size),), min(count, 500))


def _serve_grpc(shared: Shared, size: int, count: int) -> None:
    grpc_calls.serve(shared)


def _call_grpc(shared: Shared, size: int, count: int) -> float:
    return grpc_calls.ask(shared, size, count)


SEND: dict[str, Send] = {
    "call": _serve,
    "call_nothing": _serve,
    "call_region": _serve,
    "call_new_region": _serve,
    "call_copied": _serve,
    "grpc": _serve_grpc,
}

RECEIVE: dict[str, Receive] = {
    "call": _call,
    "call_nothing": _call_nothing,
    "call_region": _call_region,
    "call_new_region": _call_new_region,
    "call_copied": _call_copied,
    "grpc": _call_grpc,
}
