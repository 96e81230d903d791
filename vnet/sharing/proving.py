"""Who a process is that takes part in what is shared and holds no NIC: the base finds out for itself."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

from ..errors import NotPermitted, VnetError

if TYPE_CHECKING:
    from ..register import Entry, Register

__all__ = ["is_dead", "open_peer", "prove"]

# SO_PEERPIDFD of asm-generic/socket.h, since Linux 6.5: a descriptor of the very process that connected.
_SO_PEERPIDFD = 77


def open_peer(sock: socket.socket, pid: int) -> int | None:
    """Returns a pidfd of the process that connected, readable once it is dead; ``None`` where the kernel has none.

    Raises:
        NotPermitted: it has ended already, and others have the connection.
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise _ended() from None
    # An older kernel.
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except ProcessLookupError:
        raise _ended() from None
    except OSError:
        return None


def is_dead(process: int) -> bool:
    """Whether the process behind a pidfd has ended."""
    watched = select.poll()
    watched.register(process, select.POLLIN)
    return bool(watched.poll(0))


def prove(register: Register, process: int | None, pid: int, name: str | None) -> str | None:
    """Returns the name of the guest that a process is, ``None`` for the operator.

    Arguments:
        register: the LAN's, whose lock the caller holds.
        process: a pidfd of it.
        pid: its id.
        name: who it says that it is, a guest or a NIC of one; ``None``: whoever it turns out to be.

    Raises:
        NotPermitted: it is not that guest.
        VnetError: there is no such guest.
    """
    entries = [entry for entry in register.nics.values() if name in (None, entry.name, entry.node)]
    if name is not None and not entries:
        raise VnetError(f"no guest named {name!r} is on the LAN")
    space = _namespace(pid)
    # What was read of the process is true of it only if the id was still its own.
    if process is None or is_dead(process):
        raise _ended()
    for entry in entries:
        if _is_in(entry, space) or (entry.pid == pid and register.is_up(entry)):
            return entry.node or entry.name
    if name is None:
        return None
    kinds = {entry.kind for entry in entries}
    where = "runs in its namespace" if kinds & {"netns", "plug"} else "holds its NIC"
    raise NotPermitted(f"process {pid} is not guest {name!r}: it is no process that {where}")


def _ended() -> NotPermitted:
    return NotPermitted("the process that asks has ended")


def _is_in(entry: Entry, space: tuple[int, int] | None) -> bool:
    return space is not None and entry.space == space


def _namespace(pid: int) -> tuple[int, int] | None:
    """Which network namespace a process is in, if the kernel tells."""
    try:
        found = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    return found.st_dev, found.st_ino
