"""A service: an object, the interface by which others may call it, and the threads that do so.

Threads: one for each caller, which reads its pipe and works on quick calls itself, because handing a call to another
thread costs more than most calls take; and a bounded number beside these, for calls that take long.  A pool alone would
pay that price for every call; a thread for each connection alone would have a caller's second call wait for its first,
and nobody would see that the first was cancelled.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..errors import InterfaceError, RemoteError
from .connection import Connection, ServedCall
from .context import current
from .crew import Crew
from .failures import Failure, failure_of
from .interface import Interface, interface_of
from .method import Method, WrongResult
from .watch import Watch
from .wire import Limits, Link

__all__ = ["Service", "handlers_of"]

_log = logging.getLogger("vnet.rpc")
# Calls in which a method has to be quick, once it was slow, before readers work on it themselves again: one at first,
# because on a busy machine a quick one may just have been without a processor, and twice as many whenever it is slow
# again, up to so many.
_TRUST = 16
# Seconds that a quick one takes at most.
_QUICK = 0.003

Handlers = tuple[tuple[Callable[..., Any], tuple[str, ...]], ...]


def handlers_of(implementation: Any, interface: Interface) -> Handlers:
    """The implementation of each method, and the names of those arguments that it takes by name only.

    Raises:
        InterfaceError: the implementation lacks a method, or takes other arguments.
    """
    handlers = []
    cls = type(implementation).__name__
    for method in interface.numbered:
        handler = getattr(implementation, method.name, None)
        if not callable(handler):
            raise InterfaceError(f"{cls} has no method {method.name!r}, which {interface.name} declares")
        names = tuple(each.name for each in method.parameters if each.kind == "keyword")
        by_place = [None] * (len(method.parameters) - len(names))
        try:
            inspect.signature(handler).bind(*by_place, **dict.fromkeys(names))
        except TypeError as error:
            raise InterfaceError(f"{cls}.{method.name} does not take what {method.text()} declares: {error}") from None
        except ValueError:
            # Written in C without a signature; it will say so itself when it is called.
            pass
        handlers.append((handler, names))
    return tuple(handlers)


class Service:
    """Serves an object to callers, over links that are handed in.

    Arguments:
        name: the service's.
        implementation: the object; it has the interface's methods.
        interface: a class with annotated methods, see :func:`vnet.rpc.interface_of`.
        guest: who serves; attaches the regions that callers pass.
        limits: what is taken of callers.
        one_at_a_time: the object is never called by two threads at one time.
        tracebacks: tell callers where an exception was raised.

    Attributes:
        connections: the callers that are there.
    """

    def __init__(
        self,
        name: str,
        implementation: Any,
        interface: Any,
        guest: Any = None,
        *,
        limits: Limits | None = None,
        one_at_a_time: bool = False,
        tracebacks: bool = True,
    ) -> None:
        self.name = name
        self.interface = interface_of(interface)
        self.guest = guest
        self.limits = limits or Limits()
        handlers = handlers_of(implementation, self.interface)
        self._refuse_coroutines(implementation, handlers)
        self.handlers = _in_turn(self.interface, handlers) if one_at_a_time else handlers
        self.closing = False
        self.crew = Crew("vnet-call")
        self.connections: tuple[Connection, ...] = ()
        self.watch = Watch(self, "vnet-call-watch")
        self._tracebacks = tracebacks
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        # Of each method: in how many calls it has to be quick before readers work on it themselves.
        self._distrust = [0] * len(self.interface.numbered)
        self._busy = 0
        self._queued: deque[ServedCall] = deque()

    def _refuse_coroutines(self, implementation: Any, handlers: Handlers) -> None:
        for handler, _ in handlers:
            if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
                raise InterfaceError(
                    f"{type(implementation).__name__}.{handler.__name__} is to be awaited; "
                    f"serve it in an event loop, with serve_calls_async()"
                )

    def adopt(self, link: Link, guest: str | None) -> bool:
        """Takes a caller in; whether there was room for it."""
        with self._lock:
            if self.closing or len(self.connections) >= self.limits.connections:
                return False
            connection = Connection(self, link, guest)
            self.connections = (*self.connections, connection)
        self.crew.submit(connection.read)
        return True

    # What connections ask

    def hire(self, call: ServedCall) -> None:
        """Has a thread of the crew work on a call, at once or when one is free."""
        with self._lock:
            if self._busy >= self.limits.handlers:
                self._queued.append(call)
                return
            self._busy += 1
        self.crew.submit(lambda: self._work(call))

    def is_slow(self, number: int) -> bool:
        """Whether a method is not for readers to work on."""
        return self._distrust[number] > 0 or self._busy >= self.limits.handlers

    def found_slow(self, number: int) -> None:
        """A reader was relieved, and its thread now counts among those that work on slow calls."""
        with self._lock:
            self._distrust[number] = max(1, self._distrust[number])
            self._busy += 1

    def done_slow(self) -> None:
        """A thread that counts among those that work on slow calls is through; takes up what waits."""
        while True:
            with self._lock:
                if not self._queued:
                    self._busy -= 1
                    return
                call = self._queued.popleft()
            self._timed(call)

    def _work(self, call: ServedCall) -> None:
        self._timed(call)
        self.done_slow()

    def _timed(self, call: ServedCall) -> None:
        start = time.perf_counter()
        call.run()
        number = call.method_number
        if time.perf_counter() - start > _QUICK:
            self._distrust[number] = min(_TRUST, 2 * max(1, self._distrust[number]))
        elif self._distrust[number]:
            self._distrust[number] -= 1

    def forget(self, connection: Connection) -> None:
        """A caller is gone."""
        with self._lock:
            self.connections = tuple(each for each in self.connections if each is not connection)
            self._quiet.notify_all()

    def one_less(self) -> None:
        """A call has ended while somebody waits for that."""
        with self._lock:
            self._quiet.notify_all()

    def failure_for(self, method: Method, error: BaseException) -> Failure:
        """What a caller is told of an exception that the implementation raised."""
        return failure_for(self.name, method, error, traces=self._tracebacks)

    def complain(self, method: Method, error: BaseException) -> None:
        """Tells this side of an exception that no caller waits for."""
        _log.error("service %r: %s, while its stream was closed: %r", self.name, method.name, error)

    def tell(self, text: str, *values: object) -> None:
        """Tells this side of what a caller did."""
        _log.info("service %r: " + text, self.name, *values)

    # The end

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return sum(each.under_way for each in self.connections)

    def close(self, timeout: float = 5.0) -> bool:
        """Takes no more calls, lets those under way end, and closes the pipes.

        Arguments:
            timeout: seconds after which calls that have not ended are cancelled.

        Returns:
            Whether all of its threads have ended; the code of a method that takes no notice cannot be stopped.
        """
        with self._lock:
            first, self.closing = not self.closing, True
        deadline = time.monotonic() + timeout
        # A method that closes its own service does not wait for itself.
        own = 1 if isinstance(current.get(None), ServedCall) else 0
        if first:
            for connection in self.connections:
                connection.leave()
        with self._quiet:
            while self.under_way > own and (left := deadline - time.monotonic()) > 0:
                # Parked streams end when their caller takes notice; a look now and then costs nothing here.
                self._quiet.wait(min(left, 0.05))
        for connection in self.connections:
            connection.cancel_all()
        for connection in self.connections:
            connection.end()
        self.watch.close()
        return self.crew.close(time.monotonic() + 1.0)


def failure_for(service: str, method: Method, error: BaseException, *, traces: bool) -> Failure:
    """What a caller is told of an exception that an implementation raised."""
    if isinstance(error, WrongResult):
        # That is no mistake of the caller, and whose it is learns of it here.
        _log.error("service %r: %s", service, error)
        return failure_of(RemoteError(str(error)), {}, traces=False)
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        _log.error("service %r: %s raised %r", service, method.name, error)
    return failure_of(error, {each.__name__: each for each in method.raises}, traces=traces)


def _in_turn(interface: Interface, handlers: Handlers) -> Handlers:
    """The same handlers, never two at one time; a stream's values are made one at a time, too."""
    turn = threading.RLock()

    def alone(method: Method, handler: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with turn:
                result = handler(*args, **kwargs)
            return _Turns(iter(result), turn) if method.stream else result

        return call

    return tuple(
        (alone(method, handler), names) for method, (handler, names) in zip(interface.numbered, handlers, strict=True)
    )


class _Turns:
    """A generator of which each step is taken alone."""

    def __init__(self, within: Any, turn: Any) -> None:
        self._within = within
        self._turn: AbstractContextManager[Any] = turn or nullcontext()

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> Any:
        with self._turn:
            return next(self._within)

    def close(self) -> None:
        close = getattr(self._within, "close", None)
        if close is not None:
            with self._turn:
                close()
