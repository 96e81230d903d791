"""What is going on, on one line of a terminal that goes away again."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from vnet.cli.output import complain

__all__ = ["Progress", "progress"]


class Progress:
    """A line of standard error; nothing at all where that is no terminal that can take a line back.

    It has no thread and no spinner: ``vnet up`` forks while it stands.
    """

    def __init__(self) -> None:
        able = os.environ.get("TERM", "dumb") not in ("", "dumb")
        self._shown = False
        with contextlib.suppress(OSError, ValueError):
            self._able = able and sys.stderr.isatty()
            return
        self._able = False

    def __call__(self, words: str) -> None:
        """Show ``words`` in place of what was shown before."""
        if not self._able:
            return
        width = _width()
        line = f"{words} ..." if width is None or len(words) + 4 < width else words[: max(0, width - 1)]
        self._write(f"\r\x1b[K{line}")
        self._shown = True

    def say(self, sentence: str) -> None:
        """Say something that stays."""
        self.clear()
        complain(sentence)

    def clear(self) -> None:
        """Take the line back."""
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A progress line that is gone when the context is left, whatever happens."""
    line = Progress()
    try:
        yield line
    finally:
        line.clear()


def _width() -> int | None:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    except (OSError, ValueError):
        return None
