"""Serving calls over pipes: what listens, and what takes those in who connect."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from ..errors import LanClosed, NicClosed, ServiceBusy, ServiceGone
from . import wire
from .failures import refusal_of
from .links import PipeLink
from .service import Service
from .wire import Limits, bare, check_timeout

__all__ = ["Served", "serve_calls"]


class Served:
    """An object that others may call.  A context manager; leaving it closes the service.

    Attributes:
        service: the name.
        guest: the guest that serves.
    """

    def __init__(self, core: Service, listener: Any) -> None:
        self.service = core.name
        self.guest = listener.guest
        self._core = core
        self._listener = listener
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="vnet-call-door", daemon=True)
        self._thread.start()

    @property
    def callers(self) -> list[str | None]:
        """The guests that have a pipe to the service now; ``None`` is the operator's shell."""
        return [each.guest for each in self._core.connections]

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._core.under_way

    def wait(self, timeout: float | None = None) -> bool:
        """Waits up to ``timeout`` seconds until nobody is let in any more, and says whether that is so.

        That is when the service was closed, the guest has left the LAN, or the LAN has ended.
        """
        return self._closed.wait(check_timeout("timeout", timeout))

    def close(self, timeout: float = 5.0) -> bool:
        """Takes no more calls, lets those under way end, and closes all pipes.  May be called twice.

        Arguments:
            timeout: seconds after which calls that have not ended are cancelled.

        Returns:
            Whether all of the service's threads have ended.  The code of a method that takes no notice of its being
            cancelled cannot be stopped; what it returns is dropped.
        """
        self._listener.close()
        if self._thread is not threading.current_thread():
            self._thread.join()
        ended = self._core.close(timeout)
        self._closed.set()
        return ended

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed.is_set() else f"{len(self._core.connections)} callers"
        return f"<{self._core.interface.name} served as {self.service!r} by {self.guest}, {state}>"

    def _accept(self) -> None:
        while True:
            try:
                pipe = self._listener.accept()
            except (ServiceGone, NicClosed, LanClosed):
                # Closed here, or the LAN is: pipes that are there go on until somebody closes them.
                self._closed.set()
                return
            except OSError as error:
                self._core.tell("somebody who wanted to call was turned away: %s", error)
                continue
            link = PipeLink(pipe)
            if not self._core.adopt(link, pipe.peer):
                turn_away(link, self._core.name, self._core.limits)


def turn_away(link: PipeLink, service: str, limits: Limits) -> None:
    """Tells a caller that there is no room for it."""
    error = ServiceBusy(f"the service {service!r} has {limits.connections} callers, which is as many as it takes")
    with contextlib.suppress(OSError, EOFError, ValueError):
        link.write(bare(wire.REFUSED) + wire.encode(refusal_of(error)), False, None)
    link.close()


def serve_calls(
    guest: Any,
    service: str,
    implementation: object,
    interface: type | Callable[..., object],
    *,
    guests: Sequence[str] | None = None,
    backlog: int = 16,
    limits: Limits | None = None,
    one_at_a_time: bool = False,
    tracebacks: bool = True,
) -> Served:
    """Serves an object to other guests: they may call those of its methods that an interface declares.

    Callers' threads of this process call the object at one time, quick methods in the thread that reads the caller's
    pipe, others in threads of their own, at most ``limits.handlers`` of these; an object that is not made for that is
    served ``one_at_a_time``.  A method asks :func:`vnet.rpc.current_call` who calls, and whether he still waits.

    Arguments:
        guest: who serves.
        service: its name, such as ``"disk"``.
        implementation: the object; it has the interface's methods.
        interface: a class with annotated methods, most often a ``typing.Protocol``.
        guests: names of those who may call; ``None`` for all.
        backlog: how many may wait to be let in.
        limits: what is taken of callers.
        one_at_a_time: never call the object in two threads at one time.
        tracebacks: tell callers where an exception was raised.

    Raises:
        InterfaceError: the interface declares what cannot be sent, or the object does not have its methods.
        NameTaken: the guest serves that already.
        NicClosed, LanClosed, ForkedNic: the guest cannot be used.
    """
    core = Service(
        service, implementation, interface, guest, limits=limits, one_at_a_time=one_at_a_time, tracebacks=tracebacks
    )
    try:
        listener = guest.listen(service, backlog=backlog, guests=guests, messages=True)
    except BaseException:
        core.close(0)
        raise
    return Served(core, listener)
