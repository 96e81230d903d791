"""Pipes between guests as links of calls."""

from __future__ import annotations

from typing import Any

from .wire import Limits

__all__ = ["PipeLink", "pipe_size"]

_LEAST = 1 << 20


def pipe_size(limits: Limits) -> int:
    """Bytes that a pipe for calls has room for in each direction: one of the longest messages, and as much again."""
    return max(_LEAST, 1 << (2 * limits.message - 1).bit_length())


class PipeLink:
    """A :class:`vnet.pipes.Pipe` of messages as a link.

    Arguments:
        pipe: which is closed with the link.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        # Past the pipe's own look whether it is open: the native end looks again, and a call has four of them.
        self.write = pipe._end.write
        self.read_message = pipe._end.read_message

    def fileno(self) -> int:
        """A descriptor for event loops."""
        return int(self._pipe.fileno())

    def close(self) -> None:
        """Closes the pipe.  May be called twice."""
        self._pipe.close()
