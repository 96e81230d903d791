"""Captures of a LAN."""

from __future__ import annotations

import os
from types import TracebackType

from . import _native
from .errors import CaptureError

__all__ = ["Capture"]


class Capture:
    """A running capture, made by :meth:`vnet.Lan.capture`.

    The file is pcapng: one interface block for each NIC, a packet block on the sender's interface (outbound) and one on
    each receiver's (inbound), the reason as a packet comment where a datagram was dropped, times in nanoseconds.

    Attributes:
        path: the file.
        datagrams: datagrams in the file, known once the capture is closed.
        missed: datagrams and copies of broadcasts that came faster than they could be written, known likewise.
    """

    def __init__(self, base: _native.Base, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.datagrams = 0
        self.missed = 0
        self.closed = False
        try:
            with open(path, "wb") as file:
                self._capture = base.capture(file.fileno())
        except OSError as error:
            raise CaptureError(f"{self.path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Ends the capture, once all that was sent before is in the file.  May be called twice.

        Raises:
            CaptureError: the file could not be written whole.
        """
        if self.closed:
            return
        self.closed = True
        self.datagrams, self.missed, error = self._capture.stop()
        if error is not None:
            raise CaptureError(f"{self.path} is not whole: {error}")

    def _abandon(self) -> None:
        """Forgets the capture in a forked child: it is the parent's."""
        self.closed = True
        self._capture.abandon()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
