"""The dispatcher of a guest: takes items off its queues and calls handlers, one after the other."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .. import _native
from ..errors import ForkedNic, LanClosed, NicClosed, QueueClosed
from .desk import check
from .queue import WorkQueue

if TYPE_CHECKING:
    from ..sharing.guest import Sharing
    from .desk import Desk

__all__ = ["Dispatcher"]

_log = logging.getLogger("vnet.queues")
_Handler = TypeVar("_Handler", bound=Callable[[Any], Any])
# Items that a handler of batches gets at most, unless it says how many.
_BATCH = 1024
# Seconds after which an async run lets others of its loop have a turn, and looks whether the guest is still on the LAN.
_TURN = 0.005
_SLICE = 0.1


@dataclass(frozen=True)
class _Served:
    queue: WorkQueue
    handler: Callable[[Any], Any]
    batch: bool
    view: bool


class Dispatcher:
    """Takes items off a guest's queues and calls their handlers, one at a time.

    Made by ``guest.dispatcher()``; a guest has one.  Of the items that wait it takes one of the highest priority, from
    all queues with such in turn, and within a priority of a queue in the order in which they were posted; no priority
    is spared for those below it.  While a handler runs or items wait, nobody who posts interrupts it.

    Run it in this thread (:meth:`run`), in one of its own (:meth:`start`), in an event loop (:meth:`arun`), or whenever
    :meth:`fileno` is readable (``run(timeout=0)``); one at a time.  A context manager, whose end closes it.

    Attributes:
        on_error: called with an exception that a handler raised, and the queue; what it returns is nothing.  The
            default logs it as ``vnet.queues``.  A queue that is damaged, and is served no more, is told of in the same
            way.
    """

    def __init__(self, guest: Sharing, desk: Desk) -> None:
        self.on_error: Callable[[Exception, WorkQueue], object] = _report
        self._guest = guest
        self._desk = desk
        self._taker = _native.Taker(desk.native, desk.port)
        self._served: dict[int, _Served] = {}
        # Of those that get the item, or the list, as it comes.
        self._plain: dict[int, Callable[[Any], Any]] = {}
        self._numbers: weakref.WeakKeyDictionary[WorkQueue, int] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._changing = threading.Lock()
        self._stopping = False
        self._pid = os.getpid()
        desk.leaving.append(self.off)
        desk.resting.append(self._taker.rest)

    # What it serves

    def on(self, queue: WorkQueue, *, batch: bool | int = False, view: bool = False) -> Callable[[_Handler], _Handler]:
        """Has the decorated function called with each item of a queue, as bytes.

        Arguments:
            queue: one of this guest's own.
            batch: call it with a list of items instead, all of one priority: as many as wait, up to this number, or
                1,024 if it is ``True``.
            view: call it with a read-only :class:`memoryview` of the item where it lies instead; the view is released,
                and the item's place given back, when the handler returns.

        Returns:
            A decorator that returns the function as it is.  An ``async def`` is served by :meth:`arun` alone.

        Raises:
            ValueError: the queue is another guest's, is closed, or has a handler; ``batch`` is less than 1; both were
            asked.
        """
        if not isinstance(queue, WorkQueue):
            raise TypeError(f"a dispatcher serves work queues, not {type(queue).__name__}: dispatcher.on(queue)")
        if queue._desk is not self._desk:
            raise ValueError(f"{queue!r} is worked on by {queue.owner}: this is the dispatcher of {self._desk.name}")
        if batch and view:
            raise ValueError("a handler gets batches or views, not both")
        if not isinstance(batch, int) or batch < 0:
            raise ValueError(f"batch is True or the most items of a batch, not {batch!r}")
        most = _BATCH if batch is True else int(batch)

        def serve(handler: _Handler) -> _Handler:
            if not callable(handler):
                raise TypeError(f"a handler is a function of an item, not {type(handler).__name__}")
            with self._changing:
                if queue in self._numbers:
                    raise ValueError(f"{queue!r} has a handler already; take it away with dispatcher.off(queue)")
                # What comes between the two would find no handler.
                number = self._taker.serve(queue, max(2, most) if batch else 1, view)
                self._served[number] = _Served(queue, handler, bool(batch), view)
                if not view:
                    self._plain[number] = handler
                self._numbers[queue] = number
                self._desk.served.add(queue)
            return handler

        return serve

    def off(self, queue: WorkQueue) -> None:
        """Serves a queue no more; what waits in it waits on.  Nothing where it was not served."""
        with self._changing:
            number = self._numbers.pop(queue, None)
            if number is not None:
                self._taker.leave(number)
                self._plain.pop(number, None)
                self._served.pop(number, None)
                self._desk.served.discard(queue)

    # Running

    def run(self, timeout: float | None = None, limit: int | None = None) -> int:
        """Calls handlers until :meth:`stop`, in this thread.

        Arguments:
            timeout: seconds after which it returns, when the handler that runs then has ended; 0 for the items that
                wait at the start; ``None`` for no end.
            limit: items after which it returns; a batch counts what it holds.

        Returns:
            How many items were handled, with success or not.

        Raises:
            TypeError: a handler is async: :meth:`arun` serves those.
            VnetError: another thread works on this guest's queues.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        self._stopping = False
        return self._run(timeout, limit)

    def _run(self, timeout: float | None, limit: int | None) -> int:
        self._check_arguments(timeout, limit)
        taker, plain, handled = self._taker, self._plain, 0
        with self._desk.working():
            check(self._guest, taker)
            if timeout == 0:
                limit = min(taker.backlog(), limit if limit is not None else 1 << 62)
            deadline = None if timeout is None else time.monotonic() + timeout
            while not self._stopping and (limit is None or handled < limit):
                taken = taker.take(None if limit is None else limit - handled)
                if taken is not None:
                    number, priority, count, what = taken
                    handled += count
                    handler = plain.get(number) if count else None
                    if handler is None:
                        self._handle(number, priority, what)
                    else:
                        try:
                            result = handler(what)
                            if result is not None:
                                _refuse_coroutine(result)
                        except Exception as error:
                            self._failed(error, number)
                    if deadline is None or timeout == 0 or time.monotonic() < deadline:
                        continue
                    break
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                if not taker.wait(left):
                    check(self._guest, taker)
            if timeout == 0:
                self._tell_damage()
        return handled

    def _tell_damage(self) -> None:
        """Without items to handle: a queue that was found damaged makes the descriptor readable all the same."""
        while (found := self._taker.take(0)) is not None and found[3] is None:
            self._handle(found[0], found[1], None)

    def _handle(self, number: int, priority: int, what: Any) -> None:
        """What is not plain: an item in place, or damage, which is ``None``."""
        served = self._served.get(number)
        if served is None:
            # It was closed meanwhile.
            return
        if what is None:
            self._broken(served.queue)
            return
        try:
            with self._viewed(served, number, priority, what) as view:
                _refuse_coroutine(served.handler(view))
        except Exception as error:
            self._tell(error, served.queue)

    @contextlib.contextmanager
    def _viewed(self, served: _Served, number: int, priority: int, place: tuple[int, int]) -> Any:
        try:
            view = served.queue._view(*place)
            try:
                yield view
            finally:
                # A part of it that was kept shows from now on what others post.
                with contextlib.suppress(BufferError):
                    view.release()
        finally:
            self._taker.done(number, priority)

    def _broken(self, queue: WorkQueue) -> None:
        self.off(queue)
        self._tell(QueueClosed(f"{queue!r} is damaged: some process wrote over it, and it is served no more"), queue)

    def _failed(self, error: Exception, number: int) -> None:
        served = self._served.get(number)
        if served is not None:
            self._tell(error, served.queue)
        else:
            # The handler closed its queue before it failed.
            _log.error("a handler of a queue that it closed failed", exc_info=error)

    def _tell(self, error: Exception, queue: WorkQueue) -> None:
        try:
            self.on_error(error, queue)
        except Exception:
            # Not even what tells of errors ends the work.
            _log.exception("what tells of errors of %r failed", queue)

    def _check_arguments(self, timeout: float | None, limit: int | None) -> None:
        if os.getpid() != self._pid:
            raise ForkedNic("this dispatcher belongs to the parent process; open queues anew after fork()")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout is in seconds and at least 0, not {timeout}")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is at least 1 item, not {limit}")

    async def arun(self, timeout: float | None = None, limit: int | None = None) -> int:
        """As :meth:`run`, in the running event loop; handlers may be ``async``, and are awaited one after the other."""
        import asyncio

        self._stopping = False
        self._check_arguments(timeout, limit)
        taker, handled, loop = self._taker, 0, asyncio.get_running_loop()
        with self._desk.working():
            check(self._guest, taker)
            if timeout == 0:
                limit = min(taker.backlog(), limit if limit is not None else 1 << 62)
            start = turn = loop.time()
            while not self._stopping and (limit is None or handled < limit):
                taken = taker.take(None if limit is None else limit - handled)
                left = None if not timeout else start + timeout - loop.time()
                if taken is not None:
                    handled += await self._ahandle(*taken)
                if left is not None and left <= 0:
                    break
                if taken is None:
                    if timeout == 0:
                        break
                    await self._readable(_SLICE if left is None else min(left, _SLICE))
                    check(self._guest, taker)
                elif loop.time() - turn > _TURN:
                    await asyncio.sleep(0)
                    turn = loop.time()
        return handled

    async def _ahandle(self, number: int, priority: int, count: int, what: Any) -> int:
        served = self._served.get(number)
        if served is None:
            return count
        if what is None:
            self._broken(served.queue)
            return count
        try:
            if served.view:
                with self._viewed(served, number, priority, what) as view:
                    result = served.handler(view)
                    if inspect.isawaitable(result):
                        await result
            else:
                result = served.handler(what)
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            self._tell(error, served.queue)
        return count

    async def _readable(self, timeout: float) -> None:
        """Waits until there is work, or the time is over."""
        import asyncio

        loop, descriptor = asyncio.get_running_loop(), self._taker.fileno()
        woken: asyncio.Future[None] = loop.create_future()
        # Says that it waits, and looks once more: from here on whoever posts makes the descriptor readable.
        self._taker.rest()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        loop.add_reader(descriptor, wake)
        try:
            await asyncio.wait([woken], timeout=timeout)
        finally:
            loop.remove_reader(descriptor)

    def fileno(self) -> int:
        """Returns a descriptor that is readable while items wait and nobody runs the dispatcher, and when the LAN ends.

        For ``select`` and ``selectors``: call ``run(timeout=0)`` whenever it is readable.

        Raises:
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        if os.getpid() != self._pid:
            raise ForkedNic("this dispatcher belongs to the parent process; open queues anew after fork()")
        descriptor = self._taker.fileno()
        with contextlib.suppress(Exception), self._desk.working():
            # Whoever works leaves the desk so that it is; where nobody does, this does.
            pass
        return descriptor

    def set_spin(self, spin: str) -> None:
        """Chooses how long it looks for items before it sleeps.

        Arguments:
            spin: ``"adaptive"``, the default: about as long as it has lately paid off; ``"never"``, which keeps the
                processor free; ``"always"``, which keeps it busy.
        """
        self._taker.set_spin(spin)

    # A thread of its own

    def start(self) -> None:
        """Runs in a thread of its own, until :meth:`stop`, or the guest is off the LAN.

        Raises:
            ValueError: it was started already.
        """
        if os.getpid() != self._pid:
            raise ForkedNic("this dispatcher belongs to the parent process; open queues anew after fork()")
        with self._changing:
            if self._thread is not None and self._thread.is_alive():
                raise ValueError(f"the dispatcher of {self._desk.name} was started already")
            self._stopping = False
            self._thread = threading.Thread(target=self._serve, name="vnet-dispatcher", daemon=True)
            self._thread.start()
            # Before the interpreter ends, where a thread of native code may not come back to it.
            atexit.register(self.stop)

    def _serve(self) -> None:
        # Closed under its hands: that is how it ends in good order.
        with contextlib.suppress(LanClosed, NicClosed):
            self._run(None, None)

    def stop(self, timeout: float | None = None) -> None:
        """Makes :meth:`run` return when the handler that runs has ended, in whatever thread, and waits for that of
        :meth:`start`.  May be called twice, and from a handler.

        Arguments:
            timeout: seconds to wait for the thread at most; ``None`` for as long as it takes.
        """
        if os.getpid() != self._pid:
            return
        self._stopping = True
        self._taker.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        atexit.unregister(self.stop)

    def close(self) -> None:
        """Stops, and closes all queues that it serves.  May be called twice."""
        self.stop()
        for served in list(self._served.values()):
            served.queue.close()

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Dispatcher of {self._desk.name}: {len(self._served)} queues>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a dispatcher cannot be pickled: it is memory and threads of this process")


def _refuse_coroutine(result: Any) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the handler is async: run the dispatcher with `await dispatcher.arun()`")


def _report(error: Exception, queue: WorkQueue) -> None:
    _log.error("a handler of %r failed", queue, exc_info=error)
