"""What every guest can do: share memory with others, listen and connect, post work, call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .calling import Calling
from .piping import Piping
from .queueing import Queueing
from .regional import Regional

if TYPE_CHECKING:
    from .doors import Door

__all__ = ["Sharing"]


class Sharing(Regional, Queueing, Piping, Calling):
    """The methods of guests that have to do with what they share; a base class of Nic, Host, Netns, Plug and Member."""

    name: str

    def _door(self) -> Door:
        """How this guest asks the broker.

        Raises:
            NicClosed, LanClosed, ForkedNic: it cannot any more.
        """
        raise NotImplementedError
