"""Messages between base and nursery: one JSON object each, descriptors beside it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from .. import errors
from ..errors import VnetError
from ..wire import recv_fds, send_fds

__all__ = ["Cut", "close_all", "pair", "receive", "refusal", "send"]

# Bytes of the longest message; a NIC's name and its addresses need a fraction.
_LONGEST = 64 * 1024
_MOST_FILES = 4


class Cut(Exception):
    """Descriptors of a message did not arrive: this process may not open so many."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Sends a message; the descriptors stay the caller's."""
    send_fds(connection, json.dumps(message).encode(), files)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Returns the next message and the descriptors that came with it; ``None`` where the other side has ended.

    Raises:
        Cut: the message is lost with them.
    """
    data, files, flags = recv_fds(connection, _LONGEST, _MOST_FILES)
    if flags & socket.MSG_CTRUNC:
        close_all(files)
        raise Cut
    if not data:
        return None
    message: dict[str, Any] = json.loads(data)
    return message, files


def refusal(reply: dict[str, Any]) -> Exception:
    """The exception that a reply names."""
    name, text = str(reply.get("error")), str(reply.get("message"))
    if name == "ValueError":
        return ValueError(text)
    kind = getattr(errors, name, VnetError) if name in errors.__all__ and name != "LabError" else VnetError
    error: Exception = kind(text)
    return error


def close_all(files: Sequence[int]) -> None:
    """Closes descriptors."""
    for fd in files:
        os.close(fd)
