"""Pipes and listeners as sockets, for software that wants those: http, socketserver, asyncio's own transports, ssh.

They are ``socket.socket`` to ``isinstance()`` and to type checkers, but there is no socket of the kernel behind them:
``fileno()`` is for waiting only.  An address is the pair of a guest and a service.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .listener import Listener
    from .pipe import Pipe

__all__ = ["ListeningSocket", "PipeSocket"]

# Options that programs set on any socket, and that mean nothing where there is no network, by level.
_MEANINGLESS = {
    socket.SOL_SOCKET: (
        socket.SO_KEEPALIVE,
        socket.SO_LINGER,
        socket.SO_RCVBUF,
        socket.SO_REUSEADDR,
        socket.SO_REUSEPORT,
        socket.SO_SNDBUF,
    ),
    socket.IPPROTO_TCP: (
        socket.TCP_NODELAY,
        socket.TCP_KEEPCNT,
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_USER_TIMEOUT,
    ),
}
# Most bytes that are taken of several buffers in one call.
_PIECE = 1 << 18


def _error(number: int, what: str = "") -> OSError:
    return OSError(number, what or os.strerror(number))


class _Unreal(socket.socket):
    """What both kinds share: the life of a socket without a descriptor of its own."""

    # Slots of the base class, which its own methods read (makefile, close).
    _io_refs: int
    _closed: bool

    def __init__(self) -> None:
        # The base class is left as __new__ made it: without a descriptor, so that whatever is not overridden here says
        # "bad file descriptor". Its __init__ would open a socket of the kernel.
        self._io_refs = 0
        self._closed = False

    @property
    def family(self) -> socket.AddressFamily:
        """``AF_UNIX``: of this machine only."""
        return socket.AF_UNIX

    @property
    def type(self) -> socket.SocketKind:
        """``SOCK_STREAM``."""
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        """0, as of Unix sockets."""
        return 0

    @property
    def timeout(self) -> float | None:
        """Seconds that an operation may take; ``None`` for ever, 0 not to wait."""
        return self.gettimeout()

    def getblocking(self) -> bool:
        """Returns whether operations wait at all."""
        return self.gettimeout() != 0

    def setblocking(self, flag: bool, /) -> None:
        """Waits for ever, or never."""
        self.settimeout(None if flag else 0.0)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """Takes options that mean nothing here; all others are an ``OSError`` (``ENOPROTOOPT``)."""
        if option not in _MEANINGLESS.get(level, ()):
            raise _error(errno.ENOPROTOOPT, f"a pipe has no option {option} of level {level}")

    def getsockopt(self, level: int, option: int, length: int = 0, /) -> Any:
        """Returns ``SO_ERROR``, which is always 0, and ``SO_ACCEPTCONN``."""
        if level == socket.SOL_SOCKET and option in (socket.SO_ERROR, socket.SO_ACCEPTCONN):
            value = int(option == socket.SO_ACCEPTCONN and isinstance(self, ListeningSocket))
            return value.to_bytes(4, "little")[:length] if length else value
        if level == socket.SOL_SOCKET and option == socket.SO_TYPE:
            # Who asks for it has found no better way to tell what a descriptor is; ssl does, and would then speak TLS
            # over the descriptor of fileno(), past the pipe.
            raise _error(
                errno.ENOPROTOOPT,
                "this socket is not the kernel's, and ssl cannot wrap it by itself: use context.wrap_bio(), or "
                "`await pipe.streams(ssl=context)`; its type is in sock.type",
            )
        raise _error(errno.ENOPROTOOPT, f"a pipe has no option {option} of level {level}")

    def detach(self) -> NoReturn:
        """Raises ``EOPNOTSUPP``: there is no descriptor that could live on by itself."""
        raise _error(errno.EOPNOTSUPP, "a pipe has no descriptor that could be detached from it")

    def dup(self) -> NoReturn:
        """Raises ``EOPNOTSUPP``, as :meth:`detach`."""
        raise _error(errno.EOPNOTSUPP, "a pipe cannot be duplicated")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: it is memory and descriptors of this process")


class PipeSocket(_Unreal):
    """A pipe as a connected stream socket; made by :meth:`vnet.pipes.Pipe.socket`.  Closing either closes both."""

    def __init__(self, pipe: Pipe) -> None:
        pipe._check(stream=True)
        super().__init__()
        self._pipe = pipe

    def __repr__(self) -> str:
        return f"<vnet.pipes.PipeSocket of {self._pipe!r}>"

    def _real_close(self) -> None:
        # close() comes here once all files made of it are closed, too.
        self._pipe.close()

    def fileno(self) -> int:
        """Returns a descriptor whose readiness is the pipe's, or -1 once it is closed."""
        return -1 if self._pipe.closed else self._pipe.fileno()

    def settimeout(self, value: float | None, /) -> None:
        """Sets how long operations wait, those of the pipe, too."""
        self._pipe.settimeout(value)

    def gettimeout(self) -> float | None:
        """Returns how long operations wait."""
        return self._pipe.gettimeout()

    def getpeername(self) -> Any:
        """Returns the guest at the other end, ``""`` for the operator, and the service."""
        self._check()
        return self._pipe.peer or "", self._pipe.service

    def getsockname(self) -> Any:
        """Returns the guest at this end, ``""`` for the operator, and the service."""
        self._check()
        return self._pipe.guest or "", self._pipe.service

    def connect(self, address: Any, /) -> None:
        """Raises ``EISCONN``."""
        raise _error(errno.EISCONN)

    def shutdown(self, how: int, /) -> None:
        """Ends one direction, or both: ``SHUT_RD``, ``SHUT_WR``, ``SHUT_RDWR``."""
        self._check()
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise _error(errno.EINVAL)
        if how != socket.SHUT_RD:
            self._pipe.shut_write()
        if how != socket.SHUT_WR:
            self._pipe.shut_read()

    def _check(self) -> None:
        if self._pipe.closed:
            raise _error(errno.EBADF)

    # Sending

    def _write(self, data: Buffer, block: bool, timeout: float | None) -> int:
        # A pipe that is closed, now or while somebody waits in it, raises ValueError, and a socket EBADF.
        try:
            return _done(self._pipe._end.write(data, block, timeout))
        except ValueError:
            self._check()
            raise

    def _wait(self, flags: int) -> tuple[bool, float | None]:
        known = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL | socket.MSG_WAITALL
        if flags & ~known:
            raise _error(errno.EOPNOTSUPP, f"a pipe does not know the flags {flags & ~known:#x}")
        timeout = 0.0 if flags & socket.MSG_DONTWAIT else self._pipe._timeout
        return timeout != 0, timeout

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Sends some of ``data``, all of it where it may wait for ever, and returns how many bytes."""
        return self._write(data, *self._wait(flags))

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Sends all of ``data``.  After an error nobody can tell how much of it was sent."""
        block, timeout = self._wait(flags)
        deadline = None if not timeout else time.monotonic() + timeout
        view = memoryview(data).cast("B")
        while len(view):
            view = view[self._write(view, block, timeout) :]
            if deadline is not None and len(view):
                timeout = max(1e-6, deadline - time.monotonic())

    def sendto(self, data: Buffer, *where: Any) -> int:
        """Sends as :meth:`send`: a pipe has one other end, and an address is not looked at."""
        return self.send(data, where[0] if len(where) == 2 else 0)

    def sendmsg(self, buffers: Iterable[Buffer], ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """Sends some of several buffers.  There is no ancillary data (``EOPNOTSUPP``)."""
        if list(ancdata):
            raise _error(errno.EOPNOTSUPP, "a pipe carries no descriptors: share memory with guest.create_region()")
        # A stream may take less than all: to join what would not fit, again and again, takes quadratic time.
        pieces, room = [], _PIECE
        for buffer in buffers:
            view = memoryview(buffer).cast("B")[:room]
            pieces.append(view)
            room -= len(view)
            if not room:
                break
        return self.send(b"".join(pieces), flags)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:  # type: ignore[override]
        """Sends a file until its end, or ``count`` bytes of it, and returns how many bytes were sent."""
        # The way of the base class for files that are none of the kernel's; its first would write past the pipe.
        return self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined, no-any-return]

    # Receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Returns up to ``bufsize`` bytes as soon as there are any; ``b""`` at the end of the stream."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags & socket.MSG_WAITALL and bufsize:
            buffer = bytearray(bufsize)
            return bytes(memoryview(buffer)[: self.recv_into(buffer, 0, flags)])
        block, timeout = self._wait(flags)
        try:
            data = self._pipe._end.read(bufsize, block, timeout)
        except ValueError:
            self._check()
            raise
        if data is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives up to ``nbytes`` bytes, or as many as fit, and returns how many; 0 at the end of the stream."""
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        if nbytes or flags & socket.MSG_WAITALL:
            view = memoryview(buffer).cast("B")
            if nbytes > len(view):
                raise ValueError("buffer too small for requested bytes")
            buffer = view[:nbytes] if nbytes else view
        block, timeout = self._wait(flags)
        try:
            if not flags & socket.MSG_WAITALL:
                return _done(self._pipe._end.readinto(buffer, block, timeout))
            view, at = memoryview(buffer), 0
            while at < len(view):
                got = self._pipe._end.readinto(view[at:], block, timeout)
                if not got:
                    # What came so far is returned, as the kernel does; nothing at all says why.
                    return at if at else _done(got)
                at += got
            return at
        except ValueError:
            self._check()
            raise

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receives as :meth:`recv`; of a connected stream there is no address to tell."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receives as :meth:`recv_into`; of a connected stream there is no address to tell."""
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """Receives; the ancillary data is always empty."""
        return self.recv(bufsize, flags), [], 0, None


class ListeningSocket(_Unreal):
    """A listener as a listening socket; made by :meth:`vnet.pipes.Listener.socket`.  Closing either closes both."""

    def __init__(self, listener: Listener) -> None:
        listener._check()
        super().__init__()
        self._listener = listener
        self._timeout: float | None = None
        # Whom to tell that nobody will come any more.
        self._on_end: Callable[[BaseException], None] | None = None

    def __repr__(self) -> str:
        return f"<vnet.pipes.ListeningSocket of {self._listener!r}>"

    def _real_close(self) -> None:
        self._listener._held = False
        self._listener.close()
        self._listener._socket.close()

    def fileno(self) -> int:
        """Returns a descriptor that is readable while somebody waits to be accepted, or -1 once it is closed."""
        return self._listener._socket.fileno()

    def settimeout(self, value: float | None, /) -> None:
        """Sets how long :meth:`accept` waits."""
        if value is not None and not value >= 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Returns how long :meth:`accept` waits."""
        return self._timeout

    def listen(self, backlog: int = 0, /) -> None:
        """Does nothing: it listens."""

    def bind(self, address: Any, /) -> None:
        """Does nothing: it is bound to its service."""

    def getsockname(self) -> Any:
        """Returns the guest that listens and the service."""
        return self._listener.guest, self._listener.service

    def accept(self) -> tuple[PipeSocket, Any]:
        """Waits for one who connects; returns a socket, and who it is, as :meth:`PipeSocket.getpeername`.

        Raises:
            OSError: ``EBADF`` once it is closed.  Errors otherwise as of :meth:`Listener.accept`.
        """
        from ..errors import LanClosed, NicClosed, ServiceGone

        try:
            pipe = self._listener.accept(self._timeout)
        except TimeoutError:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            raise
        except (ServiceGone, LanClosed, NicClosed) as gone:
            if self._on_end is not None:
                # That is how an asyncio server hears it; of an error here its loop would only write into its log.
                on_end, self._on_end = self._on_end, None
                on_end(gone)
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from gone
            if self._listener.closed:
                raise _error(errno.EBADF) from None
            raise
        if pipe.messages:
            pipe.close()
            raise _error(errno.EPROTO, f"{pipe.peer or 'an operator'} connected with messages; a socket is a stream")
        sock = PipeSocket(pipe)
        return sock, sock.getpeername()


def _done(count: int | None) -> int:
    if count is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return count
