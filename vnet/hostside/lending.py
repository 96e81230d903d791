"""What a TAP borrows from its machine, and the process that gives it back."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from ..errors import VnetError

__all__ = ["Lending"]

# Seconds: it waits for the device to go and for other labs that give back.
_GIVING_BACK_TAKES = 20.0


class Lending:
    """The end at which the base holds a :mod:`~vnet.hostside.guardian`; when it lets go, everything is given back.

    From its making until :meth:`settle`, no other lab borrows anything in this network namespace or gives it back.
    """

    def __init__(self) -> None:
        # One file, which needs neither vnet nor what pip installed.
        program = Path(__file__).with_name("guardian.py")
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
            cwd="/",
        )
        try:
            self._ask("lock")
        except BaseException:
            self.close()
            raise

    def tap(self, index: int) -> None:
        """Tells which device goes with the base."""
        self._ask("tap", str(index))

    def making(self, name: str, mac: str) -> None:
        """Tells that a bridge is about to be made; :meth:`hold` tells which it became."""
        self._ask("making", name, mac)

    def hold(self, kind: str, what: str, was: str) -> None:
        """Tells what is about to be borrowed, and how it is now; ``-`` if only others may have borrowed it."""
        self._ask("hold", kind, what, was)

    def settle(self) -> None:
        """Everything is borrowed: other labs may go on."""
        self._ask("settled")

    def _ask(self, *words: str) -> str:
        process = self._process
        answer = b""
        if process is not None and process.stdin is not None and process.stdout is not None:
            # ValueError: it was let go of meanwhile.
            with contextlib.suppress(OSError, ValueError):
                process.stdin.write(" ".join(words).encode() + b"\n")
                answer = process.stdout.readline()
        if not answer:
            raise VnetError("the process that gives back what a TAP borrows has ended; nothing more is borrowed")
        return answer.decode().strip()

    def release(self) -> None:
        """Has everything given back, without waiting for it.  May be called twice."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def close(self) -> None:
        """Gives everything back and waits until that is done.  May be called twice."""
        self.release()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_GIVING_BACK_TAKES)

    def abandon(self) -> None:
        """Forgets it in a forked child: it is the parent's."""
        self.release()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0
