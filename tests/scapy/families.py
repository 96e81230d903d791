"""The two IP versions, as the scapy tests ask over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scapy.all import UDP


@dataclass(frozen=True)
class Family:
    """How to ask over one IP version."""

    version: int
    layer: Any
    echo: Any
    reply: Any

    def of(self, guest: Any) -> str:
        """The address of a NIC or host."""
        return str(next(each for each in guest.addresses if (":" in each) == (self.version == 6)))

    def ping(self, guest: Any, **fields: Any) -> Any:
        """An echo request to a guest, without a source."""
        return self.layer(dst=self.of(guest)) / self.echo(**fields)

    def datagram(self, guest: Any, payload: bytes = b"hello", **fields: Any) -> Any:
        """A UDP datagram to a guest, without a source."""
        return self.layer(dst=self.of(guest), **fields) / UDP(sport=5, dport=9) / payload
