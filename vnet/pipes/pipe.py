"""A pipe: an ordered, lossless, flow-controlled stream between two guests, as a raw file of Python."""

from __future__ import annotations

import io
import math
import os
import warnings
import weakref
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn

from .. import _native
from .messages import Messages
from .readiness import Readiness
from .sizes import LONGEST, SIZE, check_longest, check_size

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

    from .sockets import PipeSocket

__all__ = ["Pipe", "PipeStatistics", "pair"]


@dataclass(frozen=True)
class PipeStatistics:
    """What went through this end of a pipe, as it stands.

    Attributes:
        bytes_read: bytes that were read here.
        bytes_written: bytes that were written here.
        reads: how often some of them were taken, each a message where the pipe carries messages.
        writes: how often some of them were put there.
        doorbells_rung: how often the peer slept and had to be woken.
        doorbells_saved: how often it was awake, and was not disturbed.
        sleeps: how often this end slept, to be woken by the peer.
    """

    bytes_read: int
    bytes_written: int
    reads: int
    writes: int
    doorbells_rung: int
    doorbells_saved: int
    sleeps: int


class Pipe(Messages, io.RawIOBase):
    """One end of a pipe between two guests: a raw file, read and written at memory speed.

    Made by ``guest.connect()`` and ``listener.accept()``, or by :func:`pair`.  It is what :class:`io.FileIO` is for a
    descriptor: :meth:`readinto` and :meth:`read` return what is there, up to what was asked for, and wait only where
    nothing is; ``b""`` or 0 is the end of the stream, which comes once the peer has closed its end, or shut it for
    writing, and all that it wrote was read.  Who needs whole lines, exact counts or text makes a buffered file of it,
    as of a socket: ``pickle.load(pipe.makefile("rb"))``.

    A pipe with ``messages=True`` keeps the boundaries of what is written; it has the methods of
    :class:`multiprocessing.connection.Connection` in place of those of a file.

    Two threads may use it at one time, one that reads and one that writes, and any thread may close it.  It cannot be
    pickled, and a forked child cannot use it.  It belongs to its two ends: it outlives the base.

    Attributes:
        service: the service that was connected to.
        peer: the guest at the other end; ``None`` for the operator's shell, which is no guest.
        guest: the guest at this end, and ``None`` as of ``peer``.  Of a :func:`pair` both are ``""``.
        messages: whether it carries messages.
        size: bytes that may wait in each direction: what was asked for, or the next power of two.

    Beside those of the ``io`` module, reading and writing raise:

    ``BrokenPipeError``
        Nobody will read what is written: the peer closed its end or died, or this one was shut for writing.
    ``ConnectionResetError``
        The peer died without closing its end; all that it had written was read.
    ``TimeoutError``
        The time of :meth:`settimeout` is over.
    ``ForkedNic``
        This is a forked child.
    """

    mode = "rb+"

    def __init__(
        self,
        end: _native.PipeEnd,
        *,
        service: str,
        peer: str | None,
        guest: str | None,
    ) -> None:
        self._end = end
        self.service = service
        self.peer = peer
        self.guest = guest
        self.size = end.size
        self.messages = end.messages
        self._pid = os.getpid()
        self._timeout: float | None = None
        self._block = True
        # Files made of it that are open; the pipe's end goes with the last.
        self._files: set[int] = set()
        # Also when the program ends without closing it: to the peer that is an end, and no death.
        self._finish = weakref.finalize(self, end.close)
        # Not of the pipe itself: whoever forgets it shall be told at once, and not when the collector comes by.
        self._readiness = Readiness(end.fileno)

    # What it is

    def __repr__(self) -> str:
        kind = "messages" if self.messages else "stream"
        state = "closed" if self.closed else self._state()
        return f"<vnet.Pipe {self.service}: {_named(self.guest)} and {_named(self.peer)}, {kind}, {state}>"

    def _state(self) -> str:
        if os.getpid() != self._pid:
            return "of the parent process"
        if self._end.closed:
            return "forgotten"
        waiting = self._end.available()
        what = f"{waiting:,} bytes wait" if waiting else "nothing waits"
        if self._end.peer_gone:
            return f"{what}, the peer has gone"
        return f"{what}, the peer writes no more" if self._end.peer_closed_write else what

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the pipe of {self.service!r} cannot be pickled: it is memory and descriptors of this process; "
            "connect in the other process"
        )

    def readable(self) -> bool:
        """Whether it is open, as all pipes can be read."""
        self._check()
        return True

    def writable(self) -> bool:
        """Whether it is open, as all pipes can be written."""
        self._check()
        return True

    def fileno(self) -> int:
        """Returns a descriptor for ``select``, ``selectors`` and asyncio; it must not be read or written itself.

        It is readable while something waits to be read, or the end of the stream does, and writable while there is
        room, or nobody will read any more.

        Raises:
            ValueError: the pipe is closed.
        """
        self._check()
        return self._end.fileno()

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has closed its end, or died; what it wrote can still be read."""
        self._check()
        return self._end.peer_gone

    def available(self) -> int:
        """Returns how many bytes can be read without waiting."""
        self._check()
        return self._end.available()

    def statistics(self) -> PipeStatistics:
        """Returns what went through this end so far, also after it was closed."""
        end = self._end
        return PipeStatistics(
            bytes_read=end.bytes_read,
            bytes_written=end.bytes_written,
            reads=end.reads,
            writes=end.writes,
            doorbells_rung=end.rung,
            doorbells_saved=end.saved,
            sleeps=end.slept,
        )

    # Timeouts

    def settimeout(self, value: float | None) -> None:
        """Sets for how many seconds reading and writing wait; ``None`` for ever, 0 not to wait."""
        if value is not None:
            if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
                raise TypeError(f"a timeout is None or a number of seconds, not {value!r}")
            value = float(value)
            if math.isnan(value) or value < 0:
                raise ValueError(f"a timeout is 0 or more seconds, not {value}")
            value = None if value == math.inf else value
        self._timeout = value
        self._block = value != 0

    def gettimeout(self) -> float | None:
        """Returns for how many seconds reading and writing wait."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Has reading and writing wait for ever, or not at all."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Returns whether reading and writing wait at all."""
        return self._block

    # Reading

    def readinto(self, buffer: Buffer, /) -> int | None:
        """Reads into ``buffer``, straight from the pipe's memory, what is there and fits; waits where nothing is.

        Returns:
            How many bytes; 0 at the end of the stream; ``None`` where it would have to wait and must not.
        """
        self._check(stream=True)
        return self._end.readinto(buffer, self._block, self._timeout)

    def read(self, size: int | None = -1, /) -> Any:
        """Reads up to ``size`` bytes, as soon as there are any; without a size, all until the end of the stream.

        Returns:
            The bytes; ``b""`` at the end of the stream; ``None`` where it would have to wait and must not.
        """
        if size is None or size < 0:
            return self.readall()
        self._check(stream=True)
        return self._end.read(size, self._block, self._timeout)

    def readall(self) -> Any:
        """Reads until the end of the stream; where it must not wait, until nothing is there.

        Where the time of :meth:`settimeout` runs out in between, what was read until then is lost.
        """
        pieces: list[bytes] = []
        while piece := self.read(self.size):
            pieces.append(piece)
        return b"".join(pieces) if pieces else piece

    def readline(self, size: int | None = -1, /) -> Any:
        """Reads a line, or up to ``size`` bytes of it; where it must not wait, what is there of one.

        Returns:
            The bytes; ``b""`` at the end of the stream; ``None`` where it would have to wait and must not.
        """
        left = -1 if size is None or size < 0 else size
        pieces: list[bytes] = []
        piece: bytes | None = b""
        while left:
            seen = self.peek()
            count = seen.find(b"\n") + 1 or len(seen) or 1
            # The io module's own readline() raises where read() returns None, and loses what it had read.
            piece = self.read(count if left < 0 else min(count, left))
            if not piece:
                break
            pieces.append(piece)
            if piece.endswith(b"\n"):
                break
            left -= len(piece) if left > 0 else 0
        return b"".join(pieces) if pieces else piece

    def peek(self, size: int = 0, /) -> bytes:
        """Returns what can be read without waiting, perhaps not all of it, and leaves it there."""
        self._check(stream=True)
        return self._end.peek(max(size, 0))

    # Writing

    def write(self, data: Buffer, /) -> int | None:
        """Writes ``data``, all of it where writing may wait, and otherwise what there is room for.

        Returns:
            How many bytes; ``None`` where it would have to wait and must not.

        Raises:
            TimeoutError: the peer did not make room in time; its ``characters_written`` says how many bytes went.
        """
        self._check(stream=True)
        written = self._end.write(data, self._block, self._timeout)
        if self._timeout and written is not None and written < memoryview(data).nbytes:
            # Few look at what write() returns: in the middle of a stream the rest would be missing without a word.
            raise _late(written, self._timeout)
        return written

    def shut_write(self) -> None:
        """Ends the stream of this side: the peer reads what is there, and then its end.  Reading goes on.

        May be called twice.
        """
        self._check()
        self._end.shut_write()

    def shut_read(self) -> None:
        """Reads no more: whoever waits here for something to read gets the end of the stream, and the peer's writes
        raise ``BrokenPipeError``.  May be called twice."""
        self._check()
        self._end.shut_read()

    # Its other faces

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Returns a buffered file that reads, writes or both, in bytes or text; as :meth:`socket.socket.makefile`.

        Closing it leaves the pipe open; closing the pipe leaves it open, too, and the end goes with the last of them.

        Arguments:
            mode: ``r``, ``w`` or both, and ``b`` for bytes.
            buffering: bytes of its buffer, 0 for none; 64 KiB unless given.
            encoding, errors, newline: as of :class:`io.TextIOWrapper`.
        """
        from .files import make_file

        return make_file(self, mode, buffering, encoding, errors, newline)

    def socket(self) -> PipeSocket:
        """Returns the pipe as a socket, for software that wants one; closing either closes both."""
        from .sockets import PipeSocket

        return PipeSocket(self)

    async def streams(
        self, *, limit: int = 1 << 16, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns asyncio's own reader and writer; the pipe is theirs from then on, and closes with the writer.

        Arguments:
            limit: as of :func:`asyncio.open_connection`, like ``options``, such as ``ssl`` and ``server_hostname``.
        """
        import asyncio

        self._check(stream=True)
        return await asyncio.open_connection(sock=self.socket(), limit=limit, **options)

    # Its end

    def close(self) -> None:
        """Closes this end: the peer reads what was written, and then the end of the stream.  May be called twice.

        Threads that wait in the pipe, and tasks, get ``ValueError``.  Files made of it stay open, and so does the end
        until the last of them is closed.
        """
        if not self.closed:
            super().close()
            self._let_go(None)

    def _let_go(self, file: int | None) -> None:
        """Closes the native end once neither the pipe nor a file made of it is open."""
        self._files.discard(file or 0)
        if self.closed and not self._files:
            self._finish()
            self._readiness.close()

    def __del__(self) -> None:
        try:
            forgotten = not self.closed and os.getpid() == self._pid
        except AttributeError:
            return  # it was never made whole
        try:
            if forgotten:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self.close()

    def _check(self, *, stream: bool = False) -> None:
        """Raises where the pipe is closed, or the other of its two kinds is asked for."""
        if self.closed:
            raise ValueError("I/O operation on closed pipe")
        if stream and self.messages:
            raise io.UnsupportedOperation(
                f"the pipe of {self.service!r} carries messages: use send_bytes() and recv_bytes()"
            )


def pair(
    *, size: int = SIZE, messages: bool = False, longest: int = LONGEST, service: str = "pair"
) -> tuple[Pipe, Pipe]:
    """Makes a pipe of which this process has both ends, as :func:`socket.socketpair` does.

    Arguments:
        size: bytes that may wait in each direction.
        messages: whether it carries messages.
        longest: bytes of the longest message.
        service: what it calls itself.

    Raises:
        ValueError: the size is not 4 KiB to 1 GiB.
    """
    size, longest = check_size(size), check_longest(longest)
    first, second = _native.pipe_make(size, messages)
    about: dict[str, Any] = {"service": service, "peer": "", "guest": ""}
    ends = _native.PipeEnd(first, True, largest=longest), _native.PipeEnd(second, False, largest=longest)
    return Pipe(ends[0], **about), Pipe(ends[1], **about)


def _named(guest: str | None) -> str:
    return "an operator" if guest is None else guest or "this process"


def _late(written: int, timeout: float) -> TimeoutError:
    error = TimeoutError(f"the peer made room for {written:,} bytes within {timeout:g} s, and not for the rest")
    error.characters_written = written  # type: ignore[attr-defined]
    return error
