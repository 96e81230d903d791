"""Calls, as guests serve and make them; :mod:`vnet.rpc` does it."""

from __future__ import annotations

from typing import Any

__all__ = ["Calling"]


class Calling:
    """Calls of what other guests serve."""

    def serve_calls(self, *arguments: Any, **settings: Any) -> Any:
        """Serves calls of others with the methods of an object."""
        from .. import rpc

        return rpc.serve_calls(self, *arguments, **settings)

    def caller(self, *arguments: Any, **settings: Any) -> Any:
        """A stand-in for what another guest serves, whose methods call it."""
        from .. import rpc

        return rpc.caller(self, *arguments, **settings)

    async def async_caller(self, *arguments: Any, **settings: Any) -> Any:
        """As :meth:`caller`, with methods that are awaited."""
        from .. import rpc

        return await rpc.async_caller(self, *arguments, **settings)
