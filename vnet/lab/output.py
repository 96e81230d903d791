"""What commands print: the last of it kept in memory, for whoever asks and for whoever follows."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import IO

__all__ = ["Output"]

# Bytes kept of what one node, or one stream of an exec step, prints.
LIMIT = 1 << 20


class Output:
    """What one or several commands print, one after the other.

    The last ``limit`` bytes are kept; all of it is written to ``log`` where one is given.  Positions count bytes from
    the very first.
    """

    def __init__(self, *, limit: int = LIMIT, log: Path | None = None) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0
        self._grown = threading.Condition()
        self._log = log
        self._reader: threading.Thread | None = None

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        with self._grown:
            return self._dropped + len(self._kept)

    def text(self, start: int = 0) -> str:
        """What is kept from ``start`` on, as text; its first line tells of bytes that are not kept."""
        found, kept = self.read(start)
        head = f"[{found - start:,} bytes earlier]\n" if found > start else ""
        return head + kept.decode("utf-8", "replace")

    def tail(self, lines: int = 3, start: int = 0) -> str:
        """The last lines that are not blank, on one line."""
        last = [line.strip() for line in self.text(start).splitlines() if line.strip()][-lines:]
        return " | ".join(last)

    def read(self, start: int = 0, most: int | None = None) -> tuple[int, bytes]:
        """The position of the first byte that is kept at or behind ``start``, and up to ``most`` bytes from it on."""
        with self._grown:
            start = max(start, self._dropped)
            first = start - self._dropped
            return start, bytes(self._kept[first : None if most is None else first + most])

    def wait(self, position: int, timeout: float) -> bool:
        """Wait until there is more than up to ``position``; False when there is not within ``timeout`` seconds."""
        with self._grown:
            return self._grown.wait_for(lambda: self._dropped + len(self._kept) > position, timeout)

    def lines_from(self, count: int) -> int:
        """The position at which the last ``count`` lines begin."""
        start, kept = self.read()
        if count <= 0:
            return start + len(kept)
        # The newline at the very end closes the last line and begins none.
        at = len(kept) - 1 if kept.endswith(b"\n") else len(kept)
        for _ in range(count):
            at = kept.rfind(b"\n", 0, at)
            if at < 0:
                return start
        return start + at + 1

    def follow(self, stream: IO[bytes]) -> None:
        """Keep what comes out of ``stream`` from now on, and close it when its other end is closed."""
        mode = "ab" if self._reader is not None else "wb"
        log = self._log.open(mode, buffering=0) if self._log is not None else None
        self._reader = threading.Thread(target=self._read, args=(stream, log), name="vnet command output", daemon=True)
        self._reader.start()

    def finish(self, timeout: float = 1.0) -> None:
        """Wait until the command's end of the pipe is closed, but not for what a runaway child may still hold open."""
        if self._reader is not None:
            self._reader.join(timeout)

    def _read(self, stream: IO[bytes], log: IO[bytes] | None) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), 65536):
                self._keep(chunk)
                if log is not None:
                    log.write(chunk)
        stream.close()
        if log is not None:
            log.close()

    def _keep(self, chunk: bytes) -> None:
        with self._grown:
            self._kept += chunk
            surplus = len(self._kept) - self._limit
            if surplus > 0:
                del self._kept[:surplus]
                self._dropped += surplus
            self._grown.notify_all()
