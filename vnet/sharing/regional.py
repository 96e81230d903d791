"""Regions, as guests make, attach and find them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .guest import Sharing
    from .region import Region

__all__ = ["Regional"]


class Regional:
    """Memory that guests share."""

    def create_region(
        self,
        size: int | str,
        *,
        name: str | None = None,
        huge: bool = False,
        guests: Sequence[str] | None = None,
        readonly: Sequence[str] = (),
    ) -> Region:
        """Makes a region: memory that other guests can attach, and all have in common.

        It reads as zeros, and takes memory where somebody has written.  It is there as long as a guest has it attached;
        a guest that dies lets go of it at once.

        Arguments:
            size: in bytes, or a text such as ``"64MiB"``.
            name: unique on the LAN; by which those whom ``guests`` names find it.
            huge: of huge pages, which must be reserved on the machine; the size is rounded up to a whole number.
            guests: the names of those who may attach it, on the LAN already or not; ``None`` for whoever has
                the handle.
            readonly: those of them, or more, who can only read it.  Where nobody but its maker writes, the kernel sees
                to it that nobody ever will.

        Returns:
            The region, attached; a context manager.

        Raises:
            ValueError: the size is not at least 1 byte, or not text that says how many; a name has another form.
            MachineLacks: it is more than the machine's memory, there are not so many huge pages, or no descriptor is
                left.
            NameTaken: a region of the LAN has the name.
            LanFull: this guest, or the LAN, has so many regions that there are no more.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        from .region import Region

        own = cast("Sharing", self)
        door = own._door()
        wanted = None if guests is None else _names("guests", guests)
        answer, files = door.ask(
            "region.create",
            size=_bytes(size),
            name=_text("a region's name", name) if name is not None else None,
            huge=_flag("huge", huge),
            guests=wanted,
            readonly=_names("readonly", readonly),
        )
        return Region._map(own, door, answer, files)

    def attach_region(self, handle: str | Region, *, readonly: bool = False) -> Region:
        """Attaches a region that another guest made, or the lab, or this one; more than once, too.

        Arguments:
            handle: its handle, which who made it passes on as he likes; or what :meth:`find_region` returns.
            readonly: do not be able to write to it.  Guests that may only read it get it so in any case, and see it in
                :attr:`Region.readonly`.

        Raises:
            RegionNotFound: no region has the handle: it is wrong, or the last guest has let go of the region.
            NotPermitted: the region is for others; or nobody but its maker writes to it, and this was to.
            MachineLacks: there is no address space, or no descriptor.
            LanFull: this guest has so many regions attached that there are no more.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        from .region import Region

        own = cast("Sharing", self)
        door = own._door()
        wanted = handle.handle if isinstance(handle, Region) else _text("a region's handle", handle)
        if len(wanted) > 64:
            # None is so long, and a request has an end.
            wanted = wanted[:64]
        answer, files = door.ask("region.attach", handle=wanted, readonly=_flag("readonly", readonly))
        return Region._map(own, door, answer, files)

    def find_region(self, name: str) -> str:
        """Returns the handle of the region ``name``.

        Raises:
            RegionNotFound: no region of the LAN has the name.
            NotPermitted: who made it does not name this guest.
            LanClosed, NicClosed, ForkedNic: this guest is off the LAN.
        """
        answer, _ = cast("Sharing", self)._door().ask("region.find", name=_text("a region's name", name)[:256])
        return str(answer["handle"])


def _bytes(size: int | str) -> int:
    if isinstance(size, str):
        from ..lab.units import Dimension, parse

        return int(parse(size, Dimension.SIZE))
    try:
        if isinstance(size, bool):
            raise TypeError
        # Integers of numpy, too.
        size = operator.index(size)
    except TypeError:
        kind = type(size).__name__
        raise TypeError(f"a size is a number of bytes, or a text such as '64MiB', not {kind}") from None
    if size < 1:
        raise ValueError(f"a region has at least 1 byte, not {size}")
    return size


def _text(what: str, said: str) -> str:
    if not isinstance(said, str):
        raise TypeError(f"{what} is a string, not {type(said).__name__}")
    return said


def _flag(what: str, said: bool) -> bool:
    if not isinstance(said, bool):
        raise TypeError(f"{what} is True or False, not {type(said).__name__}")
    return said


def _names(what: str, said: Sequence[str]) -> list[str]:
    found = list(said) if isinstance(said, Iterable) and not isinstance(said, str | bytes) else None
    if found is None or not all(isinstance(each, str) for each in found):
        raise TypeError(f"{what} is a list of guests' names, such as ['alice', 'bob'], not {said!r}")
    return found
