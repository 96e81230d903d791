"""What became of one datagram.

The Rust enum ``vnet_base::Verdict`` is the source; a test holds this page against it, names and numbers.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Verdict"]


class Verdict(IntEnum):
    """What became of one datagram; every one that does not arrive is counted under its verdict."""

    DELIVERED = 0
    """It lies in the receiver's input buffer."""
    NO_ROUTE = 1
    """The destination is in no network that the sender, or a router on the way, can reach."""
    NO_HOST = 2
    """The destination is inside a network of the sender, but no NIC has the address."""
    BUFFER_FULL = 3
    """The receiver's input buffer had no room (with ``block=True``: none until the timeout)."""
    NIC_DOWN = 4
    """The address belongs to a NIC that nobody holds: its guest died or has not attached yet."""
    TOO_BIG = 5
    """Over 65,535 bytes, over the network's MTU, or over that of a way on which it may not be fragmented."""
    MALFORMED = 6
    """No readable IP version and destination: empty, of an unknown version, or cut off in the fixed header; or nothing
    that a router forwards, as with a wrong header checksum."""
    TTL_EXCEEDED = 7
    """Its TTL or hop limit ran out at a router."""
    FILTERED = 8
    """A filter, or a route that prohibits, did not let it pass."""
