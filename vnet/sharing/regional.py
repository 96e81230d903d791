"""Regions, as guests make and find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Regional"]

if TYPE_CHECKING:
    from .guest import Sharing

    _Guest = Sharing
else:
    _Guest = object


class Regional:
    """Memory that guests share."""

    def create_region(self, size: int | str, **settings: Any) -> Any:
        """Makes a region of memory."""
        raise NotImplementedError
