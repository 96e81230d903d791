"""Messages over a pipe: what :class:`multiprocessing.connection.Connection` has, and the same for tasks."""

from __future__ import annotations

import errno
import io
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

    from .. import _native
    from .readiness import Readiness

__all__ = ["Messages"]


class Messages:
    """The methods of a pipe that carries messages."""

    service: str
    messages: bool
    _end: _native.PipeEnd
    _block: bool
    _timeout: float | None
    _readiness: Readiness
    _sender: asyncio.Lock | None = None

    def _check(self, *, stream: bool = False) -> None:
        raise NotImplementedError

    def _check_messages(self) -> None:
        self._check()
        if not self.messages:
            raise io.UnsupportedOperation(
                f"the pipe of {self.service!r} is a stream of bytes: use read() and write(), or connect with "
                "messages=True"
            )

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Returns whether something can be read without waiting, be it the end; of a stream of bytes, too.

        Arguments:
            timeout: seconds to wait for that; ``None`` for ever.
        """
        self._check()
        return self._end.wait(True, False, timeout)

    def send_bytes(self, buffer: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Sends a message: ``buffer``, or ``size`` bytes of it from ``offset`` on.

        Raises:
            BlockingIOError: there is no room for it, and the pipe must not wait.  One that is longer than half of the
                pipe is on its way then: it goes on when this is called with the same buffer, and is dropped otherwise.
            BrokenPipeError, TimeoutError: as of writing; nothing of the message was sent.
            OSError: it is longer than this end lets messages be.
            ValueError: the buffer has no such part, or the pipe is closed.
        """
        self._check_messages()
        if self._end.write(_part(buffer, offset, size), self._block, self._timeout) is None:
            raise BlockingIOError(errno.EAGAIN, "the pipe has no room for the message")

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Waits for a message and returns it.

        Arguments:
            maxlength: bytes of the longest message that is wanted.

        Raises:
            EOFError: the peer has closed its end, and no message is left.
            ConnectionResetError: the peer died, and no message is left.
            BlockingIOError: there is none, and the pipe must not wait.
            OSError: it is longer than ``maxlength``, and gone; or longer than this end lets messages be, and then
                nothing more can be had of the pipe.
            ValueError: ``maxlength`` is negative, or the pipe is closed.
        """
        self._check_messages()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._end.read_message(self._block, self._timeout)
        if message is None:
            raise BlockingIOError(errno.EAGAIN, "no message waits")
        return _bounded(message, maxlength)

    def recv_bytes_into(self, buffer: Buffer, offset: int = 0) -> int:
        """Waits for a message, puts it into ``buffer`` from ``offset`` on and returns how many bytes it has.

        Raises:
            multiprocessing.BufferTooShort: it does not fit; it is in the exception's ``args[0]``.
            EOFError, ConnectionResetError, BlockingIOError, ValueError: as of :meth:`recv_bytes`.
        """
        view = memoryview(buffer).cast("B")
        if not 0 <= offset <= len(view):
            raise ValueError("negative offset" if offset < 0 else "offset too large")
        message = self.recv_bytes()
        if len(message) > len(view) - offset:
            from multiprocessing import BufferTooShort

            raise BufferTooShort(message)
        view[offset : offset + len(message)] = message
        return len(message)

    def send(self, obj: Any) -> None:
        """Sends an object, pickled.  Errors as of :meth:`send_bytes`, and those of :mod:`pickle`."""
        self._check_messages()
        self.send_bytes(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL))

    def recv(self) -> Any:
        """Waits for an object and returns it.  Errors as of :meth:`recv_bytes`.

        Whoever sends a pickle can have this process run what it likes: only for peers that one trusts.
        """
        return pickle.loads(self.recv_bytes())

    # For tasks

    async def asend_bytes(self, buffer: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Sends a message as :meth:`send_bytes`; a task that waits for room lets others run.

        One that is cancelled has sent nothing.
        """
        self._check_messages()
        part = _part(buffer, offset, size)
        async with self._sending():
            # What is long goes in pieces, as the peer makes room; a message in between would end it unsent.
            while self._end.write(part, False, None) is None:
                await self._readiness.wait(True)
                self._check()

    def _sending(self) -> asyncio.Lock:
        import asyncio

        if self._sender is None:
            self._sender = asyncio.Lock()
        return self._sender

    async def arecv_bytes(self, maxlength: int | None = None) -> bytes:
        """Returns the next message as :meth:`recv_bytes`; a task that waits for it lets others run.

        One that is cancelled has taken nothing.
        """
        self._check_messages()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        while (message := self._end.read_message(False, None)) is None:
            await self._readiness.wait(False)
            self._check()
        return _bounded(message, maxlength)


def _part(buffer: Buffer, offset: int, size: int | None) -> Buffer:
    if not offset and size is None:
        return buffer
    view = memoryview(buffer).cast("B")
    if offset < 0:
        raise ValueError("offset is negative")
    if offset > len(view):
        raise ValueError("buffer length < offset")
    if size is None:
        return view[offset:]
    if size < 0:
        raise ValueError("size is negative")
    if offset + size > len(view):
        raise ValueError("buffer length < offset + size")
    return view[offset : offset + size]


def _bounded(message: bytes, longest: int | None) -> bytes:
    if longest is not None and len(message) > longest:
        raise OSError(errno.EMSGSIZE, f"a message of {len(message):,} bytes came, and {longest:,} are wanted at most")
    return message
