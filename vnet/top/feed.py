"""What the base of a live LAN tells, followed in threads that the application's event loop never waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from vnet.calls import stream
from vnet.drops import Drop, DropStream, follow
from vnet.errors import LanClosed, VnetError
from vnet.sample import NicRates, Sample, rates

__all__ = ["Drops", "Samples"]

# Seconds after which a thread looks whether it is to end.
_LOOK = 0.2
# Drops a second from which on they are too many to read them all; and seconds until some are taken again.
_MOST = 2000
_BREATH = 0.5
# Drops that a pane may show, at most.
KEPT = 200


class _Follower:
    """A thread that follows something until it is told to stop, or that ends."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)
        self.trouble = ""

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _guarded(self) -> None:
        try:
            self._run()
        except LanClosed:
            pass
        except (VnetError, OSError, ValueError) as error:
            self.trouble = str(error)
        self._over()

    def _run(self) -> None:
        raise NotImplementedError

    def _over(self) -> None:
        """What there was to follow has ended."""


class Samples(_Follower):
    """Samples of a LAN, with the rates since the one before.

    Arguments:
        lan: the LAN's name.
        every: seconds between two samples.
        arrived: is told of each, in the thread; rates are empty at the first.
        ended: is told when the LAN has ended.
    """

    def __init__(
        self,
        lan: str,
        every: float,
        arrived: Callable[[Sample, dict[str, NicRates]], object],
        ended: Callable[[], object],
    ) -> None:
        super().__init__("vnet-top-samples")
        self._lan, self._every, self._arrived, self._ended = lan, every, arrived, ended

    def _run(self) -> None:
        before = None
        with stream(self._lan, "statistics", every=self._every) as answers:
            while not self._stopping.is_set():
                try:
                    answer = answers.next(_LOOK)
                except TimeoutError:
                    continue
                if answer is None:
                    return
                sample = Sample.from_dict(answer)
                self._arrived(sample, rates(before, sample) if before is not None else {})
                before = sample

    def _over(self) -> None:
        if not self._stopping.is_set():
            self._ended()


class Drops(_Follower):
    """The last drops of a LAN, the newest last.

    Where they come faster than anybody reads, only some are taken now and then: what is shown is then the newest, and
    not what has waited in a queue, and senders are left alone in between.  ``sampled`` says so.
    """

    def __init__(self, lan: str) -> None:
        super().__init__("vnet-top-drops")
        self.last: deque[Drop] = deque(maxlen=KEPT)
        self.sampled = False
        self._lan = lan

    def _run(self) -> None:
        while not self._stopping.is_set():
            with follow(self._lan) as drops:
                self.sampled = self._read(drops)
            if not self.sampled:
                return
            self._stopping.wait(_BREATH)

    def _read(self, drops: DropStream) -> bool:
        """Reads until there are too many in a second.  Returns whether it was that; else there are no more."""
        since, read = time.monotonic(), 0
        while not self._stopping.is_set():
            try:
                drop = drops.next(_LOOK)
            except TimeoutError:
                self.sampled = False
                continue
            if drop is None:
                return False
            self.last.append(drop)
            read += 1
            if read == _MOST:
                if time.monotonic() < since + 1.0:
                    return True
                since, read = time.monotonic(), 0
                self.sampled = False
        return False
