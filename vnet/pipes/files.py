"""Files of a pipe: buffered, of bytes or text, each with its own life; as the socket module has them."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .pipe import Pipe

__all__ = ["make_file"]

# Bytes of a file's buffer: what a memory copy is good at, where io's own 8 KiB suit a disk.
_BUFFER = 1 << 16


class _PipeFile(io.RawIOBase):
    """What is under a buffered file: a use of the pipe, whose end stays there for as long."""

    def __init__(self, pipe: Pipe, mode: str) -> None:
        self._pipe = pipe
        self.mode = mode
        self._late = False
        pipe._files.add(id(self))

    def readable(self) -> bool:
        self._check()
        return "r" in self.mode

    def writable(self) -> bool:
        self._check()
        return "w" in self.mode

    def readinto(self, buffer: Buffer, /) -> int | None:
        self._check()
        if self._late:
            # The buffered file above has thrown away what it had read when the time was over.
            raise OSError("cannot read from a file of a pipe after a timeout: what it had read is lost")
        pipe = self._pipe
        try:
            return pipe._end.readinto(buffer, pipe._block, pipe._timeout)
        except TimeoutError:
            self._late = True
            raise

    def write(self, data: Buffer, /) -> int | None:
        self._check()
        pipe = self._pipe
        # Part of it is as good as all: the buffered file above keeps the rest.
        return pipe._end.write(data, pipe._block, pipe._timeout)

    def fileno(self) -> int:
        self._check()
        return self._pipe._end.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._pipe._let_go(id(self))

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def __repr__(self) -> str:
        return f"<file of {self._pipe!r}, mode {self.mode!r}>"


def make_file(
    pipe: Pipe, mode: str, buffering: int | None, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """Returns a file of the pipe; see :meth:`Pipe.makefile`."""
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    pipe._check(stream=True)
    writing = "w" in mode
    reading = "r" in mode or not writing
    binary = "b" in mode
    size = _BUFFER if buffering is None or buffering < 0 else buffering
    if size == 0 and not binary:
        raise ValueError("unbuffered streams must be binary")
    raw = _PipeFile(pipe, "r" * reading + "w" * writing)
    if size == 0:
        return raw  # type: ignore[return-value]
    buffer: Any
    if reading and writing:
        buffer = io.BufferedRWPair(raw, raw, size)
    elif reading:
        buffer = io.BufferedReader(raw, size)
    else:
        buffer = io.BufferedWriter(raw, size)
    if binary:
        return buffer  # type: ignore[no-any-return]
    text = io.TextIOWrapper(buffer, encoding, errors, newline)
    text.mode = mode  # type: ignore[misc]
    return text
