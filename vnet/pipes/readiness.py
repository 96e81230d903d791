"""How tasks wait for a descriptor: an event loop has one reader and one writer for it, which all tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["Readiness"]


class Readiness:
    """Lets tasks of any event loop wait until a descriptor is readable or writable.

    Arguments:
        fileno: gives the descriptor, and raises once it is closed.
    """

    def __init__(self, fileno: Callable[[], int]) -> None:
        self._fileno = fileno
        # By loop and whether it is for writing; with the descriptor, which nobody tells once it is closed.
        self._waiting: dict[tuple[asyncio.AbstractEventLoop, bool], tuple[int, list[asyncio.Future[None]]]] = {}

    async def wait(self, writing: bool) -> None:
        """Waits until the descriptor is readable, or writable, or was closed."""
        # A third of the time that it takes to import vnet, for those who need it.
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        key = loop, writing
        if key not in self._waiting:
            descriptor = self._fileno()
            self._waiting[key] = descriptor, []
            (loop.add_writer if writing else loop.add_reader)(descriptor, self._settle, key)
        self._waiting[key][1].append(future)
        try:
            await future
        finally:
            # Whoever comes first takes all along.
            _, futures = self._waiting.get(key, (0, []))
            if future in futures:
                futures.remove(future)
                if not futures:
                    self._stop(key)

    def _stop(self, key: tuple[asyncio.AbstractEventLoop, bool]) -> list[asyncio.Future[None]]:
        loop, writing = key
        descriptor, futures = self._waiting.pop(key, (-1, []))
        if descriptor >= 0 and not loop.is_closed():
            (loop.remove_writer if writing else loop.remove_reader)(descriptor)
        return futures

    def _settle(self, key: tuple[asyncio.AbstractEventLoop, bool]) -> None:
        for future in self._stop(key):
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Wakes all that wait; each finds what it waited for closed."""
        for key in list(self._waiting):
            loop = key[0]
            if not loop.is_closed():
                # From any thread, and also from the collector's.
                loop.call_soon_threadsafe(self._settle, key)
