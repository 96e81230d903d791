"""The base that ``vnet up`` leaves behind: forked by the client, bound to it until the lab is up, then on its own.

::

    client (vnet up)                                   base
    read the lab
    fork ────────────────────────────────────────────► a session of its own, no terminal
      │  ◄── {"progress": ...} ─────────────────────── build, start, wait until ready
      │  ◄── {"ready": ...} ──────────────────────────
    print, flush                                         waits
    one byte, then _exit ────────────────────────────► the lab is on its own; serves calls until it is asked to end

They are bound by a socket pair.  A client that dies, at whatever moment before that byte, breaks it, and the base takes
down what it has built; a base that dies breaks it, and the client says so.  What a base leaves that is killed, its
guardian clears away (:mod:`vnet.runtime`).

Forking and not spawning: the child has the plan and every module already, which is worth a quarter of a second.  The
client has one thread at that time, so that no lock is held by a thread that the child does not have.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from vnet.errors import LanClosed, VnetError
from vnet.lab.plan import Lab
from vnet.lab.session import Session, Settings

__all__ = ["BeingEnded", "Wanted", "run_base"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds that commands get to end by themselves when the client has died.
_SHORT_GRACE = 0.3
# Seconds for the last answers of calls to go out.
_LAST_WORDS = 1.0


class BeingEnded(LanClosed):
    """The lab is being taken down."""


class Wanted:
    """Whether the lab is wanted; asked by everything in the base that waits.

    Signal handlers write to it, so it is a pipe and no lock.

    Args:
        link: the connection to the client, whose end means that the lab is not wanted.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link: socket.socket | None = link
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._hurry: Callable[[], bool] = lambda: False

    def end(self, hurry: Callable[[], bool] | None = None) -> None:
        """It is not wanted any more; ``hurry`` may come true and cut the grace of its commands short."""
        if hurry is not None:
            self._hurry = hurry
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"x")

    def hurry(self) -> bool:
        """Whether the commands have no more time to end by themselves."""
        return self._hurry()

    def pause(self, seconds: float | None) -> None:
        """Wait so many seconds; None: until it is not wanted.

        Raises:
            BeingEnded: it is not wanted.
        """
        asked, link = self._look(seconds)
        if link and not asked:
            self._abandoned()
        if asked or link:
            raise BeingEnded("the lab is being taken down")

    def settle(self) -> None:
        """Wait until the client lets the lab go on its own.

        Raises:
            BeingEnded: the client is gone, or the lab is not wanted.
        """
        asked, _ = self._look(None)
        if not asked and self._link is not None and self._link.recv(1):
            self._link = None
            return
        if not asked:
            self._abandoned()
        raise BeingEnded("the lab is being taken down")

    def _look(self, seconds: float | None) -> tuple[bool, bool]:
        """Whether somebody has asked for the end, and whether the client has said something or gone."""
        watched = select.poll()
        watched.register(self._read, select.POLLIN)
        if self._link is not None:
            watched.register(self._link, select.POLLIN)
        found = {fd for fd, _ in watched.poll(None if seconds is None else seconds * 1000)}
        return self._read in found, bool(found - {self._read})

    def _abandoned(self) -> None:
        deadline = time.monotonic() + _SHORT_GRACE
        self.end(lambda: time.monotonic() > deadline)


def run_base(lab: Lab, origin: str, link: socket.socket) -> NoReturn:
    """Be the base of ``lab``; in a forked child, which it ends.  Signals are blocked when it is called."""
    began = time.perf_counter()
    code = 2
    try:
        _detach(link)
        wanted = Wanted(link)
        for number in SIGNALS:
            # A program that nohup started ignores SIGHUP on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: wanted.end())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = _live(lab, origin, link, wanted, began)
    except BaseException as error:
        # Nobody is there to read a traceback but the client.
        _tell(link, failed=_plain(error))
    finally:
        os._exit(code)


def _live(lab: Lab, origin: str, link: socket.socket, wanted: Wanted, began: float) -> int:
    from vnet.lab.service import serve_lab

    settings = Settings(
        kind="lab",
        origin=origin,
        progress=lambda words: _tell(link, progress=words),
        say=lambda line: _tell(link, said=line),
        pause=wanted.pause,
    )
    session = Session(lab, settings)
    failure: BaseException | None = None
    try:
        session.build()
        serve_lab(session, wanted)
        session.start()
        _tell(link, ready={"seconds": time.perf_counter() - began})
        wanted.settle()
        link.close()
        wanted.pause(None)
    except BaseException as error:
        failure = error
    finally:
        session.close(wanted.hurry)
        _let_calls_end()
    if failure is not None and link.fileno() >= 0:
        _tell(link, failed=_plain(failure))
        return 2
    return 0


def _let_calls_end() -> None:
    """Wait for the calls' last answers to go out."""
    deadline = time.monotonic() + _LAST_WORDS
    for thread in threading.enumerate():
        if thread.name == "vnet-call":
            thread.join(max(0.0, deadline - time.monotonic()))


def _detach(link: socket.socket) -> None:
    """Leave the client's session, terminal, directory and descriptors."""
    os.setsid()
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    # Whatever the client's caller lets it inherit, a pipe or a lock, must not stay open as long as the lab is up.
    # Frozen, no object of the client's is collected later and closes a descriptor that has become another's.
    gc.freeze()
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number > 2 and number != link.fileno():
            with contextlib.suppress(OSError):
                os.close(number)


def _tell(link: socket.socket, **news: Any) -> None:
    """Tell the client, if it is still there."""
    with contextlib.suppress(OSError):
        link.sendall(json.dumps(news).encode() + b"\n")


def _plain(error: BaseException) -> dict[str, str]:
    expected = isinstance(error, (VnetError, ValueError))
    return {
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "" if expected else "".join(traceback.format_exception(error)),
    }
