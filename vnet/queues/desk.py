"""A guest's desk in its own process: where one thread at a time takes items off the guest's queues."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .. import _native
from ..errors import LanClosed, QueueClosed, VnetError

if TYPE_CHECKING:
    from ..sharing.guest import Sharing
    from .queue import WorkQueue

__all__ = ["Desk", "check"]


class Desk:
    """What the queues of one guest have in common in the process that works on them.

    Arguments:
        name: the guest's.
        native: the desk's memory.
        port: the guest's NIC, if it has one here.

    Attributes:
        leaving: called with a queue that is closed.
        resting: called when nobody works at the desk any more.
    """

    def __init__(self, name: str, native: _native.WorkDesk, port: _native.Port | None) -> None:
        self.name = name
        self.native = native
        self.port = port
        self.leaving: list[Callable[[WorkQueue], None]] = []
        self.resting: list[Callable[[], None]] = []
        self._working = threading.Lock()
        self._worker = ""
        # Takers of queues that are taken from one by one, each with the queue's number there.
        self._alone: weakref.WeakKeyDictionary[WorkQueue, _native.Taker] = weakref.WeakKeyDictionary()
        # Those whose handlers a dispatcher calls.
        self.served: weakref.WeakSet[WorkQueue] = weakref.WeakSet()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Only one thread at a time waits at a desk: it has one bell.

        Raises:
            VnetError: another does.
        """
        if not self._working.acquire(blocking=False):
            raise VnetError(
                f"thread {self._worker!r} works on the queues of {self.name} already: give them all to one dispatcher"
            )
        try:
            self._worker = threading.current_thread().name
            yield
        finally:
            for rest in self.resting:
                rest()
            self._working.release()

    def take_one(self, queue: WorkQueue, timeout: float | None) -> bytes | None:
        """The next item of one queue; ``None``: none came in time."""
        if queue in self.served:
            raise ValueError(f"{queue!r} is served by the dispatcher: its handler gets the items")
        with self.working():
            taker = self._alone.get(queue)
            if taker is None:
                taker = self._alone[queue] = _native.Taker(self.native, self.port)
                taker.serve(queue, 1, False)
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                taken = taker.take()
                if taken is not None and taken[2]:
                    item = taken[3]
                    assert isinstance(item, bytes)
                    return item
                if queue.ended is not None:
                    check(queue._guest, taker)
                    raise QueueClosed(f"{queue!r} has ended: {queue.ended}")
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not taker.wait(left):
                    check(queue._guest, taker)
                    if left == 0.0:
                        return None

    def leave(self, queue: WorkQueue) -> None:
        """The queue is closed: nobody waits for its items any more."""
        self._alone.pop(queue, None)
        for callback in self.leaving:
            callback(queue)
        self.native.force()


def check(guest: Sharing, taker: _native.Taker) -> None:
    """Raises what ends a guest's work, if something does: it is off the LAN, or the LAN has ended."""
    guest._door()
    if taker.orphan:
        raise LanClosed("the base of this LAN has ended")
