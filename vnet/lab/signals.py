"""Being asked to end while a lab is up: the signals that must lead to an orderly way down."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Signals", "Terminated"]


class Terminated(BaseException):
    """This process was asked to end, by ``signal``; like KeyboardInterrupt, nobody should catch it by chance."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Signals:
    """SIGTERM and SIGHUP become an exception, so that the lab is taken down; only the main thread can arrange it."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            }

    def __enter__(self) -> Signals:
        # A program that nohup started ignores SIGHUP on purpose.
        for number in self._before:
            if number != signal.SIGINT and self._before[number] is not signal.SIG_IGN:
                signal.signal(number, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From now on nothing stops the way down; it takes no longer than the commands' grace."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    @staticmethod
    def _terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)
