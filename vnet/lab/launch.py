"""Starting a base in the background, as the client sees it; :mod:`vnet.lab.daemon` tells the whole story."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from vnet import errors
from vnet.errors import VnetError
from vnet.lab.commands import describe_end
from vnet.lab.daemon import SIGNALS, run_base
from vnet.lab.plan import Lab

__all__ = ["Launch"]

# Seconds after which a base that was told to end is killed; its guardian clears away what it leaves.
_PATIENCE = 5.0


class Launch:
    """A base on its way up.

    Args:
        lab: the lab.
        origin: which file it comes from.
    """

    def __init__(self, lab: Lab, origin: str) -> None:
        if threading.active_count() > 1:
            raise RuntimeError("a base is forked by a process with one thread")
        self._lab = lab
        self._link, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A Ctrl-C between the fork and the child's leave of the terminal is for the client alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                run_base(lab, origin, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._reader = self._link.makefile("rb")

    def wait(self, progress: Callable[[str], None], say: Callable[[str], None]) -> float:
        """Wait until the lab is up, and return the seconds that it took the base.

        Args:
            progress: called with a few words before each thing that may take a while.
            say: called with each line that is for the user.

        Raises:
            VnetError: it did not come up, or the base died; nothing is left of it.
        """
        while line := self._reader.readline():
            news = json.loads(line)
            if "ready" in news:
                return float(news["ready"]["seconds"])
            if "failed" in news:
                self._close()
                self._reap()
                raise _error(news["failed"])
            if "said" in news:
                say(news["said"])
            else:
                progress(news["progress"])
        self._close()
        code = self._reap()
        raise VnetError(
            f"the base of lab {self._lab.name!r} {describe_end(code)} while the lab came up; nothing of it is left"
        )

    def hold_signals(self) -> None:
        """Put signals off for good: who is told from here on that the lab is up finds it up."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGQUIT))

    def settle(self) -> NoReturn:
        """Let the lab go on its own, and end this process with code 0: its very last act.

        Raises:
            VnetError: the base died.
        """
        try:
            self._link.send(b"\n")
        except OSError:
            code = self._reap()
            raise VnetError(
                f"the base of lab {self._lab.name!r} {describe_end(code)}; nothing of the lab is left"
            ) from None
        os._exit(0)

    def abandon(self) -> None:
        """Have the base take everything down, and wait until it has; nothing stops this."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._close()
        self._reap()

    def _close(self) -> None:
        self._reader.close()
        self._link.close()

    def _reap(self) -> int:
        """Wait for the base to end; its exit code, negative for a signal."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid == 0:
                    if time.monotonic() > deadline:
                        os.kill(self.pid, signal.SIGKILL)
                    time.sleep(0.002)
                    continue
                return os.waitstatus_to_exitcode(status)
            return 0


def _error(plain: dict[str, str]) -> Exception:
    if plain["traceback"] and os.environ.get("VNET_TRACEBACK"):
        sys.stderr.write(plain["traceback"])
    kind = getattr(errors, plain["error"], None) if plain["error"] in errors.__all__ else None
    if plain["error"] == "BeingEnded":
        return VnetError("the lab was taken down while it came up")
    if plain["traceback"]:
        return RuntimeError(f"{plain['error']}: {plain['message']}")
    return kind(plain["message"]) if kind is not None else VnetError(plain["message"])
