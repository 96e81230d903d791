"""A work queue as guests have it: those that post to it, and the one that works on it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .._native import QueueEnd
from ..errors import ForkedNic, QueueClosed, ReceiveTimeout, VnetError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from ..sharing.doors import Door
    from ..sharing.guest import Sharing
    from .desk import Desk

__all__ = ["MemberQueue", "QueueStatistics", "WorkQueue"]


@dataclass(frozen=True)
class QueueStatistics:
    """What a queue counted, the same at every end.

    Attributes:
        posted: items that were ever posted.
        taken: items that its guest took.
        refused: items that found no room and were not waited for.
        interrupts: times that the guest was idle and was woken.
        saved: times that it was busy and was left alone; each counts one publication, of one item or of a batch.
        depth: items that wait, by priority, the least urgent first.
    """

    posted: int
    taken: int
    refused: int
    interrupts: int
    saved: int
    depth: tuple[int, ...]


class WorkQueue(QueueEnd):
    """A queue of work for one guest, of which this process holds an end.

    Made by ``create_queue()`` of the guest that works on it, and by ``open_queue()`` of those who post.  A context
    manager; :meth:`close` may be called twice.  Threads of the process may share it.  It cannot be pickled, and a
    forked child cannot use it.

    Attributes:
        handle: 32 hexadecimal digits, by which others open it.
        name: its name, or ``None``.
        owner: the name of the guest that works on it.
        capacity: how many items of each priority wait at most.
        item_size: how many bytes an item has at most.
        priorities: how many priorities there are: 0, the default, to this less 1, which is the most urgent, as of
            mq_overview(7).

    Methods of the native base, beside those below:

    ``post(item, priority=0, block=False, timeout=None)`` leaves an item, which is bytes-like, in the queue.  With
    ``block`` it waits for room, up to ``timeout`` seconds.  Raises :class:`vnet.QueueFull` where there is no room,
    :class:`vnet.QueueClosed` where the guest that worked on the queue has let go of it or died, :class:`ValueError`
    where the item is too large.

    ``post_many(items, priority=0, block=False, timeout=None)`` leaves several, in order, and returns how many were
    taken: fewer than there are where there is no room, or the time runs out, or the queue ends meanwhile.  None is left
        of items
    one of which is too large.

    Both raise :class:`vnet.LanClosed` when the base has ended, :class:`vnet.NicClosed` when this guest's NIC is off the
    LAN, :class:`vnet.ForkedNic` in a forked child.
    """

    handle: str
    name: str | None
    owner: str
    capacity: int
    item_size: int
    priorities: int
    _title: str
    _token: int
    _guest: Sharing
    _way: Door
    _desk: Desk | None
    # Of the one that works on it, for items that are read in place.
    _file: int | None
    _memory: mmap.mmap | None
    _pid: int
    _closing: threading.Lock

    @property
    def mine(self) -> bool:
        """Whether this guest works on it."""
        return self._desk is not None

    def statistics(self) -> QueueStatistics:
        """Returns what the queue counted, as it stands."""
        posted, taken, refused, publications, interrupts = self.counters()
        # Read one after the other while others count.
        depth = tuple(min(self.capacity, max(0, many - fewer)) for many, fewer in zip(posted, taken, strict=True))
        return QueueStatistics(sum(posted), sum(taken), refused, interrupts, max(0, publications - interrupts), depth)

    def get(self, timeout: float | None = None) -> bytes:
        """Takes the most urgent item, waiting for one: for a guest that has no dispatcher at work.

        Arguments:
            timeout: seconds to wait; 0 to look only, ``None`` to wait for ever.

        Raises:
            ReceiveTimeout: no item came in time.
            QueueClosed: the queue was closed here, or is damaged.
            ValueError: another guest works on the queue, or the dispatcher has it.
            VnetError: another thread takes items of this guest's queues.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        if os.getpid() != self._pid:
            raise ForkedNic("this queue was opened by the parent process; open it anew after fork()")
        if self._desk is None:
            raise ValueError(f"{self._title} is worked on by {self.owner}: others post to it")
        item = self._desk.take_one(self, timeout)
        if item is None:
            raise ReceiveTimeout(f"no item came into {self._title} in time")
        return item

    def __iter__(self) -> Iterator[bytes]:
        """Takes items for ever, as :meth:`get` does, until the queue is closed."""
        while True:
            try:
                yield self.get()
            except QueueClosed:
                return

    def close(self) -> None:
        """Lets go of the queue; where this guest works on it, ends it for all.  May be called twice."""
        if os.getpid() != self._pid:
            return
        with self._closing:
            if self._desk is not None:
                self.end("closed")
                self._desk.leave(self)
            # No thread posts any more when the broker hears of it: a lock that is held then is a dead poster's.
            if not self.shut():
                return
            self._close_file()
        with contextlib.suppress(VnetError):
            self._way.ask("queue.leave", token=self._token)

    def _view(self, at: int, length: int) -> memoryview:
        """Bytes of the queue's memory, which stays mapped as long as somebody has a view of it."""
        if self._memory is None:
            import mmap

            if self._file is None:
                raise QueueClosed(f"{self._title} was closed")
            self._memory = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        return memoryview(self._memory)[at : at + length]

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
        memory, self._memory = self._memory, None
        if memory is not None:
            # Somebody may have kept a view.
            with contextlib.suppress(BufferError):
                memory.close()

    def _stuck(self) -> None:
        """Called by the native base where the lock cannot be had: the broker knows who has died."""
        self._guest._door().ask("queue.stuck", token=self._token)

    def __del__(self) -> None:
        try:
            if os.getpid() != self._pid:
                return
            if self._desk is not None:
                self.end("closed")
            if self.shut():
                self._way.tell("queue.leave", token=self._token)
            self._close_file()
        except AttributeError:
            # It was never made whole.
            return

    def __enter__(self) -> WorkQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<WorkQueue {self.name or self.handle[:8] + '...'} of {self.owner}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a work queue cannot be pickled: it is memory of this process; pass its handle, and call open_queue() there"
        )


class MemberQueue(WorkQueue):
    """An end of a guest that has no NIC object here, by which the native base would know that it left the LAN."""

    def post(self, item: Buffer, priority: int = 0, block: bool = False, timeout: float | None = None) -> None:
        self._guest._door()
        super().post(item, priority, block, timeout)

    def post_many(
        self, items: Iterable[Buffer], priority: int = 0, block: bool = False, timeout: float | None = None
    ) -> int:
        self._guest._door()
        return super().post_many(items, priority, block, timeout)
