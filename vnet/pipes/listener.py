"""A listener: where pipes of those come in that connect to a service of a guest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _native
from ..errors import ForkedNic, LanClosed, NicClosed, ProtocolError, ServiceGone
from ..wire import close_all, recv_fds
from .pipe import Pipe
from .readiness import Readiness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from ..sharing import Sharing
    from .sockets import ListeningSocket

__all__ = ["Listener"]

# Bytes of what the base says of one who connects; names have 64 characters at most.
_ABOUT = 4096


class Listener:
    """Listens for a service of a guest, and lets others in, one pipe each.  Made by ``guest.listen()``.

    ``for pipe in listener`` and ``async for pipe in listener`` accept until the listener is closed.  A context manager;
    :meth:`close` may be called twice, and from any thread.  Threads may accept at one time.  It cannot be pickled, and
    a forked child cannot use it.

    Attributes:
        service: its name.
        guest: the name of the guest that listens.
        backlog: how many may wait to be accepted; others get :class:`vnet.ServiceBusy`.
        guests: those who may connect; ``None`` for all.  The operator always may.
        messages: whether it takes pipes of messages only, or of bytes only; ``None`` for either.
        longest: bytes of the longest message that pipes that it accepts send or take.
    """

    def __init__(
        self,
        sharing: Sharing,
        door: socket.socket,
        *,
        service: str,
        guest: str,
        backlog: int,
        guests: tuple[str, ...] | None,
        messages: bool | None,
        longest: int,
    ) -> None:
        self.service = service
        self.guest = guest
        self.backlog = backlog
        self.guests = guests
        self.messages = messages
        self.longest = longest
        self._sharing = sharing
        self._socket = door
        self._pid = os.getpid()
        self._closed = False
        # An event loop waits for the socket, and closes it once it waits no more.
        self._held = False
        # Bytes that tell the base of pipes that were taken, and that it has no room for as yet.
        self._untold = 0
        self._readiness = Readiness(door.fileno)
        door.setblocking(False)

    # Letting others in

    def accept(self, timeout: float | None = None) -> Pipe:
        """Waits for one who connects and returns the pipe to him.

        Arguments:
            timeout: seconds to wait; 0 to look only, ``None`` to wait for ever.

        Raises:
            TimeoutError: nobody connected in time.
            ServiceGone: the listener is closed, now or while it waited.
            NicClosed: the guest is off the LAN.
            LanClosed: the base has ended.
            ForkedNic: this is a forked child.
            OSError: this process has so many open files that it cannot take the pipe, which was dropped.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"a timeout is 0 or more seconds, not {timeout}")
        deadline = None if timeout is None else time.monotonic() + timeout
        while (pipe := self._take()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"nobody connected to service {self.service!r} within {timeout:g} s")
            watched = select.poll()
            try:
                watched.register(self.fileno(), select.POLLIN)
            except ServiceGone:
                continue
            watched.poll(None if left is None else left * 1000 + 1)
        return pipe

    async def aaccept(self) -> Pipe:
        """Waits for one who connects, lets other tasks run meanwhile, and returns the pipe to him.

        One that is cancelled has taken nothing.  Errors as of :meth:`accept`.
        """
        while (pipe := self._take()) is None:
            # Closed by another thread just now: the next look says so.
            with contextlib.suppress(ValueError):
                await self._readiness.wait(False)
        return pipe

    def __iter__(self) -> Listener:
        return self

    def __next__(self) -> Pipe:
        try:
            return self.accept()
        except ServiceGone:
            raise StopIteration from None

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Pipe:
        try:
            return await self.aaccept()
        except ServiceGone:
            raise StopAsyncIteration from None

    def _take(self) -> Pipe | None:
        """Takes one who waits, if there is one."""
        self._check()
        try:
            said, files, flags = recv_fds(self._socket, _ABOUT)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            said, files, flags = b"", [], 0
        if not said:
            close_all(files)
            raise self._why()
        self._tell()
        if flags & socket.MSG_CTRUNC:
            close_all(files)
            raise OSError(
                errno.EMFILE, f"too many open files to take a pipe of service {self.service!r}; it was dropped"
            )
        try:
            about = json.loads(said)
            peer = about["peer"]
        except (ValueError, KeyError, TypeError) as error:
            close_all(files)
            raise ProtocolError(f"what the base says of one who connects is not understood: {error!r}") from None
        end = _native.PipeEnd(files, False, largest=self.longest)
        return Pipe(end, service=self.service, peer=peer, guest=self.guest)

    def _tell(self) -> None:
        """Tells the base that one less waits."""
        self._untold += 1
        # It listens to that when the next one connects.
        with contextlib.suppress(OSError):
            while self._untold:
                self._socket.send(b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                self._untold -= 1

    def _why(self) -> Exception:
        """Why nobody will come any more."""
        if self._closed:
            return self._gone()
        try:
            _, files = self._sharing._door().ask("service.list")
            close_all(files)
        except (LanClosed, NicClosed, ForkedNic) as error:
            return error
        return self._gone()

    def _gone(self) -> ServiceGone:
        return ServiceGone(f"{self.guest!r} listens for service {self.service!r} no longer: the listener is closed")

    # What it is

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def fileno(self) -> int:
        """Returns a descriptor that is readable while somebody waits to be accepted, or nobody can any more.

        Raises:
            ServiceGone: the listener is closed.
        """
        self._check()
        return self._socket.fileno()

    def socket(self) -> ListeningSocket:
        """Returns the listener as a listening socket, for servers that want one; closing either closes both."""
        from .sockets import ListeningSocket

        return ListeningSocket(self)

    async def start_server(
        self,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
        **options: Any,
    ) -> asyncio.AbstractServer:
        """Serves streams of asyncio; see :func:`vnet.pipes.start_server`."""
        from .streams import start_server

        return await start_server(self, connected, **options)

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<vnet.Listener {self.service} of {self.guest}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the listener of service {self.service!r} cannot be pickled: it is a socket of this process")

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedNic(f"the listener of service {self.service!r} is the parent process's; listen anew here")
        if self._closed:
            raise self._gone()

    # Its end

    def close(self) -> None:
        """Listens no longer.  Whoever waits to be accepted is cut off; pipes that were accepted go on.

        The name is free when this returns.  May be called twice.
        """
        if self._shut():
            with contextlib.suppress(LanClosed, NicClosed, ProtocolError):
                self._sharing._door().ask("service.unlisten", service=self.service)

    def _shut(self) -> bool:
        """Closes the socket.  Returns whether there is something to tell the base."""
        if self._closed:
            return False
        self._closed = True
        ours = os.getpid() == self._pid
        if ours:
            # Whoever waits in accept() wakes up; in a forked child that is the parent's to do.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._readiness.close()
        if not (ours and self._held):
            self._socket.close()
        return ours

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            forgotten = not self._closed and os.getpid() == self._pid
        except AttributeError:
            return  # it was never made whole
        try:
            if forgotten:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            if self._shut():
                # No waiting here, where the collector runs.
                with contextlib.suppress(LanClosed, NicClosed, ForkedNic):
                    self._sharing._door().tell("service.unlisten", service=self.service)
