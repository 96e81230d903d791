"""The wire form of the control socket, as clients speak it: a JSON object on a line each way, descriptors beside it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from array import array
from collections.abc import Sequence
from typing import Any

from . import _native, errors
from .errors import LanClosed, ProtocolError, VnetError

__all__ = ["LONGEST", "LineReader", "ask", "close_all", "recv_fds", "refusal", "request_line", "send_fds"]

# Descriptors that come over a socket are closed in programs that this process starts: recvmsg(2). Python has no name
# for it.
_MSG_CMSG_CLOEXEC = 0x40000000
# Descriptors that one message brings at most: those of a LAN's memory, of its images and of its alarms.
MOST_FILES = 10
# Bytes of the longest request; a NIC's name and a few addresses need a fraction.
LONGEST = 16 * 1024


def recv_fds(connection: socket.socket, size: int, most: int = MOST_FILES) -> tuple[bytes, list[int], int]:
    """Receives up to ``size`` bytes and the descriptors that come along, which no program inherits.

    As :func:`socket.recv_fds`, which leaves its flags out.

    Returns:
        The bytes, the descriptors, and the flags of recvmsg(2).
    """
    files = array("i")
    data, more, flags, _ = connection.recvmsg(size, socket.CMSG_LEN(most * files.itemsize), _MSG_CMSG_CLOEXEC)
    for level, kind, content in more:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[: len(content) // files.itemsize * files.itemsize])
    return data, files.tolist(), flags


def send_fds(connection: socket.socket, data: bytes, files: Sequence[int] = (), flags: int = 0) -> int:
    """Sends bytes, and descriptors with them; returns how many bytes.  :func:`socket.send_fds` leaves its flags out."""
    if not files:
        return connection.send(data, flags | socket.MSG_NOSIGNAL)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))
    return connection.sendmsg([data], [rights], flags | socket.MSG_NOSIGNAL)


def request_line(request: dict[str, Any]) -> bytes:
    """A request, with the ABI version that this client was built for."""
    return json.dumps({"abi": _native.ABI, **request}).encode() + b"\n"


class LineReader:
    """Reads the base's answers from a connection, one line each, and keeps the descriptors that come along."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.files: list[int] = []
        self._data = b""

    def next(self) -> dict[str, Any] | None:
        """Returns the next answer; ``None`` where the base closed the connection between two of them.

        Raises:
            TimeoutError: none came within the connection's timeout.
            LanClosed: the base ended in the middle of an answer.
            ProtocolError: what answers is no vnet base.
            VnetError, ValueError: the base refused the request; the exception that it named.
        """
        reply = self.next_reply()
        if reply is not None and reply.get("ok") is not True:
            raise refusal(reply)
        return reply

    def next_reply(self) -> dict[str, Any] | None:
        """Returns the next answer as :meth:`next` does, a refusal too."""
        while b"\n" not in self._data:
            try:
                more, received, _ = recv_fds(self.connection, 65_536)
            except TimeoutError:
                raise
            except OSError as error:
                raise LanClosed(f"the base ended before it answered: {error.strerror}") from None
            self.files.extend(received)
            if not more:
                if self._data:
                    raise LanClosed("the base ended in the middle of an answer")
                return None
            self._data += more
        line, _, self._data = self._data.partition(b"\n")
        try:
            reply = json.loads(line)
            if not isinstance(reply, dict):
                raise ValueError(reply)
        except (ValueError, RecursionError):
            raise ProtocolError("what answers on this socket is not a vnet base") from None
        return reply

    def waits(self) -> bool:
        """Whether an answer was read already that :meth:`next` has not returned."""
        return b"\n" in self._data

    def take_files(self, count: int | None = None) -> list[int]:
        """Hands the descriptors that came, or the first ``count`` of them, to the caller, who closes them."""
        count = len(self.files) if count is None else max(0, count)
        files, self.files = self.files[:count], self.files[count:]
        return files

    def close(self) -> None:
        """Closes the connection, and the descriptors that nobody took."""
        close_all(self.take_files())
        self.connection.close()


def send_request(connection: socket.socket, request: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Sends a request, and descriptors with it."""
    # A base that refuses this user does so before it has read anything: what it said is there to be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        data = request_line(request)
        sent = send_fds(connection, data, files)
        if sent < len(data):
            connection.sendall(data[sent:])


def ask(connection: socket.socket, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Sends a request on a connection that goes on, and returns the answer with the descriptors that came along."""
    reader = LineReader(connection)
    try:
        send_request(connection, request)
        reply = reader.next()
        if reply is None:
            raise LanClosed("the base ended before it answered")
        return reply, reader.take_files()
    except TimeoutError:
        raise ProtocolError("the base did not answer in time; is it stopped?") from None
    except OSError as error:
        raise LanClosed(f"the base ended before it answered: {error.strerror}") from None
    finally:
        close_all(reader.take_files())


def close_all(files: Sequence[int]) -> None:
    """Closes descriptors."""
    for fd in files:
        os.close(fd)


def refusal(reply: dict[str, Any]) -> Exception:
    """The exception that an answer names which refuses a request."""
    name, message = str(reply.get("error")), str(reply.get("message"))
    if name == "ValueError":
        return ValueError(message)
    kind = getattr(errors, name, VnetError) if name in errors.__all__ else VnetError
    return kind(message) if kind is not errors.LabError else VnetError(message)
