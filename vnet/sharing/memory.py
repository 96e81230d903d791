"""The memory of regions, and what this machine has of it."""

from __future__ import annotations

import errno
import mmap
import os
import resource
from types import TracebackType

from .. import _native
from ..errors import MachineLacks

__all__ = ["Lacking", "make_memory", "most", "no_descriptors"]

_MIB = 1 << 20


class Lacking:
    """A context in which errors of the kernel are said in terms of what is lacking.

    Arguments:
        size: bytes of the region that is made or mapped.
        huge: of huge pages.
    """

    def __init__(self, size: int, huge: bool = False) -> None:
        self._size = size
        self._huge = huge

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_descriptors() from None
        if self._huge:
            raise _no_huge_pages(self._size) from None
        if error.errno == errno.ENOMEM:
            raise MachineLacks(
                f"there is no address space for a region of {_shown(self._size)}: raise `ulimit -v`"
            ) from None
        if error.errno == errno.EFBIG:
            raise MachineLacks(f"a region of {_shown(self._size)} is larger than `ulimit -f` lets files be") from None


def no_descriptors() -> MachineLacks:
    """What is said where no descriptor is left."""
    return MachineLacks("no file descriptor is left for a region: raise `ulimit -n`")


def make_memory(name: str, size: int, huge: bool) -> tuple[int, int]:
    """Makes the memory file of a region; returns its descriptor and its size, of huge pages a whole number of them.

    Raises:
        ValueError: the size is less than 1.
        MachineLacks: it is more than the machine's memory, there are not so many huge pages, or no descriptor is left.
    """
    if size < 1:
        raise ValueError(f"a region has at least 1 byte, not {size}")
    with Lacking(size):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _meminfo("SwapTotal")
    if size > memory:
        raise MachineLacks(
            f"a region of {_shown(size)} is more than this machine's memory, which is {_shown(memory)} with swap; "
            "`free -h` shows it"
        )
    if not huge:
        with Lacking(size):
            return _native.region_make(name, size, False), size
    with Lacking(size):
        page = _meminfo("Hugepagesize")
    if not page:
        raise MachineLacks("this kernel has no huge pages: `zgrep HUGETLBFS /proc/config.gz` shows it")
    size = -(-size // page) * page
    with Lacking(size, huge=True):
        file = _native.region_make(name, size, True)
        try:
            # The pages are the region's from now on, so that nobody who touches one finds none left: mmap(2) reserves.
            mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ).close()
        except BaseException:
            os.close(file)
            raise
        return file, size


def most(count: int, share: int) -> int:
    """So many that each can have a descriptor, and all of them no more than one in ``share`` of this process's."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count if soft == resource.RLIM_INFINITY else max(1, min(count, soft // share))


def _no_huge_pages(size: int) -> MachineLacks:
    page = _meminfo("Hugepagesize") or 2 * _MIB
    total, free = _meminfo("HugePages_Total", 1), _meminfo("HugePages_Free", 1) - _meminfo("HugePages_Rsvd", 1)
    needed = size // page
    return MachineLacks(
        f"a region of {needed} huge pages of {_shown(page)} needs them reserved, and {max(0, free)} are: "
        f"`sysctl vm.nr_hugepages={total + needed - max(0, free)}`, as root, reserves them"
    )


def _meminfo(what: str, unit: int = 1024) -> int:
    """A line of /proc/meminfo, proc_meminfo(5); 0 where the kernel has none."""
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * unit
    return 0


def _shown(size: int) -> str:
    if size >= 1 << 70:
        return "more bytes than there are addresses"
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"
