"""Waits until the kernel answers at IPv6 addresses that were just given to an interface."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable

__all__ = ["await_ipv6"]

# RTF_LOCAL of linux/ipv6_route.h: a route to the machine itself.
_LOCAL = 0x8000_0000
# Seconds: the work waits behind others' on a machine that is busy; what has not been done by then is not waited for.
_PATIENCE = 1.0


def await_ipv6(addresses: Iterable[str]) -> None:
    """Waits until this thread's namespace has a route to each address as to its own.

    Also without duplicate address detection the kernel leaves that to a worker of its own, which a busy machine delays:
    what comes for the address before is dropped without a word.
    """
    wanted = {ipaddress.IPv6Address(address).packed.hex() for address in addresses if ":" in address}
    deadline = time.monotonic() + _PATIENCE
    while wanted:
        try:
            with open("/proc/thread-self/net/ipv6_route") as routes:
                rows = [line.split() for line in routes]
        except OSError:
            return
        # Destination, its prefix length, six more, flags, interface: all in hexadecimal.
        wanted -= {row[0] for row in rows if row[1] == "80" and int(row[8], 16) & _LOCAL}
        if not wanted or time.monotonic() > deadline:
            return
        time.sleep(0.0005)
