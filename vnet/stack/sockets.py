"""What TCP and UDP sockets of a stack share: their life, their timeouts, their options."""

from __future__ import annotations

import errno
import socket
import warnings
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, NoReturn, overload

from .._native import Mirror
from . import options
from .addresses import ANY, error, native_host, shown, split
from .options import Options

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from .stack import Stack

__all__ = ["Missing", "Socket", "waiting"]


class Missing:
    """Where the native socket will be, or was.  Whatever is asked of it raises what a kernel says then."""

    def __init__(self, otherwise: int, **errors: int) -> None:
        self._otherwise = otherwise
        self._errors = errors

    def __getattr__(self, name: str) -> NoReturn:
        raise error(self._errors.get(name, self._otherwise))


# There is nothing behind a socket any more.
_GONE = Missing(errno.EBADF)


class Socket(socket.socket):
    """A socket on the LAN.  It is used as any :class:`socket.socket`, which documents what is not said here.

    It is made by :meth:`vnet.stack.Stack.socket`, ``connect``, ``listen`` and ``accept``.  It is a ``socket.socket`` to
    ``isinstance()`` and to type checkers, but there is no socket of the kernel behind it: :meth:`fileno` gives a
    descriptor for ``select``, ``selectors`` and asyncio, which is readable and writable when the socket is and must not
    be read or written itself.

    Beside the errors of the socket module its methods raise :class:`vnet.LanClosed`, :class:`vnet.NicClosed` and
    :class:`vnet.ForkedNic`.
    """

    # Slots of the base class, which its own methods read (makefile, close).
    _io_refs: int
    _closed: bool

    def __init__(self, stack: Stack, family: int, kind: int, like: Options | None = None) -> None:
        # The base class is left as __new__ made it: without a descriptor, so that whatever is not overridden here says
        # "bad file descriptor". Its __init__ would open a socket of the kernel.
        self._io_refs = 0
        self._closed = False
        self._stack = stack
        self._family = socket.AddressFamily(family)
        self._kind = socket.SocketKind(kind)
        self._timeout: float | None = socket.getdefaulttimeout()
        self._options = Options(kind == socket.SOCK_STREAM, like)
        # The descriptor that was asked for; it may have been before there was a native socket to show.
        self._mirror: Mirror | None = None
        self._end: Any = _GONE

    # What it is

    @property
    def family(self) -> socket.AddressFamily:
        """``AF_INET`` or ``AF_INET6``."""
        return self._family

    @property
    def type(self) -> socket.SocketKind:
        """``SOCK_STREAM`` or ``SOCK_DGRAM``."""
        return self._kind

    @property
    def proto(self) -> int:
        """``IPPROTO_TCP`` or ``IPPROTO_UDP``."""
        return socket.IPPROTO_TCP if self._kind == socket.SOCK_STREAM else socket.IPPROTO_UDP

    def __repr__(self) -> str:
        words = [f"vnet.stack.{type(self).__name__}", "tcp" if self._kind == socket.SOCK_STREAM else "udp"]
        try:
            words.append("{}:{}".format(*self.getsockname()[:2]))
            words.append("to {}:{}".format(*self.getpeername()[:2]))
        except Exception:  # whatever is wrong with it, it can be printed
            words += ["closed"] if self._closed else []
        return f"<{' '.join(words)}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: its stack is of this process")

    # Its life

    def __enter__(self) -> Self:
        return self

    def _real_close(self) -> None:
        """Lets go of what is behind the socket; called by close() once all files made of it are closed, too."""
        end, self._end = self._end, _GONE
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.close()
        if not isinstance(end, Missing):
            self._close_end(end)

    def _close_end(self, end: Any) -> None:
        end.close()

    def _holds(self) -> bool:
        """Whether there is something to let go of."""
        return not isinstance(self._end, Missing) or self._mirror is not None

    def __del__(self) -> None:
        try:
            if not self._holds():
                return
        except AttributeError:
            return  # it was never made whole
        try:
            # As the socket module: whoever forgets a socket is told, but not of one whose stack was closed.
            if not self._stack.closed:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self._closed = True
            self._real_close()

    def detach(self) -> NoReturn:
        """Raises ``EOPNOTSUPP``: there is no descriptor that could live on by itself."""
        raise error(errno.EOPNOTSUPP, "a socket of a stack has no descriptor that could be detached from it")

    def dup(self) -> NoReturn:
        """Raises ``EOPNOTSUPP``, as :meth:`detach`."""
        raise error(errno.EOPNOTSUPP, "a socket of a stack cannot be duplicated")

    def fileno(self) -> int:
        """Returns a descriptor whose readiness is the socket's, or -1 once it is closed.

        From the first call on a thread of the stack keeps it up to date.  It is only good for waiting.
        """
        if self._end is _GONE:
            return -1
        if self._mirror is None:
            # As Linux has it: before it is connected, a TCP socket is at its end, and both kinds can be written to.
            self._mirror = Mirror(self._kind == socket.SOCK_STREAM, True)
            shown = self._shown()
            if not isinstance(shown, Missing):
                shown.show_on(self._mirror)
        return self._mirror.fileno()

    def _shown(self) -> Any:
        """The native socket whose readiness is this one's."""
        return self._end

    def _settle(self, end: Any) -> None:
        """Puts a native socket behind this one."""
        self._end = end
        if self._mirror is not None:
            end.show_on(self._mirror)

    # Timeouts

    @property
    def timeout(self) -> float | None:
        """Seconds that an operation may take; ``None`` for ever, 0 for a socket that never waits."""
        return self._timeout

    def gettimeout(self) -> float | None:
        """Returns :attr:`timeout`."""
        return self._timeout

    def settimeout(self, value: float | None, /) -> None:
        """Sets the seconds that an operation may take; ``None`` for ever, 0 not to wait."""
        if value is not None:
            if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
                raise TypeError(f"a timeout is None or a number of seconds, not {type(value).__name__}")
            value = float(value)
            # NaN is neither.
            if not value >= 0:
                raise ValueError("Timeout value out of range")
        self._timeout = value

    def getblocking(self) -> bool:
        """Returns whether operations wait at all."""
        return self._timeout != 0

    def setblocking(self, flag: bool, /) -> None:
        """Waits for ever, or never."""
        self._timeout = None if flag else 0.0

    # Options

    @overload
    def setsockopt(self, level: int, option: int, value: int | Buffer, /) -> None: ...
    @overload
    def setsockopt(self, level: int, option: int, value: None, length: int, /) -> None: ...
    def setsockopt(self, level: int, option: int, value: Any, length: int | None = None, /) -> None:
        """Sets an option.  Those that the stack does not have are an ``OSError`` (``ENOPROTOOPT``)."""
        self._check()
        which = self._options.set(level, option, value, length)
        if self._connected():
            self._options.apply(self._end, which)

    @overload
    def getsockopt(self, level: int, option: int, /) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...
    def getsockopt(self, level: int, option: int, length: int = 0, /) -> int | bytes:
        """Returns an option, as bytes where ``length`` is given."""
        self._check()
        if not 0 <= length <= 1024:
            raise error(errno.EINVAL, "getsockopt buflen out of range")
        if level == socket.SOL_SOCKET:
            if option == socket.SO_ERROR:
                return options.as_asked(self._pending_error(), length)
            if option == socket.SO_ACCEPTCONN:
                return options.as_asked(int(self._listening()), length)
            if option == getattr(socket, "SO_DOMAIN", None):
                return options.as_asked(int(self._family), length)
            if option == getattr(socket, "SO_PROTOCOL", None):
                return options.as_asked(self.proto, length)
            if option == socket.SO_TYPE:
                # Who asks for it has found no better way to tell what a descriptor is; ssl does, and would then speak
                # TLS over the descriptor of fileno(), past the stack.
                raise error(
                    errno.ENOPROTOOPT,
                    "this socket is not the kernel's, and ssl cannot wrap it by itself: wrap it with "
                    "vnet.stack.tls_context(context).wrap_socket(...); its type is in sock.type",
                )
        return self._options.get(level, option, length)

    def _connected(self) -> bool:
        """Whether there is a native socket that takes options."""
        return False

    def _listening(self) -> bool:
        return False

    def _pending_error(self) -> int:
        return 0

    def _check(self) -> None:
        """Raises ``EBADF`` once the socket is closed."""
        if self._end is _GONE:
            raise error(errno.EBADF)

    # Addresses

    def _local(self, address: Any, verb: str) -> tuple[str | None, int]:
        """Returns a program's address to bind to as the native stack takes it."""
        host, port = split(address, self._family, verb)
        return self._host(host, ANY[self._family]), port

    def _remote(self, address: Any, verb: str) -> tuple[str, int]:
        """Returns a program's address to send to as the native stack takes it."""
        host, port = split(address, self._family, verb)
        # The kernel takes its loopback for "any" here; this is what comes closest.
        own = [each for each in self._stack.addresses if (":" in each) == (self._family == socket.AF_INET6)]
        return self._host(host, own[0] if own else ANY[self._family]), port

    def _host(self, host: str, nothing: str) -> str:
        if host in ("", ANY[self._family]):
            return nothing
        if host == "<broadcast>":
            host = "255.255.255.255"
        return native_host(self._stack.resolve(host, self._family)[0], self._family)

    def getsockname(self) -> Any:
        """Returns the socket's own address: (host, port), and flow and scope, both 0, for IPv6."""
        self._check()
        if isinstance(self._end, Missing):
            return shown((ANY[self._family], 0), self._family)
        host, port = self._end.local()
        return shown((host or ANY[self._family], port), self._family)

    # What only a kernel can

    def sendmsg(
        self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /
    ) -> int:  # asyncio's writelines() and socket.sendfile() stand on these
        """Sends several buffers as one.  There is no ancillary data on a LAN (``EOPNOTSUPP``)."""
        if list(ancdata):
            raise error(errno.EOPNOTSUPP, "there is no ancillary data on a LAN")
        data = b"".join(self._taken(buffers))
        return self.send(data, flags) if address is None else self.sendto(data, flags, address)

    def _taken(self, buffers: Iterable[Buffer]) -> Iterable[Buffer]:
        """What of several buffers is sent in one call."""
        return buffers

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """Receives; the ancillary data is always empty."""
        data, address = self.recvfrom(bufsize, flags)
        return data, [], 0, address

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
        """Receives into several buffers; the ancillary data is always empty."""
        views = [memoryview(each).cast("B") for each in buffers]
        data, address = self.recvfrom(sum(map(len, views)), flags)
        at = 0
        for view in views:
            piece = data[at : at + len(view)]
            view[: len(piece)] = piece
            at += len(piece)
        return len(data), [], 0, address

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:  # type: ignore[override]
        """Sends a file until its end, or ``count`` bytes of it, and returns how many bytes were sent."""
        if self._kind != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        if count is not None and (not isinstance(count, int) or count <= 0):
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                piece = file.read(1 << 16 if count is None else min(1 << 16, count - sent))
                if not piece:
                    break
                self.sendall(piece)
                sent += len(piece)
            return sent
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)


def waiting(flags: int, timeout: float | None) -> float | None:
    """Returns how long an operation with these flags may wait.

    Raises:
        OSError: ``EOPNOTSUPP`` for a flag that the stack does not know.
    """
    known = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL | socket.MSG_WAITALL | socket.MSG_TRUNC
    if flags & ~known:
        raise error(errno.EOPNOTSUPP, f"the stack does not know the flags {flags & ~known:#x}")
    return 0.0 if flags & socket.MSG_DONTWAIT else timeout
