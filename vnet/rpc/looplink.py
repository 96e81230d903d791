"""A link in an event loop: messages come to a function, and what finds no room goes out when there is some."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .wire import Link

__all__ = ["GONE", "LoopLink"]

GONE = (EOFError, OSError, ValueError)
"""What a link raises once nothing goes over it any more; ValueError is a pipe's word for one that was closed here."""

# Messages that are taken at one go, before other tasks have their turn.
_TURN = 32


class LoopLink:
    """A link whose messages are read by the running event loop.

    Arguments:
        link: the link.
        came: called with each message; what it raises of :data:`GONE` ends the link.
        gone: called once with why nothing will come any more; not where this side closed the link.
    """

    def __init__(self, link: Link, came: Callable[[bytes], None], gone: Callable[[BaseException], None]) -> None:
        self._link = link
        self._came = came
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._aside: deque[bytes | bytearray] = deque()
        self._room: list[asyncio.Future[None]] = []
        self._descriptor = link.fileno()
        self._open = True
        self._loop.add_reader(self._descriptor, self._read)

    @property
    def congested(self) -> bool:
        """Whether something waits for room."""
        return bool(self._aside)

    def send(self, message: bytes | bytearray) -> None:
        """Writes a message, or keeps it until there is room.  What nobody will read is dropped."""
        if not self._open:
            return
        if not self._aside:
            try:
                if self._link.write(message, False, None) is not None:
                    return
            except GONE as error:
                # What the other side wrote before it closed is there to be read.
                self._read()
                self._end(error)
                return
            self._loop.add_writer(self._descriptor, self._write)
        self._aside.append(message)

    async def room(self) -> None:
        """Waits until nothing waits for room any more, or nothing will be written."""
        while self._aside and self._open:
            future: asyncio.Future[None] = self._loop.create_future()
            self._room.append(future)
            await future

    def close(self) -> None:
        """Closes the link.  May be called twice."""
        self._stop()
        self._link.close()

    def _read(self) -> None:
        read = self._link.read_message
        for _ in range(_TURN):
            try:
                data = read(False, None)
                if data is None:
                    return
                self._came(data)
            except GONE as error:
                self._end(error)
                return
            if not self._open:
                return

    def _write(self) -> None:
        while self._aside:
            try:
                if self._link.write(self._aside[0], False, None) is None:
                    return
            except GONE as error:
                self._end(error)
                return
            self._aside.popleft()
        self._loop.remove_writer(self._descriptor)
        self._wake()

    def _wake(self) -> None:
        for future in self._room:
            if not future.done():
                future.set_result(None)
        self._room.clear()

    def _end(self, error: BaseException) -> None:
        if self._open:
            self._stop()
            self._gone(error)

    def _stop(self) -> None:
        if self._open:
            self._open = False
            self._aside.clear()
            # From a loop that is not running any more, its descriptors are gone already.
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
                self._loop.remove_writer(self._descriptor)
                self._wake()
