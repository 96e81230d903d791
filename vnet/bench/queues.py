"""The halves of work queues, and of what stands beside them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import repeat

from ..queues import Dispatcher, WorkQueue
from . import references
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]

# Items that wait at most, and that one post_many passes.
_CAPACITY = 4096
_MANY = 256

# Letters of a handle, as it is told.
_HANDLE = 32


@contextlib.contextmanager
def _own(shared: Shared, size: int) -> Iterator[tuple[WorkQueue, Dispatcher]]:
    """A queue that this process works on, with its dispatcher; the other process has its handle."""
    dispatcher: Dispatcher = shared.guest.dispatcher()
    with shared.guest.create_queue(capacity=_CAPACITY, item_size=size) as queue:
        shared.tell(queue.handle.encode())
        yield queue, dispatcher


@contextlib.contextmanager
def _others(shared: Shared) -> Iterator[WorkQueue]:
    """The queue that the other process works on."""
    with shared.guest.open_queue(shared.hear(_HANDLE).decode()) as queue:
        yield queue


def _post(shared: Shared, size: int, count: int) -> None:
    with _others(shared) as queue:
        post_many, items = queue.post_many, [bytes(size)] * _MANY
        shared.arena.gate()
        for _ in repeat(None, count // _MANY):
            post_many(items, block=True)
        # Whoever closes it ends it for both.
        shared.hear()


def _dispatch(shared: Shared, size: int, count: int, batch: bool) -> float:
    count = count // _MANY * _MANY
    with _own(shared, size) as (queue, dispatcher):
        dispatcher.on(queue, batch=batch)(lambda items: None)
        shared.arena.gate()
        start = time.perf_counter()
        dispatcher.run(limit=count)
        took = time.perf_counter() - start
        shared.shares["interrupts"] = queue.statistics().interrupts / count
        shared.tell()
    return count / took


def _dispatch_batches(shared: Shared, size: int, count: int) -> float:
    return _dispatch(shared, size, count, True)


def _dispatch_items(shared: Shared, size: int, count: int) -> float:
    return _dispatch(shared, size, count, False)


def _trips(shared: Shared, size: int, count: int, first: bool) -> float:
    with _own(shared, size) as (own, dispatcher), _others(shared) as others:
        dispatcher.on(own)(lambda item: None)
        took = shared.arena.queue_round_trips(others, dispatcher._taker, bytes(size), first, count)
        # Neither closes its own before the other has let go of it.
        shared.tell()
        shared.hear()
    return took


def _wake(shared: Shared, size: int, count: int) -> float:
    return _trips(shared, size, count, True)


def _answer_wake(shared: Shared, size: int, count: int) -> None:
    _trips(shared, size, count, False)


def _connection_out(shared: Shared, size: int, count: int) -> None:
    shared.arena.gate()
    references.send_connection(shared.stream, bytes(size), count)


def _connection_in(shared: Shared, size: int, count: int) -> float:
    shared.arena.gate()
    return references.receive_connection(shared.stream, count)


SEND: dict[str, Send] = {
    "queue_posts": _post,
    "queue_posts_items": _post,
    "queue_wake": _answer_wake,
    "python_connection": _connection_out,
}

RECEIVE: dict[str, Receive] = {
    "queue_posts": _dispatch_batches,
    "queue_posts_items": _dispatch_items,
    "queue_wake": _wake,
    "python_connection": _connection_in,
}
