"""What steps that send datagrams share: the count of verdicts and the rate."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from vnet.lab.limits import Limit
from vnet.lab.steps.base import Stage
from vnet.lab.units import Dimension, show
from vnet.verdict import Verdict

__all__ = ["Tally", "batches", "sleep_until"]

BATCH = 1024

T = TypeVar("T")


class Tally:
    """Counts verdicts and delivered bytes from its creation on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._verdicts: Counter[int] = Counter()
        self._delivered_bytes = 0
        self._end = self._start

    def send(self, stage: Stage, node: str, datagrams: Sequence[bytes], *, block: bool) -> None:
        """Send as the NIC of ``node``, the first of several, and count what became of each datagram.

        Raises:
            StepEnded: the step must end.
        """
        stage.limit.check()
        left = stage.limit.left()
        # Where the time runs out the rest is sent without waiting, and the next call ends the step.
        nic = stage.lab.nodes[node].nics[0]
        verdicts = stage.lan.inject(nic, datagrams, block=block, timeout=None if math.isinf(left) else left)
        self._verdicts.update(verdicts)
        self._delivered_bytes += sum(
            len(datagram) for datagram, verdict in zip(datagrams, verdicts, strict=True) if verdict == Verdict.DELIVERED
        )
        self._end = time.perf_counter()
        if block:
            stage.limit.check()

    def metrics(self) -> dict[str, float | str | None]:
        """``sent``, one count for each verdict, and ``rate``, the delivered bits a second."""
        seconds = self._end - self._start
        counts = {verdict.name.lower(): self._verdicts[verdict] for verdict in Verdict}
        rate = self._delivered_bytes * 8 / seconds if seconds > 0 else 0.0
        return {"sent": sum(self._verdicts.values()), **counts, "rate": rate}

    def summary(self) -> str:
        """``98 delivered, 2 no_host, 1.2 Mbit/s``."""
        parts = [f"{self._verdicts[v]:,} {v.name.lower()}" for v in Verdict if self._verdicts[v]]
        rate = float(self.metrics()["rate"] or 0)
        if rate:
            parts.append(show(rate, Dimension.RATE))
        return ", ".join(parts) or "nothing sent"


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def sleep_until(due: float, limit: Limit) -> None:
    """Sleep until ``due`` on the clock of :func:`time.perf_counter`; not at all when it has passed.

    Raises:
        StepEnded: the step must end before.
    """
    if (left := due - time.perf_counter()) > 0:
        limit.sleep(left)
