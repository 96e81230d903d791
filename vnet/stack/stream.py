"""TCP sockets."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import LanClosed, NicClosed
from .addresses import error, family_of, shown
from .options import Options
from .sockets import Missing, Socket, waiting

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._native import TcpListener, TcpSocket
    from .stack import Stack

__all__ = ["Deadline", "StreamSocket"]

# Before there is a connection, and on a listening socket, as Linux has it.
_UNCONNECTED = Missing(errno.ENOTCONN, send=errno.EPIPE, send_all=errno.EPIPE)

# Most bytes that are taken of several buffers in one call.
_PIECE = 1 << 18

# What became of an attempt to connect, and of a connection that broke.
_FATES = {
    "refused": errno.ECONNREFUSED,
    "reset": errno.ECONNRESET,
    "timed_out": errno.ETIMEDOUT,
    "unreachable": errno.EHOSTUNREACH,
}


class StreamSocket(Socket):
    """A TCP socket on the LAN: a connection, or a socket that listens.  See :class:`vnet.stack.Socket`."""

    def __init__(self, stack: Stack, family: int, like: Options | None = None) -> None:
        super().__init__(stack, family, socket.SOCK_STREAM, like)
        # Of _end and _listener at most one is there; a socket is bound by a listener that lets nobody in yet.
        self._end: TcpSocket | Missing = _UNCONNECTED
        self._listener: TcpListener | None = None
        self._accepts = False
        # Whether somebody was told why the connection was not made, or broke: an error is reported once.
        self._told = False
        # Whom to tell that nobody will come any more.
        self._on_end: Callable[[BaseException], None] | None = None

    @classmethod
    def _around(cls, stack: Stack, end: TcpSocket, like: Options | None = None) -> StreamSocket:
        """A socket around a connection that there is."""
        sock = cls(stack, family_of(end.remote()[0]), like)
        sock._end = end
        sock._options.apply(end)
        return sock

    def _take_over(self, other: StreamSocket) -> None:
        """Puts what is behind another socket behind this one, which leaves the other closed."""
        self._timeout, self._options = other._timeout, other._options
        self._end, self._mirror = other._end, other._mirror
        self._listener, self._accepts = other._listener, other._accepts
        other._end, other._mirror, other._listener = _UNCONNECTED, None, None
        other.close()

    def _close_end(self, end: Any) -> None:
        end.close(self._options.resets)

    def _holds(self) -> bool:
        return super()._holds() or self._listener is not None

    def _real_close(self) -> None:
        listener, self._listener = self._listener, None
        try:
            if listener is not None:
                listener.close()
        finally:
            super()._real_close()

    # Connecting

    def bind(self, address: Any, /) -> None:
        """Binds the socket to an address of the NIC, or to all of them (``""``); port 0 takes a free one."""
        self._check()
        if self._listener is not None or self._connected():
            raise error(errno.EINVAL)
        self._listener = self._stack._native.listen(self._local(address, "bind"), None)

    def connect(self, address: Any, /) -> None:
        """Connects to an address, or to the NIC of that name; waits as long as :attr:`timeout` says."""
        self._begin(address)
        end = self._end
        if self._timeout == 0:
            if end.state() == "connecting":
                raise error(errno.EINPROGRESS)
            self._raise_fate()
            return
        try:
            end.wait_connected(self._timeout)
        except OSError as failure:
            if not isinstance(failure, TimeoutError) or failure.errno == errno.ETIMEDOUT:
                self._told = True
            raise
        self._told = False

    def _begin(self, address: Any) -> None:
        self._check()
        if self._accepts:
            raise error(errno.EISCONN)
        if self._connected():
            state = self._end.state()
            if state == "connecting":
                if self._timeout == 0:
                    raise error(errno.EALREADY)
                return
            if state not in _FATES:
                raise error(errno.EISCONN)
            if not self._told:
                self._raise_fate()
            # It failed, and who tries again may.
            self._end.close()
            self._end = _UNCONNECTED
        remote = self._remote(address, "connect")
        local = None
        if self._listener is not None:
            local = self._listener.local()
            self._listener.close()
            self._listener = None
        end = self._stack._native.connect(remote, local)
        self._told = False
        self._options.apply(end)
        self._settle(end)

    def connect_ex(self, address: Any, /) -> int:
        """Connects, and returns an ``errno`` in place of raising it; 0 when connected."""
        try:
            self.connect(address)
        except (socket.gaierror, socket.herror):
            raise
        except OSError as failure:
            if failure.errno is None:
                # A timeout of the program's own; the attempt goes on.
                return errno.EAGAIN
            return failure.errno
        return 0

    def _raise_fate(self) -> None:
        number = self._pending_error()
        if number:
            raise error(number)

    def _pending_error(self) -> int:
        if not self._connected() or self._told:
            return 0
        number = _FATES.get(self._end.state(), 0)
        self._told = number != 0
        return number

    def _connected(self) -> bool:
        return not isinstance(self._end, Missing)

    # Listening

    def listen(self, backlog: int = 128, /) -> None:
        """Lets connections in; up to ``backlog`` of them wait for :meth:`accept`."""
        self._check()
        if self._connected():
            raise error(errno.EINVAL)
        backlog = max(1, min(int(backlog), 4096))
        if self._listener is None:
            self._listener = self._stack._native.listen(self._local(("", 0), "listen"), backlog)
        else:
            self._listener.set_backlog(backlog)
        self._start_accepting()

    def _start_accepting(self) -> None:
        self._accepts = True
        if self._mirror is not None and self._listener is not None:
            self._listener.show_on(self._mirror)

    def accept(self) -> tuple[StreamSocket, Any]:
        """Waits for a connection and returns it with its peer's address."""
        self._check()
        listener = self._listener
        if listener is None or not self._accepts:
            raise error(errno.EINVAL)
        try:
            end = listener.accept(self._timeout)
        except (LanClosed, NicClosed) as gone:
            if self._tell_once(gone):
                # That is how asyncio hears it; of another error here its loop would only write into its log.
                raise error(errno.EAGAIN) from gone
            raise
        accepted = StreamSocket._around(self._stack, end, self._options)
        return accepted, accepted.getpeername()

    def _tell_once(self, gone: BaseException) -> bool:
        """Has the descriptor never be readable again, now that somebody knows that nobody will come any more.

        An asyncio server does not stop listening because of an error; it would be told again and again.  Returns
        whether somebody had asked to be told, and was.
        """
        if self._mirror is not None:
            self._mirror.show(False, False)
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return False
        on_end(gone)
        return True

    def _listening(self) -> bool:
        return self._accepts

    def _shown(self) -> Any:
        return self._listener if self._accepts and self._listener is not None else self._end

    # Addresses

    def getsockname(self) -> Any:
        """Returns the socket's own address."""
        listener = self._listener
        if listener is not None:
            return shown(self._any(listener.local()), self._family)
        return super().getsockname()

    def _any(self, address: tuple[str | None, int]) -> tuple[str, int]:
        host = "::" if self._family == socket.AF_INET6 else "0.0.0.0"
        return address[0] or host, address[1]

    def getpeername(self) -> Any:
        """Returns the address of the other end."""
        end = self._end
        address = end.remote()
        if end.state() in ("connecting", *_FATES):
            raise error(errno.ENOTCONN)
        return shown(address, self._family)

    # Sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Sends some of ``data`` and returns how many bytes."""
        return self._end.send(data, waiting(flags, self._timeout) if flags else self._timeout)

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Sends all of ``data``.  After an error nobody can tell how much of it was sent."""
        self._end.send_all(data, waiting(flags, self._timeout) if flags else self._timeout)

    def _taken(self, buffers: Iterable[Buffer]) -> Iterable[Buffer]:
        # A stream may take less than all: to join what would not fit, again and again, takes quadratic time.
        room = _PIECE
        for buffer in buffers:
            view = memoryview(buffer).cast("B")[:room]
            room -= len(view)
            yield view
            if not room:
                return

    def sendto(self, data: Buffer, *where: Any) -> int:
        """Sends as :meth:`send`: a connection has one other end, and an address is not looked at."""
        return self.send(data, where[0] if len(where) == 2 else 0)

    # Receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Returns up to ``bufsize`` bytes as soon as there are any; ``b""`` at the end of the stream."""
        if bufsize < 1:
            if bufsize < 0:
                raise ValueError("negative buffersize in recv")
            # Of nothing there is always enough, though not on any socket.
            self._end.ready()
            return b""
        if not flags:
            return self._end.recv(bufsize, self._timeout)
        return self._flagged(flags, bufsize, lambda size, timeout: self._end.recv(size, timeout))

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives up to ``nbytes`` bytes, or as many as fit, and returns how many; 0 at the end of the stream."""
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        if nbytes:
            view = memoryview(buffer).cast("B")
            if nbytes > len(view):
                raise ValueError("buffer too small for requested bytes")
            buffer = view[:nbytes]
        if not flags:
            return self._end.recv_into(buffer, self._timeout)
        view = memoryview(buffer).cast("B")
        data = self.recv(len(view), flags)
        view[: len(data)] = data
        return len(data)

    def _flagged(self, flags: int, size: int, receive: Callable[[int, float | None], bytes]) -> bytes:
        timeout = waiting(flags, self._timeout)
        if not flags & socket.MSG_WAITALL or not size:
            return receive(size, timeout)
        deadline = Deadline(timeout)
        pieces: list[bytes] = []
        while size:
            try:
                piece = receive(size, deadline.left())
            except OSError:
                if pieces:
                    break  # what came before the error is not lost by it
                raise
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receives as :meth:`recv`; the address is ``None``, as of any connection."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receives as :meth:`recv_into`; the address is ``None``."""
        return self.recv_into(buffer, nbytes, flags), None

    def shutdown(self, how: int, /) -> None:
        """Ends receiving (``SHUT_RD``), sending (``SHUT_WR``: the other end reads to its end), or both."""
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise error(errno.EINVAL)
        if self._accepts and self._listener is not None:
            # Linux: who waits in accept() is woken with EINVAL.
            self._accepts = False
            self._listener.close()
            return
        self._end.shutdown(how)


class Deadline:
    """What is left of a timeout."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout if timeout else 0.0

    def left(self) -> float | None:
        """Seconds; 0 still looks, and an operation that would have to wait then is late rather than impossible."""
        if not self._timeout:
            return self._timeout
        # Not 0, which would be "would block" in place of "timed out".
        return max(self._end - time.monotonic(), 1e-6)
