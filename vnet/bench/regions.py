"""The halves of regions, and of a bare memory file beside them."""

from __future__ import annotations

import mmap
import os
import socket
import time

from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]

_PAGE = mmap.PAGESIZE

# Bytes that both processes touch, to see that they count once.
_TOUCHED = 64 << 20

# Letters of a handle, and digits of a number of bytes, as they are told.
_HANDLE, _NUMBER = 32, 16


def _create(shared: Shared, size: int, count: int) -> float:
    start = time.perf_counter()
    with shared.guest.create_region(size) as region:
        shared.tell(region.handle.encode())
        shared.hear()
        took = time.perf_counter() - start
        with memoryview(region) as view:
            # A byte that the peer finds makes sure that the memory is the same.
            for at in range(0, _TOUCHED, _PAGE):
                view[at] = 1
            shared.tell()
            theirs = int(shared.hear(_NUMBER))
            shared.shares["resident"] = (_resident(size) + theirs) / _TOUCHED
            shared.tell()
        shared.hear()
    return took


def _attach(shared: Shared, size: int, count: int) -> None:
    with shared.guest.attach_region(shared.hear(_HANDLE).decode()) as region:
        shared.tell()
        shared.hear()
        with memoryview(region) as view:
            found = sum(view[at] for at in range(0, _TOUCHED, _PAGE))
            if found != _TOUCHED // _PAGE:
                raise RuntimeError("a region's memory is not the same in both processes")
            shared.tell(b"%0*d" % (_NUMBER, _resident(size)))
            shared.hear()
    shared.tell()


def _resident(size: int) -> int:
    """The proportional share of this process, in bytes, in the one mapping of memory files that is of this size."""
    with open("/proc/self/smaps") as file:
        found = False
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                first, last = (int(address, 16) for address in words[0].split("-"))
                found = last - first == size and words[-1:] != ["0"]
            elif found and words[0] == "Pss:":
                return int(words[1]) << 10
    raise RuntimeError("the region is not mapped")


def _make_file(shared: Shared, size: int, count: int) -> float:
    start = time.perf_counter()
    file = os.memfd_create("vnet:bench:region", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, size)
        with mmap.mmap(file, size):
            socket.send_fds(shared.stream, [b"."], [file])
            shared.hear()
            return time.perf_counter() - start
    finally:
        os.close(file)


def _map_file(shared: Shared, size: int, count: int) -> None:
    _, (file,), _, _ = socket.recv_fds(shared.stream, 1, 1)
    try:
        with mmap.mmap(file, size):
            shared.tell()
    finally:
        os.close(file)


SEND: dict[str, Send] = {"region": _attach, "memory_file": _map_file}

RECEIVE: dict[str, Receive] = {"region": _create, "memory_file": _make_file}
