"""The call that code of a service works on, as it can see it."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

from ..errors import CallCancelled

__all__ = ["CurrentCall", "current_call"]


class CurrentCall:
    """A call under way, as the service's code sees it.

    Attributes:
        guest: the name of the guest that calls; ``None`` for the operator's shell.
        service: the service's name.
        method: the method's name.
    """

    __slots__ = ("_cancelled", "_event", "guest", "method", "service")

    _making_events = threading.Lock()

    def __init__(self, guest: str | None, service: str, method: str) -> None:
        self.guest = guest
        self.service = service
        self.method = method
        self._cancelled = False
        self._event: threading.Event | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the caller does not wait for the answer any more: it gave up, ran out of time, or is gone."""
        return self._cancelled

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Waits up to ``timeout`` seconds for the caller to give up, and says whether it did."""
        with self._making_events:
            if self._event is None:
                self._event = threading.Event()
                if self._cancelled:
                    self._event.set()
        return self._event.wait(timeout)

    def check(self) -> None:
        """Ends the work where nobody waits for it.

        Raises:
            CallCancelled: the caller has given up.
        """
        if self._cancelled:
            raise CallCancelled(f"the caller of {self.service!r}.{self.method} does not wait any more")

    def _cancel(self) -> None:
        with self._making_events:
            self._cancelled = True
            if self._event is not None:
                self._event.set()


current: contextvars.ContextVar[Any] = contextvars.ContextVar("vnet-call")


def current_call() -> CurrentCall:
    """The call that the code that asks works on.

    Raises:
        LookupError: it works on none: this is not a method of a service that is being called.
    """
    try:
        found: CurrentCall = current.get()
    except LookupError:
        raise LookupError("no call is being served here") from None
    return found
