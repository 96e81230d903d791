"""Threads that work for a service: kept for a while when they have nothing to do, made when there are too few."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["Crew"]

_log = logging.getLogger("vnet.rpc")
# Seconds that a thread without work is kept.
_LINGER = 5.0


class Crew:
    """Runs jobs, each at once, in threads.  How many there may be is for the one to know who hands jobs in.

    Arguments:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._idle = 0
        self._closed = False
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)

    def submit(self, job: Callable[[], object]) -> None:
        """Runs a job in a thread that has none, or in a new one."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
            thread = threading.Thread(
                target=self._work, args=(job,), name=f"{self._name}-{next(self._numbers)}", daemon=True
            )
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._threads.discard(thread)
            raise

    def close(self, deadline: float) -> bool:
        """Lets threads end that have nothing to do, waits for the others, and says whether all have ended."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads if thread is not threading.current_thread())

    def _work(self, job: Callable[[], object] | None) -> None:
        try:
            while job is not None:
                try:
                    job()
                except Exception:
                    _log.exception("a thread that serves calls failed")
                job = None
                with self._lock:
                    if self._closed:
                        return
                    self._idle += 1
                try:
                    job = self._jobs.get(timeout=_LINGER)
                except queue.Empty:
                    with self._lock:
                        if self._idle > 0:
                            self._idle -= 1
                            return
                    # A job was put in just now, and counted on this thread.
                    job = self._jobs.get()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
