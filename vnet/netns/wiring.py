"""What an interface is to be like, as the base says it to the nursery, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import AddressError, AddressOutside
from ..network import Network, parse_address
from ..register import Entry

__all__ = ["Wiring", "check_gateways", "check_interface", "check_not_own"]

# IFNAMSIZ less the closing zero: net/if.h.
_LONGEST_NAME = 15
_NAME = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True)
class Wiring:
    """An interface: its name, MAC address, MTU in bytes of IP, addresses with prefix lengths, and default gateways."""

    interface: str
    mac: str
    mtu: int
    addresses: tuple[tuple[str, int], ...]
    gateways: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Entry, interface: str, gateways: tuple[str, ...] = ()) -> Wiring:
        """The wiring of a NIC in the register."""
        addresses = []
        for address in entry.addresses:
            prefix = entry.network.prefix_of(address)
            # The link-local one is in no prefix of the network's: RFC 4291 section 2.5.6.
            addresses.append((str(address), prefix.prefixlen if prefix else 64))
        return cls(interface, entry.mac, entry.mtu, tuple(addresses), gateways)

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def heard(cls, told: dict[str, Any]) -> Wiring:
        """From JSON values."""
        addresses = tuple((str(address), int(length)) for address, length in told["addresses"])
        return cls(
            str(told["interface"]), str(told["mac"]), int(told["mtu"]), addresses, tuple(map(str, told["gateways"]))
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


def check_gateways(network: Network, gateway: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the default gateways that ``gateway`` names, one for each family at most.

    Raises:
        AddressError: one is not an address, or two are of one family.
        AddressOutside: nobody on the network can have it.
    """
    if gateway is None:
        return ()
    found = [parse_address(text) for text in ([gateway] if isinstance(gateway, str) else gateway)]
    for address in found:
        six = any(prefix.version == 6 for prefix in network.prefixes)
        if network.prefix_of(address) is None and not (six and address.version == 6 and address.is_link_local):
            own = " and ".join(map(str, network.prefixes))
            raise AddressOutside(f"the gateway {address} is outside network {network.name!r} ({own})")
    if len({address.version for address in found}) < len(found):
        raise AddressError(f"there is one default gateway for each family: {', '.join(map(str, found))}")
    return tuple(map(str, found))


def check_not_own(entry: Entry, gateways: tuple[str, ...]) -> None:
    """Refuses a gateway that is the NIC itself.

    Raises:
        AddressError: one is.
    """
    for address in map(str, entry.addresses):
        if address in gateways:
            raise AddressError(f"the gateway {address} is an address of NIC {entry.name!r} itself")
