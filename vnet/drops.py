"""Follows the datagrams that a live LAN drops, from another process."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .calls import Stream, stream
from .errors import LanClosed
from .pcapng import CapturedPacket, PcapngReader
from .verdict import Verdict

__all__ = ["Drop", "DropStream", "follow"]

# Bytes of each datagram that followers get: the headers, and a little of what they carry.
FIRST_BYTES = 96


@dataclass(frozen=True)
class Drop:
    """A datagram that did not arrive.

    Attributes:
        time: nanoseconds since the epoch.
        nic: the NIC that sent it; or, where ``direction`` is ``in``, that a copy of a broadcast did not get into.
        direction: ``out`` or ``in``.
        reason: the verdict.
        length: its bytes.
        head: the first of them.
        missed: drops since the last one that came too fast to be told.
    """

    time: int
    nic: str
    direction: str
    reason: Verdict
    length: int
    head: bytes
    missed: int

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for JSON."""
        return {
            "time": self.time / 1e9,
            "nic": self.nic,
            "direction": self.direction,
            "reason": self.reason.name.lower(),
            "length": self.length,
            "bytes": self.head.hex(),
            "missed": self.missed,
        }


class DropStream:
    """Drops as they come: an iterator and a context manager; leaving it ends the following."""

    def __init__(self, call: Stream, pipe: int) -> None:
        self._call = call
        self._pipe = pipe
        self._reader = PcapngReader()
        self._waiting: deque[Drop] = deque()
        self._ended = False

    def fileno(self) -> int:
        """A descriptor that is readable when there may be drops."""
        return self._pipe

    def next(self, timeout: float | None = None) -> Drop | None:
        """Waits up to ``timeout`` seconds for the next drop.

        Returns:
            The drop, or ``None`` when the LAN has ended.

        Raises:
            TimeoutError: none came in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._waiting:
            if self._ended:
                return None
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._pipe], [], [], left)[0]:
                raise TimeoutError("no datagram was dropped in time")
            data = os.read(self._pipe, 1 << 18)
            self._ended = not data
            self._waiting.extend(map(_drop, self._reader.feed(data)))
        return self._waiting.popleft()

    def __iter__(self) -> DropStream:
        return self

    def __next__(self) -> Drop:
        drop = self.next()
        if drop is None:
            raise StopIteration
        return drop

    def close(self) -> None:
        """Ends the following.  May be called twice."""
        self._call.close()
        pipe, self._pipe = self._pipe, -1
        self._ended = True
        if pipe >= 0:
            os.close(pipe)

    def __enter__(self) -> DropStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def follow(lan: str, nics: Sequence[str] = ()) -> DropStream:
    """Follows the drops of the live LAN ``lan`` from now on; what is dropped once this has returned is told.

    Arguments:
        lan: the LAN's name.
        nics: names of NICs; all where none are given.

    Raises:
        LanNotFound, NotPermitted: as of :func:`vnet.attach`.
        VnetError: there is no such NIC.
    """
    reading, writing = os.pipe()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, reading)
        try:
            call = undo.enter_context(stream(lan, "drops", files=(writing,), nics=list(nics), first_bytes=FIRST_BYTES))
        finally:
            os.close(writing)
        if call.next(10.0) is None:
            raise LanClosed(f"the LAN {lan!r} has ended")
        undo.pop_all()
    return DropStream(call, reading)


def _drop(packet: CapturedPacket) -> Drop:
    return Drop(
        time=packet.time,
        nic=packet.interface,
        direction=packet.direction,
        reason=Verdict[packet.comment.removeprefix("dropped: ").upper()],
        length=packet.length,
        head=packet.data,
        missed=packet.missed,
    )
