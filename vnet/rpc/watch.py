"""Takes the reading of a pipe out of the hands of a thread that is busy with a call.

Theory of operation.  The thread that reads a call works on it itself: handing it to another one costs more than most
calls take.  But while it works, nobody reads: another call would wait, and nobody would see that the caller has given
up. So one thread of the service looks, every two milliseconds, whether any reader is still at the call that it was at
before; if so, it puts another thread in the reader's place, and the first one finishes its call and is free.  A method
that was found slow is given to another thread from the beginning for a while.

Nothing is paid while nobody calls: the watch sleeps once nothing was called for a while, and the next reader that
begins a call wakes it, for which it reads one attribute.
"""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["Watch"]

# Seconds between two looks: a call that takes longer is taken for a slow one after two of them at the latest.
_LOOK = 0.002
# Looks without a call after which the watch sleeps.
_QUIET = 25


class Watch:
    """The watch over the readers of a service.

    Arguments:
        service: has ``connections``, each with ``current`` (the call that its reader works on), ``counted`` (calls so
            far) and ``relieve(call)``, which replaces its reader.

    Attributes:
        asleep: whether it must be woken when a call begins.
    """

    def __init__(self, service: Any, name: str) -> None:
        self.asleep = True
        self._service = service
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Has the watch look again."""
        self.asleep = False
        self._wake.set()

    def close(self) -> None:
        """Ends it, and waits for that."""
        self._closed = True
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            self._look_until_quiet()

    def _look_until_quiet(self) -> None:
        before: dict[Any, Any] = {}
        counted, quiet = -1, 0
        while not self._closed:
            busy = {each: call for each in self._service.connections if (call := each.current) is not None}
            for connection, call in busy.items():
                if before.get(connection) is call:
                    connection.relieve(call)
            before = busy
            total = sum(each.counted for each in self._service.connections)
            quiet = 0 if busy or total != counted else quiet + 1
            counted = total
            if quiet >= _QUIET:
                if self.asleep:
                    # Said before this last look, so that whoever has begun since then sees it.
                    return
                self.asleep = True
                continue
            self.asleep = False
            time.sleep(_LOOK)
