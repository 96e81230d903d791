"""A client of the control socket, as the base's control server sees it."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from .wire import close_all

if TYPE_CHECKING:
    from .register import Entry
    from .sharing.broker import Guest

__all__ = ["Connection", "Death", "Files"]


class Files:
    """Descriptors that go with an answer.

    Arguments:
        files: the descriptors.
        ours: they stay open when they are sent; otherwise they are closed.
    """

    def __init__(self, files: tuple[int, ...] = (), *, ours: bool = True) -> None:
        self.files = files
        self._ours = ours

    def close(self) -> None:
        """They were sent, or nobody is there to take them.  May be called twice."""
        files, self.files = self.files, ()
        if not self._ours:
            close_all(files)


class Connection:
    """One client.

    Attributes:
        sock: its socket.
        pid: its process id, as the base sees it.
        since: when it came, or let go of its NIC.
        pending: what was read and not answered yet.
        files: descriptors that came along, for the request that follows.
        outgoing: answers that it has not taken yet, each with the descriptors that go with it.
        nic: the NIC whose lease the connection is, and its generation.
        member: of a member: the guest that it is, or ``(None,)`` where it is the operator.
        process: a pidfd of it, once the broker has served it.
        dropped: the base is done with it.
    """

    def __init__(self, sock: socket.socket, pid: int, now: float) -> None:
        self.sock = sock
        self.pid = pid
        self.since = now
        self.pending = b""
        self.files: list[int] = []
        self.outgoing: deque[tuple[bytes, Files]] = deque()
        self.nic: tuple[Entry, int] | None = None
        self.member: tuple[Guest | None] | None = None
        self.process: int | None = None
        self.dropped = False


class Death:
    """That a client's process ends: who forked may leave a child behind that has the connection open, too."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
