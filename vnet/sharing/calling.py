"""Calls, as guests serve and make them; :mod:`vnet.rpc` does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..rpc import AsyncCaller, AsyncServed, Caller, Limits, Served

__all__ = ["Calling"]

T = TypeVar("T")


class Calling:
    """Calls of what other guests serve."""

    def serve_calls(
        self,
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
        """Serves an object to other guests; they may call those of its methods that an interface declares.

        See :func:`vnet.rpc.serve_calls`.
        """
        from .. import rpc

        return rpc.serve_calls(
            self,
            service,
            implementation,
            interface,
            guests=guests,
            backlog=backlog,
            limits=limits,
            one_at_a_time=one_at_a_time,
            tracebacks=tracebacks,
        )

    def serve_calls_async(
        self,
        service: str,
        implementation: Any,
        interface: Any,
        *,
        guests: Sequence[str] | None = None,
        backlog: int = 16,
        limits: Limits | None = None,
        tracebacks: bool = True,
    ) -> AsyncServed:
        """Serves an object in the running event loop: ``async with guest.serve_calls_async(...)``.

        See :func:`vnet.rpc.serve_calls_async`.
        """
        from .. import rpc

        return rpc.serve_calls_async(
            self,
            service,
            implementation,
            interface,
            guests=guests,
            backlog=backlog,
            limits=limits,
            tracebacks=tracebacks,
        )

    def caller(
        self,
        peer: str,
        service: str,
        interface: Callable[..., T],
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        limits: Limits | None = None,
    ) -> Caller[T]:
        """Connects to what another guest serves: ``with other.caller(...) as disk: disk.read(3)``.

        See :func:`vnet.rpc.caller`.
        """
        from .. import rpc

        return rpc.caller(
            self, peer, service, interface, timeout=timeout, connect_timeout=connect_timeout, limits=limits
        )

    def async_caller(
        self,
        peer: str,
        service: str,
        interface: Any,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        limits: Limits | None = None,
    ) -> AsyncCaller:
        """As :meth:`caller`, with methods that are awaited: ``async with other.async_caller(...) as disk``.

        See :func:`vnet.rpc.async_caller`.
        """
        from .. import rpc

        return rpc.async_caller(
            self, peer, service, interface, timeout=timeout, connect_timeout=connect_timeout, limits=limits
        )
