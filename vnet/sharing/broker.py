"""The broker: the part of the base that knows what guests share, and with whom.

It moves no data.  It is asked, over the control socket or by guests in its own process, to make a thing or to hand out
descriptors of it, and it is told who has gone.  Whatever it serves is registered with :meth:`Broker.on` by the module
of that kind of thing; modules are imported when the first request of their kind comes.

A guest is known by what it holds: its NIC, or the connection of a :class:`vnet.sharing.Member`.  Several guests can go
by one name, as the programs of one namespace do, so whatever a guest owns is kept by :attr:`Guest.number`, and only
access lists look at names.

The broker's lock is the register's: guests come and go under it, and one lock cannot be taken in two orders.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import LanClosed, NicClosed, NotPermitted, ProtocolError
from ..wire import close_all

if TYPE_CHECKING:
    from ..register import Entry, Register
    from .regions import Regions

__all__ = ["Broker", "Guest", "Served"]

# Which module serves requests of a kind, ``region.create`` and the like, with a function serve(broker).
_KINDS: Mapping[str, str] = {
    "queue": "vnet.queues.broker",
    "region": "vnet.sharing.regions",
    "service": "vnet.pipes.broker",
}


class Guest(str):
    """Who asks the broker: a string, the guest's name as access lists have it, and more.

    Two guests of one name are equal as strings; :attr:`number` tells them apart.

    Attributes:
        number: unique on the LAN, never used again.
        pid: the id of its process, as the base sees it; that of the base for guests in it.
    """

    number: int
    pid: int

    @classmethod
    def make(cls, name: str, number: int, pid: int) -> Guest:
        guest = cls(name)
        guest.number, guest.pid = number, pid
        return guest


Served = Callable[["Guest | None", dict[str, Any], list[int]], tuple[dict[str, Any], list[int]]]
"""Serves a request: gets who asks (``None`` for the operator), the request, and the descriptors that came with it.

Returns the answer, JSON values, and descriptors that go with it; these are closed once they are sent.  Of those that
came it takes out of the list what it keeps; the others are closed.  It is called under the broker's lock and must not
block.  A :class:`vnet.VnetError`, :class:`ValueError` or :class:`TypeError` refuses; the guest raises it again.
"""


class Broker:
    """Serves what guests share; one for each LAN, made when it is first needed.

    Arguments:
        register: the LAN's.

    Attributes:
        lock: held while anything is served, and while guests come and go.
        lan: the LAN's name; ``None`` for a private one.
        guests: those that have asked for something and are there, by number.
        register: the LAN's, for those who serve.
    """

    def __init__(self, register: Register) -> None:
        self.register = register
        self.lock = register.lock
        self.lan = register.lan
        self.guests: dict[int, Guest] = {}
        self._served: dict[str, tuple[Served, bool]] = {}
        self._parts: dict[str, Any] = {}
        # What each NIC's holder is known as, and since which generation: a kept place has one holder after the other.
        self._holders: dict[Entry, tuple[int, Guest]] = {}
        self._numbers = itertools.count(1)
        self._gone: list[Callable[[Guest], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._forks: list[Callable[[], None]] = []
        # Requests that nobody waits for the answer of.
        self._told: deque[tuple[Callable[[], Guest | None], dict[str, Any]]] = deque()
        self._busy = False
        self._closed = False

    # What the base itself does

    @property
    def regions(self) -> Regions:
        """The regions of the LAN."""
        regions: Regions = self.part("region")
        return regions

    def keep_region(
        self, name: str, size: int, *, guests: Sequence[str], readonly: Sequence[str] = (), huge: bool = False
    ) -> str:
        """Makes a region that nobody has to attach to keep it there; returns its handle.

        Arguments:
            name: unique on the LAN.
            size: in bytes; of huge pages rounded up to a whole number of them.
            guests: who may attach it.
            readonly: those of them, or more, who may only read it.

        Raises:
            NameTaken, LanFull, MachineLacks, ValueError, LanClosed: as of :meth:`vnet.Nic.create_region`.
        """
        with self.lock:
            self._check()
            return self.regions.keep(name, size, guests=guests, readonly=readonly, huge=huge)

    def drop_region(self, name: str) -> None:
        """Takes :meth:`keep_region` back: nobody gets the region any more, and those who have it keep it.

        Raises:
            RegionNotFound: no region of that name is kept.
        """
        with self.lock:
            self._check()
            self.regions.drop(name)

    def set_access(self, name: str, guests: Sequence[str], readonly: Sequence[str] = ()) -> None:
        """Says anew who may attach a region that is kept; who has it keeps it.

        Raises:
            RegionNotFound: no region of that name is kept.
        """
        with self.lock:
            self._check()
            self.regions.set_access(name, guests, readonly)

    def list_regions(self) -> list[dict[str, Any]]:
        """The regions, as plain data to look at: name, size, huge, owner, kept, guests, readonly, attached."""
        with self.lock:
            regions: Regions | None = self._parts.get("region")
            return [] if regions is None else regions.listed()

    def _check(self) -> None:
        if self._closed or self.register.closed:
            raise LanClosed("the LAN is closing" if self.lan is None else f"the LAN {self.lan!r} is closing")

    # For those who serve

    def on(self, do: str, handler: Served, *, operators: bool = False) -> None:
        """Serves requests ``do`` with ``handler``.

        Arguments:
            do: such as ``"region.create"``: the kind before the dot has its module in this file.
            operators: the operator, who has no NIC, may ask too; the handler's guest is then ``None``.
        """
        self._served[do] = handler, operators

    def hook_gone(self, callback: Callable[[Guest], None]) -> None:
        """Has ``callback`` called, under the lock, when a guest that has asked for something is gone.

        It must not block.
        """
        self._gone.append(callback)

    def hook_end(self, callback: Callable[[], None]) -> None:
        """Has ``callback`` called when the LAN ends, after all guests were said to be gone."""
        self._ends.append(callback)

    def hook_fork(self, callback: Callable[[], None]) -> None:
        """Has ``callback`` called in a forked child of the base, to close descriptors there that others watch."""
        self._forks.append(callback)

    # Who asks

    def holder(self, entry: Entry, generation: int, pid: int) -> Guest:
        """The guest that holds a NIC.

        Raises:
            NicClosed: it holds it no longer.
        """
        register = self.register
        if register.closed:
            raise LanClosed("this LAN is closed" if self.lan is None else f"the LAN {self.lan!r} is closed")
        register.bury_dropped()
        if register.nics.get(entry.name) is not entry or entry.generation != generation or not register.is_up(entry):
            raise NicClosed(f"the NIC {entry.name!r} is off the LAN: it was closed, or the base took it off")
        known = self._holders.get(entry)
        if known is None or known[0] != generation:
            known = self._holders[entry] = generation, self.welcome(entry.node or entry.name, pid)
        return known[1]

    def welcome(self, name: str, pid: int) -> Guest:
        """A guest that holds no NIC, by the name that it has proved to be its own."""
        guest = Guest.make(name, next(self._numbers), pid)
        self.guests[guest.number] = guest
        return guest

    def left(self, entry: Entry) -> None:
        """The holder of a NIC has gone, or the NIC has."""
        known = self._holders.pop(entry, None)
        if known is not None:
            self.let_go(known[1])

    def let_go(self, guest: Guest) -> None:
        """A guest is gone: whatever it had is let go of.  May be called twice."""
        with self.lock:
            if self.guests.pop(guest.number, None) is None:
                return
            for callback in self._gone:
                try:
                    callback(guest)
                except Exception:
                    # A fault of ours, which is told; guests come and go all the same.
                    sys.excepthook(*sys.exc_info())

    # Serving

    def serves(self, do: str) -> bool:
        """Whether ``do`` is the broker's affair, served or not."""
        return do.partition(".")[0] in _KINDS and "." in do

    def ask(self, guest: Guest | None, request: dict[str, Any], files: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Serves a request; as :data:`Served` is."""
        with self.lock:
            if self._closed or self.register.closed:
                raise LanClosed("the LAN is closing" if self.lan is None else f"the LAN {self.lan!r} is closing")
            self._catch_up()
            do = request["do"]
            handler, operators = self._handler(do)
            if guest is None and not operators:
                raise NotPermitted(f"{do} is for guests of the LAN, and the operator is none: attach a NIC")
            if guest is not None and guest.number not in self.guests:
                raise NicClosed(f"the guest {guest!s} is off the LAN")
            before, self._busy = self._busy, True
            try:
                return handler(guest, request, files)
            finally:
                self._busy = before
                if not before:
                    self._catch_up()

    def tell(self, who: Callable[[], Guest | None], request: dict[str, Any]) -> None:
        """Serves a request when that is possible, and says nothing of what came of it.  Takes no lock that is held."""
        self._told.append((who, request))
        if self.lock.acquire(blocking=False):
            try:
                # Not in the middle of another request of this very thread, where the collector may run, too.
                if not self._busy:
                    self._catch_up()
            finally:
                self.lock.release()

    def _catch_up(self) -> None:
        while self._told:
            who, request = self._told.popleft()
            files: list[int] = []
            with contextlib.suppress(Exception):
                guest = who()
                if guest is not None and guest.number in self.guests:
                    _, files = self._handler(request["do"])[0](guest, request, [])
            close_all(files)

    def part(self, kind: str) -> Any:
        """What serves requests of a kind, ``region`` or the like: what its module's ``serve`` returned."""
        with self.lock:
            if kind not in self._parts:
                self._parts[kind] = importlib.import_module(_KINDS[kind]).serve(self)
            return self._parts[kind]

    def _handler(self, do: str) -> tuple[Served, bool]:
        kind = do.partition(".")[0]
        if kind in _KINDS:
            self.part(kind)
        served = self._served.get(do)
        if served is None:
            known = ", ".join(sorted(each for each in self._served if each.startswith(f"{kind}."))) or "nothing"
            raise ProtocolError(f"this base does not serve {do[:60]!r}; of {kind[:60]!r} it serves {known}")
        return served

    # The end

    def close(self) -> None:
        """Lets go of everything, because the LAN ends.  May be called twice."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            self._holders.clear()
            for guest in list(self.guests.values()):
                self.let_go(guest)
            for callback in self._ends:
                callback()

    def abandon(self) -> None:
        """Lets go, in a forked child, of descriptors that others watch.  Takes no lock: its holder is not there."""
        self._closed = True
        for callback in self._forks:
            callback()
