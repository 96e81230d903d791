"""What pipes and services are measured in, and how much of it there may be."""

from __future__ import annotations

from typing import Any

__all__ = ["BACKLOG", "LONGEST", "SERVICES", "SIZE", "check_backlog", "check_longest", "check_size"]

# Bytes of each of a pipe's two rings, unless the one who connects says otherwise.
SIZE = 1 << 20
_LEAST, _MOST = 1 << 12, 1 << 30
# Bytes of the longest message, unless a guest says otherwise: what one that is trusted with it can have another take.
LONGEST = 1 << 28
# How many may wait to be accepted, unless the listener says otherwise, and the most that the kernel's buffer of a Unix
# socket has room for with any setting of net.core.wmem_default.
BACKLOG = 16
_QUEUE = 128
# Services of one guest; each takes a descriptor of the base.
SERVICES = 256


def check_size(size: Any) -> int:
    """Returns ``size`` if a pipe may have so many bytes in each direction.

    Raises:
        TypeError, ValueError: it is no number, or not 4 KiB to 1 GiB.
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"a pipe's size is a number of bytes, not {size!r}")
    if not _LEAST <= size <= _MOST:
        raise ValueError(f"a pipe's size is {_LEAST:,} bytes to 1 GiB in each direction, not {size:,}")
    return size


def check_longest(longest: Any) -> int:
    """Returns ``longest`` if a message may have so many bytes.

    Raises:
        TypeError, ValueError: it is no number, or not 1 byte to 4 GiB.
    """
    if isinstance(longest, bool) or not isinstance(longest, int):
        raise TypeError(f"the longest message is a number of bytes, not {longest!r}")
    if not 1 <= longest <= 1 << 32:
        raise ValueError(f"the longest message has 1 byte to 4 GiB, not {longest:,}")
    return longest


def check_backlog(backlog: Any) -> int:
    """Returns ``backlog`` if so many may wait to be accepted.

    Raises:
        TypeError, ValueError: it is no number, or not 1 to 128.
    """
    if isinstance(backlog, bool) or not isinstance(backlog, int):
        raise TypeError(f"a backlog is a number of connections, not {backlog!r}")
    if not 1 <= backlog <= _QUEUE:
        raise ValueError(f"a backlog is 1 to {_QUEUE} connections, not {backlog}")
    return backlog
