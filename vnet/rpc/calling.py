"""Calling over pipes: connect to a service, and say which interface is meant."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import CallTimeout, ServiceBusy, ServiceGone
from .caller import Caller
from .channel import Channel
from .interface import interface_of
from .links import PipeLink, pipe_size
from .wire import Limits, check_timeout

__all__ = ["caller"]

T = TypeVar("T")

# Seconds in which a service that is there says hello.
_GREETING = 10.0


def caller(
    guest: Any,
    peer: str,
    service: str,
    interface: Callable[..., T],
    *,
    timeout: float | None = None,
    connect_timeout: float | None = None,
    limits: Limits | None = None,
) -> Caller[T]:
    """Connects to what another guest serves.

    >>> with other.caller("host", "disk", BlockStore) as disk:  # doctest: +SKIP
    ...     disk.read(3)

    Arguments:
        guest: who calls.
        peer: the guest that serves.
        service: the service's name.
        interface: what to call: the class that the service serves, or one that declares some of its methods alike.
        timeout: seconds that each call waits for its answer; ``None``: for ever.
        connect_timeout: seconds to go on trying while the service is not there yet; ``None`` to try once.
        limits: what is taken of the service.

    Raises:
        InterfaceError: the interface declares what cannot be sent, or differs from the service's.
        ServiceNotFound, ServiceBusy, ServiceGone, NotPermitted: as of :func:`vnet.pipes.connect`.
        CallTimeout: the service did not answer when it was greeted.
    """
    declared = interface_of(interface)
    timeout = check_timeout("timeout", timeout)
    connect_timeout = check_timeout("connect_timeout", connect_timeout)
    taken = limits or Limits()
    where = f"{service!r} of {peer!r}"
    deadline = None if connect_timeout is None else time.monotonic() + connect_timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        pipe = guest.connect(peer, service, timeout=left, messages=True, size=pipe_size(taken))
        link = PipeLink(pipe)
        try:
            channel = Channel(link, declared, where, taken, _GREETING)
        except (ServiceGone, ServiceBusy, CallTimeout):
            link.close()
            # It may have closed, or been full, between connect and hello.
            if deadline is None or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        except BaseException:
            link.close()
            raise
        else:
            return Caller(channel, timeout, guest.attach_region)
