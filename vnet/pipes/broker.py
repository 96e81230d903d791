"""The broker's part in pipes: who listens for what, whom they let in, and how many wait.

A guest that listens gets one end of a pair of sockets (``SOCK_SEQPACKET``), and the base keeps the other, the door.
For whoever connects the base makes a pipe, gives the one side to him in its answer, and passes the other through the
door, with who he is; then it lets go of both.  What goes through the pipe never comes here.

::

    listener                 base                      who connects
    service.listen     →     a door
                             a pipe             ←      service.connect
    side B, who it is  ←     through the door   →      side A
    one byte           →     one less waits

For each that a listener takes it sends a byte back, so that the base knows how many wait.
"""

from __future__ import annotations

import difflib
import errno
import json
import socket
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import LanFull, NameTaken, NotPermitted, ServiceBusy, ServiceGone, ServiceNotFound
from ..runtime import check_name
from ..wire import close_all, send_fds
from .sizes import BACKLOG, SERVICES, check_backlog, check_size

if TYPE_CHECKING:
    from ..sharing.broker import Broker, Guest

__all__ = ["ServiceInfo", "Services", "serve"]

_Answer = tuple[dict[str, Any], list[int]]

# Services that have gone and are remembered, to tell those who come too late from those who err.
_REMEMBERED = 256
# Names that a message lists at most.
_NAMED = 8


@dataclass(frozen=True)
class ServiceInfo:
    """What the base knows of a service.

    Attributes:
        service: its name.
        guest: who listens.
        pid: the id of the process that listens.
        guests: those who may connect; ``None`` for all.
        messages: whether it takes pipes of messages only, or of bytes only; ``None`` for either.
        backlog: how many may wait to be accepted.
        waiting: how many do.
        connected: how many have been let in so far, those that wait included.
    """

    service: str
    guest: str
    pid: int
    guests: tuple[str, ...] | None
    messages: bool | None
    backlog: int
    waiting: int
    connected: int


@dataclass(eq=False)
class _Service:
    name: str
    owner: Guest
    door: socket.socket
    backlog: int
    guests: tuple[str, ...] | None
    messages: bool | None
    waiting: int = 0
    connected: int = 0

    def count(self) -> bool:
        """Counts who was taken.  Returns whether anybody still listens."""
        while True:
            try:
                said = self.door.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not said:
                return False
            self.waiting = max(0, self.waiting - 1)

    def info(self) -> ServiceInfo:
        return ServiceInfo(
            self.name,
            str(self.owner),
            self.owner.pid,
            self.guests,
            self.messages,
            self.backlog,
            self.waiting,
            self.connected,
        )


@dataclass(frozen=True)
class _Kept:
    """What a lab says of a service: who may listen for it, and who may connect."""

    owners: tuple[str, ...]
    clients: tuple[str, ...] | None


class Services:
    """The services of a LAN; used under the broker's lock."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._services: dict[tuple[str, str], _Service] = {}
        self._kept: dict[str, _Kept] = {}
        self._past: OrderedDict[tuple[str, str], None] = OrderedDict()
        broker.on("service.listen", self._listen)
        broker.on("service.unlisten", self._unlisten)
        broker.on("service.connect", self._connect, operators=True)
        broker.on("service.list", self._list, operators=True)
        broker.hook_gone(self._gone)
        broker.hook_fork(self._fork)

    # For the base itself

    def keep(self, service: str, guests: Sequence[str], clients: Sequence[str] | None = None) -> None:
        """Keeps the name of a service: from now on only ``guests`` may listen for it, and only ``clients`` connect.

        Arguments:
            guests: names of guests, or of their NICs.
            clients: the same; ``None`` for all.  What the listener says besides holds, too.
        """
        check_name("service", service)
        with self._broker.lock:
            self._kept[service] = _Kept(tuple(guests), None if clients is None else tuple(clients))

    def forget(self, service: str) -> None:
        """Keeps the name of a service no longer."""
        with self._broker.lock:
            self._kept.pop(service, None)

    def is_listening(self, service: str, guest: str) -> bool:
        """Whether that guest listens for that service."""
        return self.listener(guest, service) is not None

    def listener(self, guest: str, service: str) -> int | None:
        """The number (:attr:`vnet.sharing.Guest.number`) of who listens as that guest; ``None``: nobody does.

        It tells one that was started again from the one before.
        """
        with self._broker.lock:
            found = self._services.get((self._node(guest), service))
            return found.owner.number if found is not None and self._is_there(found) else None

    def all(self) -> tuple[ServiceInfo, ...]:
        """All services, by guest and name."""
        with self._broker.lock:
            there = [each for each in list(self._services.values()) if self._is_there(each)]
            return tuple(each.info() for each in sorted(there, key=lambda each: (str(each.owner), each.name)))

    # Requests

    def _listen(
        self, guest: Guest | None, request: dict[str, Any], files: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None  # the broker asks nobody else's
        name = check_name("service", request.get("service", ""))
        backlog = check_backlog(request.get("backlog", BACKLOG))
        allowed, messages = request.get("guests"), request.get("messages")
        if allowed is not None and not (isinstance(allowed, list) and all(isinstance(each, str) for each in allowed)):
            raise ValueError("'guests' is a list of names, or null")
        if messages is not None and not isinstance(messages, bool):
            raise ValueError("'messages' is true, false or null")
        kept = self._kept.get(name)
        if kept is not None and not self._is_among(guest, kept.owners):
            raise NotPermitted(
                f"service {name!r} is kept for {_listed(kept.owners)}; {str(guest)!r} is not to serve it"
            )
        there = self._services.get((guest, name))
        if there is not None and self._is_there(there):
            raise NameTaken(f"{str(guest)!r} listens for service {name!r} already, in process {there.owner.pid}")
        if sum(each.owner.number == guest.number for each in self._services.values()) >= SERVICES:
            raise LanFull(f"{str(guest)!r} listens for {SERVICES} services already")
        try:
            inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise LanFull(f"the base cannot open a door for service {name!r}: {error.strerror}") from None
        inner.setblocking(False)
        allowed = None if allowed is None else tuple(allowed)
        self._services[guest, name] = _Service(name, guest, inner, backlog, allowed, messages)
        self._past.pop((guest, name), None)
        return {"guest": str(guest)}, [outer.detach()]

    def _unlisten(self, guest: Guest | None, request: dict[str, Any], files: list[int]) -> _Answer:
        assert guest is not None
        found = self._services.get((guest, request.get("service", "")))
        # Another program of the same namespace may have come after it.
        if found is not None and found.owner.number == guest.number:
            self._remove(found)
        return {}, []

    def _connect(self, guest: Guest | None, request: dict[str, Any], files: list[int]) -> _Answer:
        peer, name = request.get("guest"), request.get("service")
        messages, size = request.get("messages", False), check_size(request.get("size"))
        if not isinstance(peer, str) or not isinstance(name, str):
            raise ValueError("'guest' and 'service' are names")
        if not isinstance(messages, bool):
            raise ValueError("'messages' is true or false")
        service = self._find(peer, name)
        self._admit(guest, service)
        if service.messages not in (None, messages):
            takes = "messages: connect with messages=True" if service.messages else "bytes: connect without messages"
            raise ValueError(f"service {name!r} of {str(service.owner)!r} takes pipes of {takes}")
        if service.waiting >= service.backlog:
            raise ServiceBusy(
                f"{service.waiting} wait already to be accepted by service {name!r} of {str(service.owner)!r}, as many "
                "as it lets; try again, or connect with a timeout"
            )
        try:
            own, others = _native.pipe_make(size, messages)
        except OSError as error:
            raise LanFull(f"the base cannot make a pipe of {size:,} bytes: {error.strerror or error}") from None
        who = None if guest is None else str(guest)
        try:
            self._hand_over(service, json.dumps({"peer": who}).encode(), others)
        except BaseException:
            close_all(own)
            raise
        finally:
            close_all(others)
        service.waiting += 1
        service.connected += 1
        return {"peer": str(service.owner), "guest": who}, own

    def _hand_over(self, service: _Service, about: bytes, files: Sequence[int]) -> None:
        try:
            send_fds(service.door, about, files, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                raise ServiceBusy(
                    f"so many wait to be accepted by service {service.name!r} of {str(service.owner)!r} that the "
                    f"kernel takes no more ({error.strerror})"
                ) from None
            self._remove(service)
            raise _gone(str(service.owner), service.name) from None

    def _list(self, guest: Guest | None, request: dict[str, Any], files: list[int]) -> _Answer:
        found = [{**vars(each), "guests": None if each.guests is None else list(each.guests)} for each in self.all()]
        return {"services": found}, []

    # Who may, and who is there

    def _find(self, peer: str, name: str) -> _Service:
        """The service of that guest.

        Raises:
            ServiceGone: there was one.
            ServiceNotFound: there was none.
        """
        node = self._node(peer)
        found = self._services.get((node, name))
        if found is not None and self._is_there(found):
            return found
        if (node, name) in self._past:
            raise _gone(node, name)
        own = sorted(each for owner, each in self._services if owner == node)
        others = sorted({str(owner) for owner, each in self._services if each == name})
        guests = sorted(self._guests())
        if own:
            hint = f"it listens for {_listed(own)}{_close(name, own)}"
        elif others:
            hint = f"{_listed(others)} {'listens' if len(others) == 1 else 'listen'} for it{_close(peer, others)}"
        else:
            hint = f"the LAN has {_listed(guests)}{_close(peer, guests)}"
        if node not in guests:
            raise ServiceNotFound(f"no guest {peer!r} is on the LAN, to listen for service {name!r}; {hint}")
        if not own and not others:
            hint = "it listens for none"
        raise ServiceNotFound(f"guest {peer!r} does not listen for service {name!r}; {hint}")

    def _admit(self, guest: Guest | None, service: _Service) -> None:
        """Raises ``NotPermitted`` where the guest may not connect.  The operator, who can do all else, may."""
        if guest is None:
            return
        kept = self._kept.get(service.name)
        for allowed in (service.guests, None if kept is None else kept.clients):
            if allowed is not None and not self._is_among(guest, allowed):
                raise NotPermitted(
                    f"service {service.name!r} of {str(service.owner)!r} lets {_listed(allowed, 'no guest')} connect, "
                    f"and not {str(guest)!r}"
                )

    def _is_among(self, guest: Guest, names: Collection[str]) -> bool:
        return guest in names or any(self._node(each) == guest for each in names)

    def _node(self, name: str) -> str:
        """The guest that a NIC is of, or the name itself."""
        entry = self._broker.register.nics.get(name)
        return name if entry is None else entry.node or entry.name

    def _guests(self) -> set[str]:
        return {entry.node or name for name, entry in self._broker.register.nics.items() if entry.kind != "router"}

    def _is_there(self, service: _Service) -> bool:
        if service.count():
            return True
        self._remove(service)
        return False

    def _remove(self, service: _Service) -> None:
        if self._services.pop((service.owner, service.name), None) is not None:
            self._past[str(service.owner), service.name] = None
            while len(self._past) > _REMEMBERED:
                self._past.popitem(last=False)
        service.door.close()

    # The end

    def _gone(self, guest: Guest) -> None:
        for service in [each for each in self._services.values() if each.owner.number == guest.number]:
            self._remove(service)

    def _fork(self) -> None:
        for service in self._services.values():
            service.door.close()


def serve(broker: Broker) -> Services:
    """Has the broker serve what pipes need."""
    return Services(broker)


def _gone(guest: str, service: str) -> ServiceGone:
    return ServiceGone(f"{guest!r} listened for service {service!r}, and does no more: it ended, or closed the service")


def _listed(names: Sequence[str], nothing: str = "none") -> str:
    shown = [repr(str(each)) for each in names[:_NAMED]]
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown or [nothing])


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
