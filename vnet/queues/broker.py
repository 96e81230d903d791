"""The broker's records of work queues: what there is, who works on it and who posts to it.

=================  ========================================================  ==========================================
request            arguments                                                 answer
=================  ========================================================  ==========================================
``queue.desk``                                                               descriptors of desk, bell and life
``queue.create``   ``capacity``, ``item_size``, ``priorities``; perhaps      what an end needs to know, its token;
                   ``name``, ``guests`` or null                              descriptors of queue, desk, bell and life
``queue.open``     ``queue``: its handle or name                             as of create
``queue.leave``    ``token``                                                 nothing
``queue.stuck``    ``token``                                                 whether the queue's lock can be had again
``queue.list``                                                               all queues, without their handles
=================  ========================================================  ==========================================

The broker maps every queue, to end it when its worker has gone and to unlock it when a poster died in the middle of
posting.  No item passes through it.  ``token`` names one end as an owner of locks, and is never given out twice.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import LanFull, MachineLacks, NameTaken, NotPermitted, ProtocolError, RegionNotFound
from ..runtime import check_name
from ..sharing.asked import names, whole
from ..sharing.memory import most
from ..wire import close_all

if TYPE_CHECKING:
    from ..sharing.broker import Broker, Guest

__all__ = ["WorkQueues", "serve"]

# What one guest may have of queues at most, and all guests together; how many ends all of them may have open.
_OF_A_GUEST = 256
_OF_A_LAN = 4096
_ENDS = 16_384
# Bytes of a handle: as hard to guess as a key.
_HANDLE = 16
# Milliseconds from the end of a dying process's connection until the kernel says that it is dead.
_DYING = 5
# Tokens of ends; those below are the broker's own, and owners of locks have 30 bits.
_TOKENS = range(2, 1 << 30)


@dataclass(eq=False)
class _Desk:
    """What all queues of a guest have in common."""

    file: int
    event: int
    native: _native.WorkDesk

    def close(self) -> None:
        close_all([self.file, self.event])


@dataclass(eq=False)
class _End:
    """Somebody's end of a queue.  ``process``: a pidfd; ``None`` in the base's own process.  ``late``: it has gone."""

    token: int
    queue: _Queue
    guest: Guest
    process: int | None
    late: bool = False

    def is_dead(self, patience: int = 0) -> bool:
        """Whether its process has ended, or does within ``patience`` milliseconds."""
        if self.process is None:
            return self.guest.pid != os.getpid()
        watched = select.poll()
        watched.register(self.process, select.POLLIN)
        return bool(watched.poll(patience))

    def close(self) -> None:
        if self.process is not None:
            os.close(self.process)
            self.process = None


@dataclass(eq=False)
class _Queue:
    """A queue.  ``open``: whoever has the handle may post to it; else those of ``guests``."""

    handle: str
    name: str | None
    owner: Guest
    open: bool
    guests: list[str]
    shape: tuple[int, int, int]
    file: int
    desk: _Desk
    native: _native.QueueEnd
    ends: dict[int, _End] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"the queue {self.name!r} of {self.owner}" if self.name is not None else f"the queue of {self.owner}"

    def is_for(self, guest: Guest) -> bool:
        """Whether a guest may post to it who knows its handle."""
        return self.open or guest in self.guests or guest.number == self.owner.number


class WorkQueues:
    """The work queues of a LAN.

    Arguments:
        broker: serves the requests, under its lock.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lan = broker.lan or "private"
        self._queues: dict[str, _Queue] = {}
        self._names: dict[str, _Queue] = {}
        self._desks: dict[int, _Desk] = {}
        self._ends: dict[int, _End] = {}
        self._tokens = itertools.count(_TOKENS.start)
        # Guests have the reading end; when the last writing end is closed, the base has ended.
        self._life = list(os.pipe())
        broker.on("queue.desk", self._give_desk)
        broker.on("queue.create", self._create)
        broker.on("queue.open", self._open)
        broker.on("queue.leave", self._leave)
        broker.on("queue.stuck", self._stuck)
        broker.on("queue.list", lambda _guest, _request, _files: ({"queues": self.listed()}, []), operators=True)
        broker.hook_gone(self._gone)
        broker.hook_end(self._end_all)
        broker.hook_fork(self._abandon)

    def listed(self) -> list[dict[str, Any]]:
        """What there is, for people to look at: without handles."""
        told = []
        for queue in self._queues.values():
            posted, taken, refused, publications, interrupts = queue.native.counters()
            capacity, item_size, priorities = queue.shape
            posters = {str(end.guest) for end in queue.ends.values() if end.guest.number != queue.owner.number}
            told.append(
                {
                    "name": queue.name,
                    "owner": str(queue.owner),
                    "guests": None if queue.open else queue.guests,
                    "capacity": capacity,
                    "item_size": item_size,
                    "priorities": priorities,
                    "posters": sorted(posters),
                    "posted": sum(posted),
                    "taken": sum(taken),
                    "refused": refused,
                    "interrupts": interrupts,
                    "saved": max(0, publications - interrupts),
                }
            )
        return told

    # Requests

    def _give_desk(
        self, guest: Guest | None, _request: dict[str, Any], _: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None
        desk = self._desk(guest)
        return {}, _copies(desk.file, desk.event, self._life[0])

    def _create(self, guest: Guest | None, request: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None
        shape = (whole(request, "capacity"), whole(request, "item_size"), whole(request, "priorities"))
        name, guests = request.get("name"), request.get("guests")
        if name is not None and not isinstance(name, str):
            raise ProtocolError("'name' is a queue's name, or null")
        if name is not None and check_name("queue", name) in self._names:
            raise NameTaken(f"a queue named {name!r} is on this LAN already")
        listed = [] if guests is None else names(request, "guests")
        owned = sum(queue.owner.number == guest.number for queue in self._queues.values())
        if owned >= most(_OF_A_GUEST, 8) or len(self._queues) >= most(_OF_A_LAN, 4):
            raise LanFull(f"{owned} queues are {guest!s}'s and {len(self._queues)} on this LAN: close some")
        _check_size(shape)
        desk = self._desk(guest)
        with _Lacking():
            file = _native.queue_make(f"vnet:{self._lan}:queue:{name or len(self._queues)}", *shape)
            try:
                native = _native.QueueEnd("the queue", file, desk.native, *shape, _TOKENS.start - 1)
            except BaseException:
                os.close(file)
                raise
        handle = secrets.token_hex(_HANDLE)
        queue = _Queue(handle, name, guest, guests is None, listed, shape, file, desk, native)
        self._queues[handle] = queue
        if name is not None:
            self._names[name] = queue
        try:
            return self._opened(queue, guest)
        except BaseException:
            self._end(queue, "closed")
            raise

    def _open(self, guest: Guest | None, request: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None
        said = request.get("queue")
        if not isinstance(said, str):
            raise ProtocolError("'queue' is the handle or the name of a queue")
        queue = self._queues.get(said)
        if queue is None:
            queue = self._names.get(said)
            # One that is open is for those who were given the handle, not for all who can spell its name.
            if queue is not None and guest not in queue.guests and guest.number != queue.owner.number:
                only = "whoever has its handle" if queue.open else ", ".join(queue.guests) or "nobody"
                raise NotPermitted(f"{queue.title} is not for {guest!s} to find by name: it is for {only}")
        if queue is None:
            raise RegionNotFound("no queue has that handle or name: it is wrong, or who worked on it is gone")
        if not queue.is_for(guest):
            raise NotPermitted(f"{queue.title} is not for {guest!s}: it is for {', '.join(queue.guests) or 'nobody'}")
        return self._opened(queue, guest)

    def _opened(self, queue: _Queue, guest: Guest) -> tuple[dict[str, Any], list[int]]:
        if len(self._ends) >= most(_ENDS, 4):
            raise LanFull(f"{len(self._ends)} ends of queues are open on this LAN: close some")
        token = next(self._tokens)
        if token not in _TOKENS:
            raise LanFull("this LAN has opened as many queues as it ever can: start it anew")
        with _Lacking(), contextlib.ExitStack() as stack:
            # A process that is dead already is as good as gone; its connection tells so in a moment.
            process = None if guest.pid == os.getpid() else os.pidfd_open(guest.pid)
            if process is not None:
                stack.callback(os.close, process)
            files = _copies(queue.file, queue.desk.file, queue.desk.event, self._life[0])
            stack.pop_all()
        self._ends[token] = queue.ends[token] = _End(token, queue, guest, process)
        capacity, item_size, priorities = queue.shape
        told = {
            "handle": queue.handle,
            "name": queue.name,
            "owner": str(queue.owner),
            "capacity": capacity,
            "item_size": item_size,
            "priorities": priorities,
            "token": token,
        }
        return told, files

    def _leave(self, guest: Guest | None, request: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None
        end = self._own(guest, request)
        queue = end.queue
        self._forget(end)
        # The owner's first end is the one that it works with.
        if guest.number == queue.owner.number and not any(
            each.guest.number == guest.number for each in queue.ends.values()
        ):
            self._end(queue, "closed")
        return {}, []

    def _stuck(self, guest: Guest | None, request: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Somebody waits for a queue's lock in vain."""
        assert guest is not None
        queue = self._own(guest, request).queue
        owner = queue.native.lock_owner()
        if owner is None:
            if queue.native.is_jammed():
                self._damaged(queue)
            return {"free": True}, []
        holder = queue.ends.get(owner)
        if holder is None:
            # No end that could hold it has this token.
            if queue.native.lock_owner() == owner:
                self._damaged(queue)
            return {"free": True}, []
        if not holder.is_dead():
            return {"free": False}, []
        self._bury(holder)
        return {"free": True}, []

    # Records

    def _desk(self, guest: Guest) -> _Desk:
        desk = self._desks.get(guest.number)
        if desk is None:
            with _Lacking():
                file, event = _native.desk_make(f"vnet:{self._lan}:desk:{guest.number}")
                try:
                    desk = _Desk(file, event, _native.WorkDesk(file, event))
                except BaseException:
                    close_all([file, event])
                    raise
            self._desks[guest.number] = desk
        return desk

    def _own(self, guest: Guest, request: dict[str, Any]) -> _End:
        end = self._ends.get(whole(request, "token"))
        if end is None or end.guest.number != guest.number:
            raise ProtocolError(f"{guest!s} has no such end of a queue")
        return end

    def _forget(self, end: _End) -> None:
        self._ends.pop(end.token, None)
        end.queue.ends.pop(end.token, None)
        end.close()

    def _bury(self, end: _End) -> None:
        """Puts right what a dead poster left half done."""
        end.queue.native.bury(end.token)
        # It may have posted and not rung.
        end.queue.desk.native.force()
        if end.late:
            self._forget(end)

    def _damaged(self, queue: _Queue) -> None:
        queue.native.end("damaged")
        queue.desk.native.force()

    def _end(self, queue: _Queue, why: str) -> None:
        """Ends a queue for all who have it."""
        if self._queues.pop(queue.handle, None) is None:
            return
        if queue.name is not None:
            del self._names[queue.name]
        queue.native.end(why)
        queue.desk.native.force()
        queue.native.shut()
        os.close(queue.file)
        for end in list(queue.ends.values()):
            self._forget(end)

    def _gone(self, guest: Guest) -> None:
        if self._broker.register.closed:
            self._end_life()
        for queue in [queue for queue in self._queues.values() if queue.owner.number == guest.number]:
            self._end(queue, "lan" if self._broker.register.closed else "gone")
        desk = self._desks.pop(guest.number, None)
        if desk is not None:
            desk.close()
        for end in [end for end in self._ends.values() if end.guest.number == guest.number]:
            end.late = True
            if end.queue.native.lock_owner() != end.token or end.is_dead(_DYING):
                self._bury(end)
            # Else it is alive and posts just now, in another thread than the one that left; or dies a little later.

    def _end_life(self) -> None:
        """Lets guests see that the base has ended, before queues say so: there, anybody may have written it."""
        if len(self._life) > 1:
            os.close(self._life.pop())

    def _end_all(self) -> None:
        self._end_life()
        for queue in list(self._queues.values()):
            self._end(queue, "lan")
        for desk in self._desks.values():
            desk.close()
        self._desks.clear()
        close_all(self._life)

    def _abandon(self) -> None:
        """In a forked child of the base, whose end guests would not see as long as the child has the writing end."""
        close_all(self._life[1:])


def serve(broker: Broker) -> WorkQueues:
    """Has the broker serve work queues."""
    return WorkQueues(broker)


def _copies(*files: int) -> list[int]:
    """Descriptors to be sent, and closed after that."""
    copies: list[int] = []
    try:
        with _Lacking():
            for file in files:
                copies.append(os.dup(file))
    except BaseException:
        close_all(copies)
        raise
    return copies


class _Lacking(contextlib.AbstractContextManager[None]):
    """Says errors of the kernel in terms of what is lacking."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise MachineLacks(
                f"no memory or descriptor is left for a queue ({error.strerror or error}): "
                "raise `ulimit -n` or `ulimit -v`"
            ) from None


def _check_size(shape: tuple[int, int, int]) -> None:
    if any(number >= 1 << 32 for number in shape):
        raise ValueError("capacity, item_size and priorities of a queue are less than 2**32")
    needed = _native.queue_bytes(*shape)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise MachineLacks(
            f"a queue of {shape[0]} items of {shape[1]} bytes in {shape[2]} priorities takes {needed} bytes when it "
            f"is full, more than this machine's memory of {memory}; `free -h` shows it"
        )
