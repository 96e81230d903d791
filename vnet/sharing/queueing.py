"""Work queues, as guests make, open and serve them; :mod:`vnet.queues` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

__all__ = ["Queueing"]

if TYPE_CHECKING:
    from ..queues import Dispatcher, WorkQueue
    from ..queues.desk import Desk
    from .guest import Sharing


class Queueing:
    """Work that guests leave for one another."""

    _work_desk: Desk | None = None
    _dispatcher: Dispatcher | None = None

    def create_queue(
        self,
        name: str | None = None,
        *,
        capacity: int = 1024,
        item_size: int = 248,
        priorities: int = 1,
        guests: Sequence[str] | None = None,
    ) -> WorkQueue:
        """Makes a work queue that this guest works on.

        It ends when it is closed, and when this guest leaves the LAN or dies: whoever posts learns of it at once.

        Arguments:
            name: unique on the LAN; by which those whom ``guests`` names open it.
            capacity: how many items of each priority wait at most, up to 2**24.
            item_size: how many bytes an item has at most, up to 16 MiB.  What is larger goes into a region, and its
                handle into the queue.
            priorities: how many priorities there are, up to 8: 0, the default, is the least urgent.
            guests: the names of those who may post; ``None`` for whoever has the handle.

        Returns:
            The queue; a context manager.

        Raises:
            ValueError: a size is out of bounds, or a name has another form.
            MachineLacks: full, it would be more than the machine's memory; or no descriptor is left.
            NameTaken: a queue of the LAN has the name.
            LanFull: this guest, or the LAN, has so many queues that there are no more.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        from .. import queues

        return queues.create_queue(
            cast("Sharing", self), name, capacity=capacity, item_size=item_size, priorities=priorities, guests=guests
        )

    def open_queue(self, queue: str | WorkQueue) -> WorkQueue:
        """Opens a queue that another guest works on, to post to it.

        Arguments:
            queue: its handle, which who made it passes on as he likes; or its name, for those whom it is for by name.

        Raises:
            RegionNotFound: no queue has that handle or name: it is wrong, or the guest that worked on it is gone.
            NotPermitted: the queue is for others.
            MachineLacks: there is no address space, or no descriptor.
            LanClosed, NicClosed, ForkedNic: this guest is off the LAN.
        """
        from .. import queues

        return queues.open_queue(cast("Sharing", self), queue)

    def dispatcher(self) -> Dispatcher:
        """Returns what takes items off this guest's queues and calls handlers; the same each time.

        Raises:
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        from .. import queues

        return queues.dispatcher(cast("Sharing", self))
