"""Guests without a NIC object: programs in a namespace of the LAN, processes beside their NIC, the operator's shell."""

from __future__ import annotations

import os
import socket
import threading
from types import TracebackType
from typing import NoReturn

from ..errors import ForkedNic, NicClosed, ProtocolError
from ..runtime import connect
from ..wire import ask, close_all
from .doors import Door, RemoteDoor
from .guest import Sharing

__all__ = ["Member", "member"]


class Member(Sharing):
    """A guest's part in what is shared, without a NIC of its own; made by :func:`vnet.member`.

    Whatever it has lasts as long as it, or its process: each program of a namespace has what it made itself.  A context
    manager; :meth:`close` may be called twice.  It cannot be pickled, and a forked child cannot use it.

    Attributes:
        name: the guest's name; ``""`` for the operator, whom no list of guests names.
        lan: the LAN's name.
        operator: whether it is the operator, and no guest.
    """

    def __init__(self, connection: socket.socket, lan: str, guest: str | None) -> None:
        self.name = guest or ""
        self.lan = lan
        self.operator = guest is None
        self._connection = connection
        self._way = RemoteDoor(connection, lan)
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False

    def _door(self) -> Door:
        if os.getpid() != self._pid:
            raise ForkedNic("this guest belongs to the parent process; call vnet.member() after fork()")
        if self._closed:
            raise NicClosed(f"the member {self.name!r} is closed" if self.name else "this member is closed")
        return self._way

    def close(self) -> None:
        """Lets go of all that it has.  May be called twice."""
        if os.getpid() != self._pid:
            # Whoever held the lock at the fork is not there to give it back.
            self._connection.close()
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._way.leave()
        self._connection.close()

    def __del__(self) -> None:
        try:
            connection = self._connection
        except AttributeError:
            # It was never made whole.
            return
        connection.close()

    def __enter__(self) -> Member:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Member {self.name or '(operator)'} of {self.lan}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a member cannot be pickled: it is a connection of this process; call vnet.member() in the other"
        )


def member(lan: str | None = None, name: str | None = None, *, operator: bool = False) -> Member:
    """Takes part in what the guests of a live LAN share, as one of them, without attaching a NIC.

    The base looks for itself who asks: a process in a namespace of the LAN (``kind: netns``, or one that was plugged)
    is that guest, and so is the process that holds a NIC.  Everybody else is the operator, who may look and connect to
    services, and has no memory.

    Arguments:
        lan: the LAN's name; ``None`` takes the environment variable ``VNET_LAN``.
        name: the guest's name; ``None`` takes ``VNET_NIC``, or else whatever the base finds.
        operator: be the operator, wherever this runs.

    Raises:
        LanNotFound, NotPermitted, AbiMismatch: as of :func:`vnet.attach`.
        NotPermitted: this process is not that guest's.
        ValueError: no LAN is named, or a guest's name is given to the operator.
        LanFull: so many members are there that the base takes no more.
    """
    lan = lan if lan is not None else os.environ.get("VNET_LAN")
    if lan is None:
        raise ValueError("name the LAN: member(lan), or set VNET_LAN")
    if operator and name is not None:
        raise ValueError(f"the operator has no name, and is not {name!r}: leave one of the two out")
    if name is None and not operator:
        name = os.environ.get("VNET_NIC")
    connection = connect(lan)
    try:
        reply, files = ask(connection, {"do": "member", "guest": name, "operator": operator})
        close_all(files)
        guest = reply.get("guest")
        if not (guest is None or isinstance(guest, str)):
            raise ProtocolError("the base's answer lacks 'guest', or it is no name")
        return Member(connection, lan, guest)
    except BaseException:
        connection.close()
        raise
