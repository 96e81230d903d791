"""Regions that callers pass, as the service has them: attached once for each pipe, and let go of with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

__all__ = ["Borrowed"]


class Borrowed:
    """The regions attached for one caller.

    Arguments:
        guest: who serves, and so attaches; access lists must allow it.
        most: how many are kept attached beyond their calls.
    """

    def __init__(self, guest: Any, most: int = 64) -> None:
        self._guest = guest
        self._most = most
        self._lock = threading.Lock()
        # By handle and whether for reading only: the region, and how many calls have it now.
        self._kept: OrderedDict[tuple[str, bool], list[Any]] = OrderedDict()
        self._closed = False

    def has(self, handle: str, readonly: bool) -> bool:
        """Whether :meth:`take` would not have to ask for it."""
        return (handle, readonly) in self._kept

    def take(self, handle: str, readonly: bool) -> Any:
        """The region of that handle; :meth:`give_back` follows.

        Raises:
            RegionNotFound, NotPermitted: the service cannot have it.
        """
        key = handle, readonly
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                kept[1] += 1
                self._kept.move_to_end(key)
                return kept[0]
        region = self._guest.attach_region(handle, readonly=readonly)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                self._kept[key] = [region, 1]
                surplus = self._surplus()
            else:
                # Two calls attached it at one time.
                kept[1] += 1
                region, surplus = kept[0], [region]
        _close(surplus)
        return region

    def give_back(self, handle: str, readonly: bool) -> None:
        """A call has ended that had it."""
        with self._lock:
            kept = self._kept.get((handle, readonly))
            if kept is None:
                return
            kept[1] -= 1
            surplus = self._surplus()
        _close(surplus)

    def close(self) -> None:
        """Lets go of all of them, of those that calls still have when these end."""
        with self._lock:
            self._closed = True
            surplus = self._surplus()
        _close(surplus)

    def _surplus(self) -> list[Any]:
        most = 0 if self._closed else self._most
        free = [key for key, (_, calls) in self._kept.items() if calls == 0]
        return [self._kept.pop(key)[0] for key in free[: max(0, len(self._kept) - most)]]


def _close(regions: list[Any]) -> None:
    for region in regions:
        try:
            region.close()
        except BufferError:
            # The service's code still looks into it; it is let go of with the last look.
            continue
