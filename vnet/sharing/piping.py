"""Pipes, as guests listen for them and make them; :mod:`vnet.pipes` does it."""

from __future__ import annotations

from typing import Any

__all__ = ["Piping"]


class Piping:
    """Byte streams between guests."""

    def listen(self, *arguments: Any, **settings: Any) -> Any:
        """Listens for others that connect to a service of this guest."""
        from .. import pipes

        return pipes.listen(self, *arguments, **settings)

    def connect(self, *arguments: Any, **settings: Any) -> Any:
        """Connects to a service of another guest."""
        from .. import pipes

        return pipes.connect(self, *arguments, **settings)
