"""Which address a node gets: the given ones first, then the next free one of each prefix, in file order."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from vnet.errors import AddressOutside, AddressTaken, NetworkFull
from vnet.lab.plan import Address, Network, Prefix

__all__ = ["AddressBook", "parse_address", "parse_prefix", "usable"]


def parse_address(text: str) -> Address:
    """Read an IP address; one with an interface behind ``%`` means nothing on a LAN.

    Raises:
        ValueError: it is none.
    """
    if "%" in text:
        raise ValueError(f"{text!r} names an interface")
    return ipaddress.ip_address(text)


def parse_prefix(text: str) -> Prefix:
    """Read ``10.0.0.0/24`` or ``fd00::/64``.

    Raises:
        ValueError: it is not a prefix that guests can live in; the message is one sentence.
    """
    try:
        if "%" in text:
            raise ValueError
        prefix = ipaddress.ip_network(text, strict=True)
    except ValueError:
        try:
            loose = ipaddress.ip_interface(text.split("%")[0])
        except ValueError:
            raise ValueError(f"{text!r} is not a prefix; expected one such as 10.0.0.0/24 or fd00::/64") from None
        raise ValueError(
            f"{text!r} is an address inside {loose.network}; expected the prefix {loose.network}"
        ) from None
    if "/" not in text:
        raise ValueError(f"{text!r} is an address; expected a prefix such as 10.0.0.0/24 or fd00::/64")
    if prefix.is_multicast or prefix.network_address.is_unspecified:
        raise ValueError(f"guests cannot live in {prefix}; expected a prefix of unicast addresses such as 10.0.0.0/24")
    return prefix


def usable(prefix: Prefix) -> tuple[int, int]:
    """The first and the last address of a prefix that a NIC may have, as numbers.

    The network address is never given out, nor is the broadcast address of an IPv4 prefix; point-to-point prefixes have
    neither (RFC 3021 for /31, RFC 6164 for /127).
    """
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    if prefix.max_prefixlen - prefix.prefixlen <= 1:
        return first, last
    return first + 1, last - 1 if prefix.version == 4 else last


class AddressBook:
    """Hands out the addresses of one network; reserve all given addresses before the first :meth:`next`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._owners: dict[Address, str] = {}
        self._free: dict[Prefix, Iterator[Address]] = {p: self._walk(p) for p in network.prefixes}

    def reserve(self, text: str, owner: str) -> Address:
        """Give the address ``text`` to ``owner``.

        Raises:
            ValueError: it is not an address.
            AddressOutside: it is in none of the network's prefixes, or its network or broadcast address.
            AddressTaken: another node has it.
        """
        try:
            address = parse_address(text)
        except ValueError:
            example = self._network.prefixes[0]
            raise ValueError(f"{text!r} is not an IP address; expected one of {example}") from None
        prefix = next((p for p in self._network.prefixes if address in p), None)
        where = f"network {self._network.name!r} ({', '.join(map(str, self._network.prefixes))})"
        if prefix is None:
            raise AddressOutside(f"{address} is outside {where}")
        first, last = usable(prefix)
        if not first <= int(address) <= last:
            what = "network" if int(address) < first else "broadcast"
            raise AddressOutside(f"{address} is the {what} address of {prefix}; expected an address of a guest")
        if address in self._owners:
            raise AddressTaken(f"{address} is already the address of {self._owners[address]!r}")
        self._owners[address] = owner
        return address

    def next(self, prefix: Prefix, owner: str) -> Address:
        """Give the lowest free address of ``prefix`` to ``owner``.

        Raises:
            NetworkFull: every usable address has an owner.
        """
        for address in self._free[prefix]:
            if address not in self._owners:
                self._owners[address] = owner
                return address
        first, last = usable(prefix)
        raise NetworkFull(
            f"network {self._network.name!r} is full: all {last - first + 1} usable addresses of {prefix} are given out"
        )

    def _walk(self, prefix: Prefix) -> Iterator[Address]:
        first, last = usable(prefix)
        make = ipaddress.IPv4Address if prefix.version == 4 else ipaddress.IPv6Address
        for number in range(first, last + 1):
            yield make(number)
