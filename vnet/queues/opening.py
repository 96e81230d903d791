"""How guests come by queues, and by their dispatcher."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import MachineLacks
from ..wire import close_all
from .desk import Desk
from .dispatcher import Dispatcher
from .queue import MemberQueue, WorkQueue

if TYPE_CHECKING:
    from ..sharing.doors import Door
    from ..sharing.guest import Sharing

__all__ = ["create_queue", "dispatcher", "open_queue"]

# Two threads that make a guest's first queue at one time.
_making = threading.Lock()


def create_queue(
    guest: Sharing,
    name: str | None = None,
    *,
    capacity: int = 1024,
    item_size: int = 248,
    priorities: int = 1,
    guests: Sequence[str] | None = None,
) -> WorkQueue:
    """Makes a queue; as ``guest.create_queue()`` says it."""
    for what, number in (("capacity", capacity), ("item_size", item_size), ("priorities", priorities)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{what} is a whole number, not {type(number).__name__}")
        if number < 0:
            raise ValueError(f"{what} is at least 1, not {number}")
    if guests is not None and (isinstance(guests, str) or not all(isinstance(each, str) for each in guests)):
        raise TypeError(f"guests is a list of guests' names, such as ['alice', 'bob'], not {guests!r}")
    if name is not None:
        _check_text("a queue's name", name)
    desk, door = _desk(guest), guest._door()
    answer, files = door.ask(
        "queue.create",
        name=name,
        capacity=capacity,
        item_size=item_size,
        priorities=priorities,
        guests=None if guests is None else list(guests),
    )
    return _end(guest, door, answer, files, desk)


def open_queue(guest: Sharing, queue: str | WorkQueue) -> WorkQueue:
    """Opens a queue; as ``guest.open_queue()`` says it."""
    wanted = queue.handle if isinstance(queue, WorkQueue) else queue
    _check_text("a queue's handle or name", wanted)
    door = guest._door()
    # None is so long, and a request has an end.
    answer, files = door.ask("queue.open", queue=wanted[:256])
    return _end(guest, door, answer, files, None)


def dispatcher(guest: Sharing) -> Dispatcher:
    """The guest's dispatcher; as ``guest.dispatcher()`` says it."""
    desk = _desk(guest)
    with _making:
        if guest._dispatcher is None:
            guest._dispatcher = Dispatcher(guest, desk)
        return guest._dispatcher


def _check_text(what: str, said: str) -> None:
    if not isinstance(said, str):
        raise TypeError(f"{what} is a string, not {type(said).__name__}")


def _desk(guest: Sharing) -> Desk:
    door = guest._door()
    with _making:
        if guest._work_desk is None:
            _, files = door.ask("queue.desk")
            try:
                guest._work_desk = Desk(guest.name, _mapped(_native.WorkDesk, *files), _port(guest))
            finally:
                close_all(files)
        return guest._work_desk


def _port(guest: Sharing) -> _native.Port | None:
    return guest if isinstance(guest, _native.Port) else None


def _end(guest: Sharing, door: Door, answer: dict[str, Any], files: list[int], desk: Desk | None) -> WorkQueue:
    name, owner = answer["name"], answer["owner"]
    title = f"the queue {name!r} of {owner}" if name is not None else f"the queue of {owner}"
    shape = answer["capacity"], answer["item_size"], answer["priorities"]
    try:
        memory, *rest = files
        native = desk.native if desk is not None else _mapped(_native.WorkDesk, *rest)
        port = _port(guest)
        kind = WorkQueue if port is not None else MemberQueue
        queue: WorkQueue = _mapped(kind, title, memory, native, *shape, answer["token"], port)
        queue._file = os.dup(memory) if desk is not None else None
    except BaseException:
        door.tell("queue.leave", token=answer["token"])
        raise
    finally:
        close_all(files)
    queue.capacity, queue.item_size, queue.priorities = shape
    queue.handle, queue.name, queue.owner = answer["handle"], name, owner
    queue._title, queue._token = title, answer["token"]
    queue._guest, queue._way, queue._desk, queue._memory = guest, door, desk, None
    queue._closing = threading.Lock()
    # Last: it is whole.
    queue._pid = os.getpid()
    return queue


def _mapped(kind: Any, *arguments: Any) -> Any:
    try:
        return kind(*arguments)
    except OSError as error:
        raise MachineLacks(
            f"a queue cannot be mapped here ({error.strerror or error}): raise `ulimit -v` or `ulimit -n`"
        ) from None
