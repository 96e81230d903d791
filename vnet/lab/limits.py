"""How long a step may take, and how it is told that it must stop.

A step that waits does it through its :class:`Limit`, which ends the wait when the time of the step, or of a step around
it, is over, or when the run is being taken down.
"""

from __future__ import annotations

import math
import threading
import time

from vnet.errors import VnetError
from vnet.lab.units import Dimension, show

__all__ = ["Limit", "StepEnded"]


class StepEnded(VnetError):
    """A step was ended before it was done; the message says why."""


class Limit:
    """The time that a step has, within the time of the step around it.

    Args:
        seconds: how long; infinity: as long as the step around it has.
        outer: the limit of the step around it; None where there is none.
        what: the step, in words.
    """

    def __init__(self, seconds: float = math.inf, outer: Limit | None = None, what: str = "the step") -> None:
        self._seconds = seconds
        self._what = what
        self._outer = outer
        self._end = time.monotonic() + seconds
        self._stopped: threading.Event = outer._stopped if outer is not None else threading.Event()

    def stop(self) -> None:
        """Ends every step that shares the outermost limit; for the way down, from any thread."""
        self._stopped.set()

    def left(self) -> float:
        """Seconds left, 0 when the step must end; infinity where nothing limits it."""
        if self._stopped.is_set():
            return 0.0
        return max(0.0, self._tightest()._end - time.monotonic())

    def why(self) -> str:
        """Why the step must end; empty while it need not."""
        if self._stopped.is_set():
            return "ended, because the run is being taken down"
        limit = self._tightest()
        if time.monotonic() >= limit._end:
            return f"{limit._what} still ran after {show(limit._seconds, Dimension.DURATION)}"
        return ""

    def check(self) -> None:
        """Raise :class:`StepEnded` when the step must end."""
        if why := self.why():
            raise StepEnded(why)

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass.

        Raises:
            StepEnded: the step must end before.
        """
        due = time.monotonic() + seconds
        while (rest := due - time.monotonic()) > 0:
            self.check()
            self._stopped.wait(min(rest, self.left(), threading.TIMEOUT_MAX))
        self.check()

    def _tightest(self) -> Limit:
        limit, outer = self, self._outer
        while outer is not None:
            if outer._end < limit._end:
                limit = outer
            outer = outer._outer
        return limit
