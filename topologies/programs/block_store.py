"""What the service `disk` can be asked, and what its server and its clients agree on beside."""

import struct
from typing import Annotated, Protocol

from msgspec import Meta

import vnet

BLOCK, BLOCKS = 4096, 64

Number = Annotated[int, Meta(ge=0, lt=BLOCKS)]
Offset = Annotated[int, Meta(ge=0)]

# What the server posts to a client's queue when a block is on the disk: the ticket that the client gave.
COMPLETION = struct.Struct("<Q")


class BlockStore(Protocol):
    """64 blocks of 4 KiB.  They travel in a region of the caller's; calls carry their numbers."""

    def read(self, block: Number, region: vnet.Region, offset: Offset = 0) -> None:
        """Copies a block into the region, at an offset in bytes."""

    def write(self, block: Number, region: vnet.Region, offset: Offset, ticket: int, completions: str) -> None:
        """Takes a block; when it is on the disk, the ticket is posted to the work queue of that handle."""

    def checksum(self, block: Number) -> str:
        """The SHA-256 of a block, in hexadecimal digits."""

    def statistics(self) -> dict[str, int]:
        """How many blocks of each client this server has put on the disk."""

    def process(self) -> int:
        """The process id of the server."""
