"""What an interface is to be like, as the base says it to the nursery, and what can be wrong with it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from ..register import Entry

__all__ = ["Route", "Wiring", "check_interface"]

# IFNAMSIZ less the closing zero: net/if.h.
_LONGEST_NAME = 15
_NAME = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True)
class Route:
    """A route of a namespace: ``default4``, ``default6`` or a prefix, the next hop's address, and the interface."""

    destination: str
    gateway: str
    interface: str

    def told(self) -> list[str]:
        """As JSON values."""
        return [self.destination, self.gateway, self.interface]


@dataclass(frozen=True)
class Wiring:
    """An interface: its name, MAC address, MTU in bytes of IP, addresses with prefix lengths, and default gateways.

    ``forward``: its namespace passes on what is not for itself.
    """

    interface: str
    mac: str
    mtu: int
    addresses: tuple[tuple[str, int], ...]
    gateways: tuple[str, ...] = ()
    forward: bool = False

    @classmethod
    def of(cls, entry: Entry, interface: str, gateways: tuple[str, ...] = (), forward: bool = False) -> Wiring:
        """The wiring of a NIC in the register."""
        addresses = []
        for address in entry.addresses:
            prefix = entry.network.prefix_of(address)
            # The link-local one is in no prefix of the network's: RFC 4291 section 2.5.6.
            addresses.append((str(address), prefix.prefixlen if prefix else 64))
        return cls(interface, entry.mac, entry.mtu, tuple(addresses), gateways, forward)

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def heard(cls, told: dict[str, Any]) -> Wiring:
        """From JSON values."""
        addresses = tuple((str(address), int(length)) for address, length in told["addresses"])
        gateways = tuple(map(str, told["gateways"]))
        return cls(
            str(told["interface"]), str(told["mac"]), int(told["mtu"]), addresses, gateways, bool(told["forward"])
        )

    @property
    def has_ipv6(self) -> bool:
        """Whether it has an IPv6 address."""
        return any(":" in address for address, _ in self.addresses)


def check_interface(name: str) -> str:
    """Returns ``name`` if an interface can have it.

    Raises:
        TypeError: it is not a string.
        ValueError: it is too long, or has signs in it that the kernel refuses or reads otherwise.
    """
    if not isinstance(name, str):
        raise TypeError(f"an interface's name is a string, not {type(name).__name__}")
    if len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"an interface's name has at most {_LONGEST_NAME} bytes; {name!r} has {len(name.encode())}")
    # A percent sign would be counted up; 'all' and 'default' are directories of net.ipv4.conf: dev_valid_name().
    if not _NAME.fullmatch(name) or set(name) & set("/:%") or name in (".", "..", "all", "default"):
        raise ValueError(f"{name!r} cannot name an interface: 1 to 15 ASCII letters, digits, '.', '_' and '-'")
    return name
