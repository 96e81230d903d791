"""What one process needs for the halves of what guests share."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from .. import _native
from ..nic import Nic

__all__ = ["Receive", "Send", "Shared"]


@dataclass
class Shared:
    """What one process needs for these halves.

    Attributes:
        guest: the NIC in whose name all happens.
        peer: the name of the other process's.
        stream: a Unix stream socket to the other process.
        name: one that no other benchmark has.
        shares: what halves tell beside their figure; see :attr:`vnet.bench.case.Result.shares`.
    """

    arena: _native.Arena
    guest: Nic
    peer: str
    stream: socket.socket
    name: str
    shares: dict[str, float] = field(default_factory=dict)

    def tell(self, text: bytes = b".") -> None:
        """Sends the other process something short."""
        self.stream.sendall(text)

    def hear(self, length: int = 1) -> bytes:
        """Waits, asleep, for something of so many bytes from the other process.

        Raises:
            RuntimeError: it has gone.
        """
        text = self.stream.recv(length, socket.MSG_WAITALL)
        if len(text) != length:
            raise RuntimeError("the other process of the measurement has gone")
        return text


# The peer's half: it sends, or answers.
Send: TypeAlias = Callable[[Shared, int, int], None]

# The measuring half. It returns what the case counts a second, or seconds a round trip.
Receive: TypeAlias = Callable[[Shared, int, int], float]
