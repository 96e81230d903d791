"""A region, as the guest has it that attached it."""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _native
from ..errors import ForkedNic, ProtocolError, VnetError
from ..wire import close_all
from .memory import Lacking, no_descriptors
from .regions import FRAMES

if TYPE_CHECKING:
    from .doors import Door
    from .guest import Sharing

__all__ = ["Attachment", "Region"]


@dataclass(frozen=True)
class Attachment:
    """That a guest has a region attached.

    Attributes:
        guest: its name.
        pid: its process, as the base sees it.
        readonly: it cannot write to the region.
        address: where the region begins in the address space of that process; ``None`` if it is just being mapped, or
            was taken away from there behind the region's back.
        size: bytes from there on.
        frames: the number of the page frame behind each page, in order; ``None`` for a page that this guest has not
            touched.  ``None`` as a whole where the kernel does not tell the base: it takes root (CAP_SYS_ADMIN).  Two
            guests have the same frames.
    """

    guest: str
    pid: int
    readonly: bool
    address: int | None
    size: int
    frames: tuple[int | None, ...] | None = field(repr=False)


class Region(mmap.mmap):
    """Memory that guests share: an :class:`mmap.mmap`, so ``region[0:5] = b"hello"``, ``memoryview(region)`` and
    ``numpy.frombuffer(region)`` are the memory itself, and nothing is copied.

    Made by ``create_region()`` and ``attach_region()`` of every guest.  A context manager; :meth:`close` may be called
    twice.  Nothing in it orders what several write: that is for those who share it to agree on.

    A forked child has the memory as its parent has, and can do nothing else with the region.  It cannot be pickled:
    pass the :attr:`handle`.

    Attributes:
        handle: 32 hexadecimal digits, by which other guests attach the region.
        name: what it can be found by, or ``None``.
        size: in bytes.
        readonly: this guest cannot write to it; who tries in Python gets a ``TypeError``, and who tries otherwise has
            the kernel end the process.
        huge: it consists of huge pages.
        owner: the name of the guest that made it; ``None`` where the lab keeps it.
    """

    handle: str
    name: str | None
    readonly: bool
    huge: bool
    owner: str | None
    _size: int
    # Who let go of his last reference to the guest has the region, and so the guest.
    _guest: Sharing
    _door: Door
    _attachment: int
    _pid: int

    def __new__(cls, *_: Any, **__: Any) -> Region:
        raise TypeError("regions are made by create_region() and attach_region() of a guest")

    @classmethod
    def _map(cls, guest: Sharing, door: Door, answer: dict[str, Any], files: list[int]) -> Region:
        """Maps what the broker answered, and closes the descriptors that came with it."""
        try:
            size, readonly, attachment = int(answer["size"]), bool(answer["readonly"]), int(answer["attachment"])
        except (KeyError, TypeError, ValueError) as error:
            close_all(files)
            raise ProtocolError(f"the base's answer lacks a field or has a wrong one: {error!r}") from None
        if len(files) != 1:
            # The kernel has dropped it on the way: this process may not open so many.
            close_all(files)
            door.tell("region.detach", attachment=attachment)
            raise no_descriptors()
        (file,) = files
        try:
            with Lacking(size, bool(answer.get("huge"))):
                tell = bool(answer.get("tell"))
                before = _native.region_ranges(None, file) if tell else []
                protection = mmap.PROT_READ if readonly else mmap.PROT_READ | mmap.PROT_WRITE
                region = mmap.mmap.__new__(cls, file, size, mmap.MAP_SHARED, protection)
                now = _native.region_ranges(None, file) if tell else []
            region._pid = os.getpid()
            region._guest, region._door, region._attachment = guest, door, attachment
            region.handle, region.name, region.owner = answer["handle"], answer["name"], answer["owner"]
            region._size, region.readonly, region.huge = size, readonly, bool(answer["huge"])
            starts = [start for start, _, _ in set(now) - set(before)]
            if starts or answer.get("seal"):
                door.ask("region.mapped", attachment=attachment, start=starts[0] if starts else None)
        except BaseException:
            door.tell("region.detach", attachment=attachment)
            raise
        finally:
            close_all(files)
        return region

    @property
    def size(self) -> int:  # type: ignore[override]  # of mmap it is a method, that tells of files that grow
        """Bytes of it."""
        return self._size

    def attachments(self, *, frames: bool = True) -> tuple[Attachment, ...]:
        """Tells who has the region attached, where, and in which page frames; a guest that has it twice is there twice.

        Arguments:
            frames: look for page frames, too; it takes the longer the larger the region is.

        Raises:
            RegionNotFound: nobody has it any more.
            LanClosed, NicClosed, ForkedNic: the guest is off the LAN.
        """
        answer, _ = self._ask("region.attachments")
        found = []
        for each in answer["attachments"]:
            numbers = self._frames(each["attachment"]) if frames and each["start"] is not None else None
            whole = each["guest"], each["pid"], each["readonly"], each["start"], self._size
            found.append(Attachment(*whole, numbers))
        return tuple(found)

    def _frames(self, attachment: int) -> tuple[int | None, ...] | None:
        pages = -(-self._size // mmap.PAGESIZE)
        numbers = array("Q")
        for first in range(0, pages, FRAMES):
            count = min(FRAMES, pages - first)
            answer, _ = self._ask("region.frames", attachment=attachment, first=first, count=count)
            if answer["frames"] is None:
                return None
            numbers.frombytes(base64.b64decode(answer["frames"]))
        return tuple(number or None for number in numbers)

    def allow(self, guest: str, *, readonly: bool = False) -> None:
        """Lets another guest attach the region from now on, and find it by its name; what is attached stays as it is.

        Arguments:
            guest: its name; it need not be on the LAN yet.
            readonly: it cannot write to it.

        Raises:
            NotPermitted: another guest made the region; or it was made for one writer, and so it stays.
            RegionNotFound: nobody has it any more.
            LanClosed, NicClosed, ForkedNic: this guest is off the LAN.
        """
        if not isinstance(guest, str):
            raise TypeError(f"a guest's name is a string, not {type(guest).__name__}")
        self._ask("region.allow", guest=guest, readonly=bool(readonly))

    def _ask(self, do: str, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        if os.getpid() != self._pid:
            raise ForkedNic(
                "this region was attached by the parent process; attach it as a guest of its own after fork()"
            )
        return self._guest._door().ask(do, handle=self.handle, **arguments)

    def resize(self, newsize: int) -> NoReturn:
        """A region's size is fixed."""
        raise TypeError(f"a region's size is fixed, {self._size} bytes of this one")

    def close(self) -> None:
        """Lets go of the region.  When the last guest has, its memory is free and its handle good for nothing.

        May be called twice.

        Raises:
            BufferError: views of it are alive, such as a memoryview or a numpy array; the region stays attached.
        """
        if self.closed:
            return
        try:
            super().close()
        except BufferError:
            raise BufferError(
                f"{self!r} cannot be closed while views of it are alive: release memoryviews, delete arrays"
            ) from None
        if os.getpid() == self._pid:
            # A guest that is off the LAN, or whose base is gone, has let go already.
            with contextlib.suppress(VnetError):
                self._guest._door().ask("region.detach", attachment=self._attachment)

    def __del__(self) -> None:
        # Without close(): no waiting here, where the collector runs.
        try:
            if not self.closed and os.getpid() == self._pid and not sys.is_finalizing():
                self._door.tell("region.detach", attachment=self._attachment)
        except AttributeError:
            # It was never made whole.
            return

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "read-only" if self.readonly else "writable"
        return f"<Region {self.name or self.handle[:8] + '…'}, {self._size} bytes, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a region cannot be pickled: pass its handle and call attach_region() in the other process")
