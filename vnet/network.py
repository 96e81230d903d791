"""Networks and the addresses of their NICs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from .errors import AddressError, AddressOutside, AddressTaken, NetworkFull

__all__ = ["Network", "link_local", "parse_address", "parse_prefixes", "usable"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_prefixes(prefix: str | Sequence[str]) -> tuple[Prefix, ...]:
    """Returns the prefixes of a network: one of IPv4, one of IPv6, or both.

    Raises:
        AddressError: one is not a prefix, has bits set behind its length, or two are of one family.
    """
    texts = [prefix] if isinstance(prefix, str) else list(prefix)
    prefixes: list[Prefix] = []
    for text in texts:
        try:
            prefixes.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise AddressError(f"{text!r} is not a prefix such as 10.0.0.0/24 or fd00::/64: {error}") from None
    if not prefixes:
        raise AddressError("a network has an IPv4 prefix, an IPv6 prefix or both")
    if len({entry.version for entry in prefixes}) < len(prefixes):
        raise AddressError(f"a network has at most one prefix of each family, not {', '.join(map(str, prefixes))}")
    return tuple(sorted(prefixes, key=lambda entry: entry.version))


def parse_address(text: str) -> Address:
    """Returns the address that ``text`` is.

    Raises:
        AddressError: it is none.
    """
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise AddressError(f"{text!r} is not an IP address") from None


def link_local(mac: int) -> ipaddress.IPv6Address:
    """Returns the link-local address that follows from a MAC address (RFC 4291, section 2.5.6 and appendix A)."""
    company, own = mac >> 24, mac & 0xFF_FFFF
    return ipaddress.IPv6Address(0xFE80 << 112 | (company << 40 | 0xFF_FE << 24 | own) ^ 0x02 << 56)


def usable(prefix: Prefix) -> tuple[int, int]:
    """First and last address that a NIC may have, as numbers.

    IPv4: neither the network nor the broadcast address, but both of a /31 (RFC 3021) and the one of a /32.
    IPv6: not the subnet-router anycast address (RFC 4291 section 2.6.1), but both of a /127 (RFC 6164).
    """
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    if prefix.version == 4 and prefix.prefixlen <= 30:
        return first + 1, last - 1
    if prefix.version == 6 and prefix.prefixlen <= 126:
        return first + 1, last
    return first, last


class Network:
    """One IP subnet of a LAN: a broadcast domain with an IPv4 prefix, an IPv6 prefix or both.

    Attributes:
        name: unique on the LAN.
        prefixes: the prefixes, IPv4 first.
        mtu: largest datagram in bytes of IP, header included.
    """

    def __init__(self, name: str, prefixes: tuple[Prefix, ...], mtu: int, number: int) -> None:
        self.name = name
        self.prefixes = prefixes
        self.mtu = mtu
        self._number = number
        self._taken: dict[Address, str] = {}
        self._next = {prefix: usable(prefix)[0] for prefix in prefixes}

    def __repr__(self) -> str:
        return f"<Network {self.name} {' '.join(map(str, self.prefixes))} mtu {self.mtu}>"

    def prefix_of(self, address: Address) -> Prefix | None:
        """Returns the prefix that ``address`` is in, or ``None``."""
        return next(
            (prefix for prefix in self.prefixes if address.version == prefix.version and address in prefix), None
        )

    def check(self, text: str) -> Address:
        """Returns the address, if a NIC of this network may have it and none has it.

        Raises:
            AddressError: not an address.
            AddressOutside: in no prefix of the network, or its network, broadcast or anycast address.
            AddressTaken: another NIC has it.
        """
        address = parse_address(text)
        prefix = self.prefix_of(address)
        own = " and ".join(map(str, self.prefixes))
        if prefix is None:
            raise AddressOutside(f"{address} is outside network {self.name!r} ({own})")
        first, last = usable(prefix)
        if not first <= int(address) <= last:
            raise AddressOutside(f"{address} is the network, broadcast or anycast address of {prefix}")
        if address in self._taken:
            raise AddressTaken(f"{address} belongs to NIC {self._taken[address]!r}")
        return address

    def free_addresses(self, *, lowest: bool = False) -> list[Address]:
        """Returns the next free address of each prefix; with ``lowest`` the lowest that is free.

        Raises:
            NetworkFull: a prefix has none left.
        """
        found: list[Address] = []
        for prefix in self.prefixes:
            first, last = usable(prefix)
            kind: type[Address] = ipaddress.IPv4Address if prefix.version == 4 else ipaddress.IPv6Address
            start = first if lowest else self._next[prefix]
            # From the last one given out on, then from the beginning: addresses are not used again at once.
            for number in (*_upto(start, last, len(self._taken)), *_upto(first, start - 1, len(self._taken))):
                if (address := kind(number)) not in self._taken:
                    if not lowest:
                        self._next[prefix] = number + 1 if number < last else first
                    found.append(address)
                    break
            else:
                raise NetworkFull(f"network {self.name!r}: every address of {prefix} is given out")
        return found

    def owner(self, address: Address) -> str | None:
        """Returns the name of the NIC that has ``address``, or ``None``."""
        return self._taken.get(address)

    def take(self, addresses: Sequence[Address], name: str) -> None:
        """Marks addresses as those of the NIC ``name``."""
        for address in addresses:
            self._taken[address] = name

    def give_back(self, addresses: Sequence[Address]) -> None:
        """Marks addresses as free."""
        for address in addresses:
            self._taken.pop(address, None)


def _upto(first: int, last: int, taken: int) -> range:
    """The numbers from first to last, but no more than it takes to find a free one among ``taken``."""
    return range(first, min(last, first + taken) + 1)
