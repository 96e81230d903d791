"""Work queues, as guests make, open and serve them; :mod:`vnet.queues` does it."""

from __future__ import annotations

from typing import Any

__all__ = ["Queueing"]


class Queueing:
    """Work that guests leave for one another."""

    def create_queue(self, *arguments: Any, **settings: Any) -> Any:
        """Makes a work queue that this guest works on."""
        from .. import queues

        return queues.create_queue(self, *arguments, **settings)

    def open_queue(self, *arguments: Any, **settings: Any) -> Any:
        """Opens another guest's queue, to post to it."""
        from .. import queues

        return queues.open_queue(self, *arguments, **settings)

    def dispatcher(self, *arguments: Any, **settings: Any) -> Any:
        """What takes items off this guest's queues, one after the other."""
        from .. import queues

        return queues.dispatcher(self, *arguments, **settings)
