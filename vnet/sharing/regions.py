"""The broker's records of regions: what there is, who may have it and who has it.

========================  ==================================================  =========================================
request                   arguments                                           answer
========================  ==================================================  =========================================
``region.create``         ``size`` in bytes; perhaps ``name``, ``huge``,      the region, attached: its handle, the
                          ``guests`` or null, ``readonly``                    attachment's number; its descriptor
``region.mapped``         ``attachment``; perhaps ``start``                   nothing
``region.attach``         ``handle``; perhaps ``readonly``                    as of create
``region.detach``         ``attachment``                                      nothing
``region.find``           ``name``                                            ``handle``
``region.allow``          ``handle``, ``guest``; perhaps ``readonly``         nothing
``region.attachments``    ``handle``                                          who has it, and where
``region.frames``         ``handle``, ``attachment``, ``first``, ``count``    page frames, or null
``region.list``                                                               all regions, without their handles
========================  ==================================================  =========================================

The broker holds a descriptor of each region as long as a guest has it attached, or the LAN's lab keeps it.  It maps
none.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import mmap
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import LanFull, NameTaken, NotPermitted, ProtocolError, RegionNotFound
from ..runtime import check_name
from .asked import flag, names, rights, whole
from .memory import Lacking, make_memory, most

if TYPE_CHECKING:
    from .broker import Broker, Guest

__all__ = ["FRAMES", "Regions", "serve"]

# What one guest may have of regions and of attachments at most, and all guests together; see :func:`most`.
_OF_A_GUEST = 1024
_OF_A_LAN = 8192
_ATTACHMENTS = 4096
# Guests that a region is for at most.
_NAMES = 4096
# Page frames of one answer, so that none takes long.
FRAMES = 16_384
# Bytes of a handle: as hard to guess as a key.
_HANDLE = 16


@dataclass(eq=False)
class _Attachment:
    """A guest's mapping of a region.  ``start``: what the guest says of its address, where the kernel does not tell."""

    number: int
    region: _Region
    guest: Guest
    readonly: bool
    start: int | None = None
    found: tuple[int, int] | None = None


@dataclass(eq=False)
class _Region:
    """A region.

    ``owner``: who made it; ``None`` where the lab keeps it.  ``open``: whoever has the handle may attach it.
    ``access``: whether those that are named may write.  ``sealed``: nobody else gets to write to it any more.
    """

    handle: str
    name: str | None
    size: int
    huge: bool
    owner: Guest | None
    open: bool
    access: dict[str, bool]
    file: int
    kept: bool = False
    one_writer: bool = False
    sealed: bool = False
    attached: dict[int, _Attachment] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What a guest is told that may attach it."""
        owner = None if self.owner is None else str(self.owner)
        return {"handle": self.handle, "name": self.name, "size": self.size, "huge": self.huge, "owner": owner}

    def called(self) -> str:
        """What messages call it."""
        return f"the region {self.name!r}" if self.name is not None else "the region"

    def is_of(self, guest: Guest) -> bool:
        """Whether the guest made it."""
        return self.owner is not None and self.owner.number == guest.number

    def is_for(self) -> str:
        """Whom it is for, for messages."""
        if self.open:
            return "whoever has its handle"
        owner = () if self.owner is None else (str(self.owner),)
        return ", ".join(dict.fromkeys((*owner, *self.access))) or "nobody any more"

    def may_write(self, guest: Guest) -> bool | None:
        """Whether a guest may write to it; ``None``: it may not have it at all."""
        if self.is_of(guest):
            return True
        return self.access.get(guest, True if self.open else None)


class Regions:
    """The regions of a LAN.

    Arguments:
        broker: serves the requests, under its lock.
    """

    def __init__(self, broker: Broker) -> None:
        self._lan = broker.lan or "private"
        self._regions: dict[str, _Region] = {}
        self._names: dict[str, _Region] = {}
        # What each guest has attached, by the guest's number and the attachment's.
        self._guests: dict[int, dict[int, _Attachment]] = {}
        self._numbers = itertools.count(1)
        for do, handler in {
            "create": self._create,
            "mapped": self._mapped,
            "attach": self._attach,
            "detach": self._detach,
            "find": self._find,
            "allow": self._allow,
            "attachments": self._told_attachments,
            "frames": self._frames,
        }.items():
            broker.on(f"region.{do}", _of_guests(handler))
        broker.on("region.list", lambda _guest, _request, _files: ({"regions": self.listed()}, []), operators=True)
        broker.hook_gone(self._gone)
        broker.hook_end(self._close_files)
        broker.hook_fork(self._close_files)

    # What the base itself does

    def keep(
        self, name: str, size: int, *, guests: Sequence[str], readonly: Sequence[str] = (), huge: bool = False
    ) -> str:
        """Makes a region that stays until :meth:`drop`, whether anybody has it attached or not; returns its handle."""
        region = self._make(None, size, name, huge, rights(guests, readonly), kept=True)
        return region.handle

    def drop(self, name: str) -> None:
        """Keeps the region ``name`` no longer: nobody gets it any more, and it is freed when the last lets go of it."""
        region = self._kept(name)
        region.kept = False
        region.access = {}
        del self._names[name]
        region.name = None
        self._free_if_left(region)

    def set_access(self, name: str, guests: Sequence[str], readonly: Sequence[str] = ()) -> None:
        """Has the kept region ``name`` attached by these from now on; what is attached stays so."""
        self._kept(name).access = rights(guests, readonly)

    def listed(self) -> list[dict[str, Any]]:
        """What there is, for people to look at: without handles."""
        return [
            {
                "name": region.name,
                "size": region.size,
                "huge": region.huge,
                "owner": None if region.owner is None else str(region.owner),
                "kept": region.kept,
                "guests": None if region.open else sorted(region.access),
                "readonly": sorted(name for name, writes in region.access.items() if not writes),
                "attached": sorted({str(each.guest) for each in region.attached.values()}),
            }
            for region in self._regions.values()
        ]

    def _kept(self, name: str) -> _Region:
        region = self._names.get(name)
        if region is None or not region.kept:
            raise RegionNotFound(f"no region {name!r} is kept on this LAN")
        return region

    # Requests

    def _create(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        size, name, huge = whole(request, "size"), request.get("name"), flag(request, "huge")
        guests, readonly = request.get("guests"), names(request, "readonly", [])
        if name is not None and not isinstance(name, str):
            raise ProtocolError("'name' is a region's name, or null")
        if guest in readonly:
            raise ValueError(f"{guest!s} makes the region and writes to it: it cannot be in readonly=")
        access = rights([] if guests is None else names(request, "guests"), readonly)
        owned = sum(each.is_of(guest) for each in self._regions.values())
        if owned >= most(_OF_A_GUEST, 4):
            raise LanFull(f"{guest!s} has {owned} regions already, the most that a guest may have here: close some")
        region = self._make(guest, size, name, huge, access, open=guests is None)
        try:
            return self._attached(region, guest, readonly=False)
        except BaseException:
            self._free_if_left(region)
            raise

    def _mapped(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        attachment = self._own(guest, request)
        if request.get("start") is not None:
            attachment.start = whole(request, "start")
        region = attachment.region
        if region.one_writer and not region.sealed and not attachment.readonly:
            # From here on the owner's mapping is the last that anybody can write to.
            with Lacking(region.size):
                _native.region_settle(region.file, True)
            region.sealed = True
        return {}, []

    def _attach(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        region, readonly = self._region(request), flag(request, "readonly")
        writes = region.may_write(guest)
        if writes is None:
            raise NotPermitted(f"{region.called()} is not for {guest!s}: it is for {region.is_for()}")
        if writes and not readonly and region.sealed:
            raise NotPermitted(
                f"{region.called()} is sealed: whoever writes to it mapped it before; attach it with readonly=True"
            )
        return self._attached(region, guest, readonly=readonly or not writes)

    def _detach(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        self._let_go(self._own(guest, request))
        return {}, []

    def _find(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        name = request.get("name")
        region = self._names.get(name) if isinstance(name, str) else None
        if region is None:
            raise RegionNotFound(f"no region named {name!r} is on this LAN")
        # One that is open is for those who were given the handle, not for all who can spell its name.
        if guest not in region.access and not region.is_of(guest):
            raise NotPermitted(f"{region.called()} is not for {guest!s} to find: it is for {region.is_for()}")
        return {"handle": region.handle}, []

    def _allow(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        region, named, readonly = self._region(request), request.get("guest"), flag(request, "readonly")
        if not region.is_of(guest):
            owner = "the lab" if region.owner is None else str(region.owner)
            raise NotPermitted(f"{region.called()} is {owner}'s: nobody else says who may have it")
        check_name("guest", named if isinstance(named, str) else "")
        if not readonly and region.one_writer:
            raise NotPermitted(f"{region.called()} was made for one writer: others can be allowed to read it only")
        assert isinstance(named, str)
        if len(region.access) >= _NAMES and named not in region.access:
            raise LanFull(f"{region.called()} is for {_NAMES} guests already")
        region.access[named] = not readonly
        return {}, []

    def _told_attachments(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        region = self._visible(guest, request)
        ranges: dict[tuple[int, bool], deque[tuple[int, int]]] = {}
        told = []
        for each in region.attached.values():
            pid = each.guest.pid
            if (pid, False) not in ranges:
                ranges[pid, False], ranges[pid, True] = _ranges(pid, region.file)
            # Which of a process's mappings is which of its attachments makes no difference to anybody.
            found = ranges[pid, each.readonly]
            said = None if each.start is None else (each.start, region.size)
            each.found = found.popleft() if found else said
            told.append(
                {
                    "attachment": each.number,
                    "guest": str(each.guest),
                    "pid": pid,
                    "readonly": each.readonly,
                    "start": None if each.found is None else each.found[0],
                }
            )
        return {"attachments": told}, []

    def _frames(self, guest: Guest, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        region = self._visible(guest, request)
        attachment = region.attached.get(whole(request, "attachment"))
        first, count = whole(request, "first"), whole(request, "count")
        if attachment is None or attachment.found is None:
            return {"frames": None}, []
        start, size = attachment.found
        if count > FRAMES or (first + count) * mmap.PAGESIZE > -(-size // mmap.PAGESIZE) * mmap.PAGESIZE:
            raise ProtocolError(f"'first' and 'count' are pages of the region, {FRAMES} at a time")
        try:
            pid = attachment.guest.pid
            found = _native.region_frames(pid, start + first * mmap.PAGESIZE, count * mmap.PAGESIZE)
        except OSError:
            found = None
        return {"frames": None if found is None else base64.b64encode(found).decode()}, []

    # Records

    def _make(
        self,
        owner: Guest | None,
        size: int,
        name: str | None,
        huge: bool,
        access: dict[str, bool],
        *,
        open: bool = False,
        kept: bool = False,
    ) -> _Region:
        if name is not None and check_name("region", name) in self._names:
            raise NameTaken(f"a region named {name!r} is on this LAN already")
        if len(self._regions) >= most(_OF_A_LAN, 2):
            raise LanFull(f"{len(self._regions)} regions are on this LAN already: close some, or raise `ulimit -n`")
        number = next(self._numbers)
        file, size = make_memory(f"vnet:{self._lan}:region:{name or number}", size, huge)
        region = _Region(secrets.token_hex(_HANDLE), name, size, huge, owner, open, access, file, kept)
        # Those who write are the owner alone, and somebody reads.
        region.one_writer = owner is not None and not open and bool(access) and not any(access.values())
        try:
            if not region.one_writer:
                with Lacking(size):
                    _native.region_settle(file, False)
        except BaseException:
            os.close(file)
            raise
        self._regions[region.handle] = region
        if name is not None:
            self._names[name] = region
        return region

    def _region(self, request: dict[str, Any]) -> _Region:
        handle = request.get("handle")
        region = self._regions.get(handle) if isinstance(handle, str) else None
        if region is None:
            raise RegionNotFound(
                "no region has this handle: it was never given out, or the last guest that had the region let go of it"
            )
        return region

    def _visible(self, guest: Guest, request: dict[str, Any]) -> _Region:
        """A region that the guest has attached, or may attach."""
        region = self._region(request)
        if region.may_write(guest) is None and region not in (each.region for each in self._of(guest)):
            raise NotPermitted(f"{region.called()} is not for {guest!s}: it is for {region.is_for()}")
        return region

    def _own(self, guest: Guest, request: dict[str, Any]) -> _Attachment:
        attachment = self._guests.get(guest.number, {}).get(whole(request, "attachment"))
        if attachment is None:
            raise RegionNotFound(f"{guest!s} has no such attachment")
        return attachment

    def _attached(self, region: _Region, guest: Guest, *, readonly: bool) -> tuple[dict[str, Any], list[int]]:
        if len(self._of(guest)) >= _ATTACHMENTS:
            raise LanFull(f"{guest!s} has {_ATTACHMENTS} regions attached already: close some")
        with Lacking(region.size, region.huge):
            file = _native.region_reading(region.file) if readonly else os.dup(region.file)
        attachment = _Attachment(next(self._numbers), region, guest, readonly)
        self._guests.setdefault(guest.number, {})[attachment.number] = attachment
        region.attached[attachment.number] = attachment
        answer = {
            **region.told(),
            "attachment": attachment.number,
            "readonly": readonly,
            "seal": region.one_writer and not region.sealed and not readonly,
            # Where the kernel does not tell the base, the guest does.
            "tell": not _shows_its_maps(guest.pid),
        }
        return answer, [file]

    def _of(self, guest: Guest) -> Sequence[_Attachment]:
        return tuple(self._guests.get(guest.number, {}).values())

    def _let_go(self, attachment: _Attachment) -> None:
        del self._guests[attachment.guest.number][attachment.number]
        del attachment.region.attached[attachment.number]
        self._free_if_left(attachment.region)

    def _free_if_left(self, region: _Region) -> None:
        if region.kept or region.attached or self._regions.pop(region.handle, None) is None:
            return
        if region.name is not None:
            del self._names[region.name]
        os.close(region.file)

    def _gone(self, guest: Guest) -> None:
        for attachment in self._of(guest):
            self._let_go(attachment)
        self._guests.pop(guest.number, None)

    def _close_files(self) -> None:
        regions, self._regions, self._names, self._guests = self._regions, {}, {}, {}
        for region in regions.values():
            os.close(region.file)


def _ranges(pid: int, file: int) -> tuple[deque[tuple[int, int]], deque[tuple[int, int]]]:
    """Where a process has a file mapped: addresses and bytes of what it can write to, and of what it cannot."""
    writable: deque[tuple[int, int]] = deque()
    readable: deque[tuple[int, int]] = deque()
    # Another user's process, or one that ends just now, has none.
    with contextlib.suppress(OSError):
        for start, size, writes in _native.region_ranges(pid, file):
            (writable if writes else readable).append((start, size))
    return writable, readable


def _shows_its_maps(pid: int) -> bool:
    """Whether the kernel tells this process where that one has what mapped."""
    try:
        os.close(os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def serve(broker: Broker) -> Regions:
    """Serves requests that have to do with regions."""
    return Regions(broker)


_Handler = Callable[["Guest", dict[str, Any]], tuple[dict[str, Any], list[int]]]


def _of_guests(
    handler: _Handler,
) -> Callable[[Guest | None, dict[str, Any], list[int]], tuple[dict[str, Any], list[int]]]:
    def serve(guest: Guest | None, request: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        assert guest is not None
        return handler(guest, request)

    return serve
