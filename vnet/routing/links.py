"""Links between simulated routers, as users hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import AddressError, NameTaken, NicClosed
from ..network import Address, Prefix, parse_prefixes, usable
from .model import MAX_MTU, RouterNode, Wire
from .routers import Router, check_weight

if TYPE_CHECKING:
    from ..register import Register
    from .manager import Routing

__all__ = ["Link", "make_link"]

# Smallest MTU: as of networks (vnet/register.py).
_SMALLEST = {4: 68, 6: 1280}


class Link:
    """A link between two simulated routers.

    Made by :meth:`vnet.Lan.link`.  A context manager; :meth:`close` may be called twice.

    Attributes:
        name: unique among the LAN's links.
        endpoints: the names of the two routers.
        addresses: those of the first router's end, and those of the second's.
        prefixes: its prefixes, IPv4 first.
        mtu: largest datagram in bytes of IP.
        attributes: whatever is to be known of it, such as ``LinkSpeedRaw``.
    """

    def __init__(self, register: Register, wire: Wire) -> None:
        # Not the LAN, as of routers.
        self._register = register
        self._wire = wire
        self._closed = False
        self.name = wire.name
        self.endpoints = wire.ports[0].router.name, wire.ports[1].router.name
        self.addresses = tuple(map(str, wire.ports[0].addresses)), tuple(map(str, wire.ports[1].addresses))
        self.prefixes = tuple(map(str, wire.prefixes))
        self.mtu = wire.mtu
        self.attributes = wire.attributes

    def __repr__(self) -> str:
        state = ", closed" if self.closed else "" if self.up else ", cut"
        return f"<Link {self.name}: {self.endpoints[0]} - {self.endpoints[1]}, weight {self.weight}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"link {self.name!r} cannot be pickled: it is of a LAN of this process")

    @property
    def closed(self) -> bool:
        """Whether it was taken away."""
        return self._closed or self._register.closed

    @property
    def up(self) -> bool:
        """Whether it carries."""
        return self._wire.up and not self.closed

    @property
    def weight(self) -> int:
        """What crossing it costs, in either direction; may be set, and paths are new when that returns."""
        return self._wire.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        check_weight(weight)
        self._check()
        with self._register.lock:
            self._wire.weight = weight
            for port in self._wire.ports:
                port.weight = weight
            self._register.routing.moved(*self._wire.ports)

    def cut(self) -> None:
        """Has it carry nothing.  Paths lead around it, where there is another way, when this returns."""
        self._set(False)

    def mend(self) -> None:
        """Takes :meth:`cut` back."""
        self._set(True)

    def _set(self, up: bool) -> None:
        self._check()
        with self._register.lock:
            if self._wire.up != up:
                self._wire.up = up
                self._register.routing.moved(*self._wire.ports)

    def as_dict(self) -> dict[str, Any]:
        """Returns how it stands, for JSON."""
        return {
            "name": self.name,
            "endpoints": list(self.endpoints),
            "state": "up" if self.up else "cut",
            "weight": self.weight,
            "mtu": self.mtu,
            "addresses": dict(zip(self.endpoints, map(list, self.addresses), strict=True)),
        }

    def close(self) -> None:
        """Takes it away, and its addresses.  May be called twice."""
        routing = self._register.routing
        if self.closed or routing.forked:
            return
        with self._register.lock:
            self._closed = True
            routing.remove_link(self._wire)

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        self._register.routing.check()
        if self._closed:
            raise NicClosed(f"the link {self.name!r} was taken away")


Ends = tuple[tuple[Address, ...], tuple[Address, ...]]


def make_link(
    register: Register,
    a: Router | str,
    b: Router | str,
    *,
    weight: int,
    mtu: int | None,
    prefix: str | Sequence[str] | None,
    addresses: Sequence[str | Sequence[str]] | None,
    name: str | None,
    attributes: Mapping[str, Any],
) -> Link:
    """See :meth:`vnet.Lan.link`."""
    check_weight(weight)
    routing = register.routing
    with register.lock:
        ends = _end(routing, a), _end(routing, b)
        if ends[0] is ends[1]:
            raise ValueError(f"a link has two ends: {ends[0].name!r} cannot be linked to itself")
        named = _name(routing, ends, name)
        prefixes, own = _plan(register, named, prefix, addresses)
        try:
            _check_mtu(named, mtu, prefixes)
            wire = routing.model.add_wire(
                named,
                ends,
                prefixes=prefixes,
                addresses=own,
                weight=weight,
                mtu=MAX_MTU if mtu is None else mtu,
                attributes=attributes,
            )
        except BaseException:
            for each in prefixes:
                routing.spaces.give_back(each)
            raise
        link = routing.links[named] = Link(register, wire)
        try:
            routing.changed()
        except BaseException:
            link.close()
            raise
        return link


def _end(routing: Routing, router: Router | str) -> RouterNode:
    name = router if isinstance(router, str) else router.name
    found = routing.routers.get(name)
    if found is None and routing.forwarding(name) is not None:
        raise ValueError(f"{name!r} is a guest, which has no links: put it and the other router on one network")
    if found is None:
        known = ", ".join(routing.routers) or "none"
        raise ValueError(f"no router named {name!r}; there are {known}")
    if isinstance(router, Router) and router is not found:
        raise ValueError(f"router {name!r} is closed, or of another LAN")
    return found._node


def _name(routing: Routing, ends: tuple[RouterNode, RouterNode], name: str | None) -> str:
    if name is not None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"a link's name is a text, not {name!r}")
        if name in routing.links:
            raise NameTaken(f"a link named {name!r} is there already")
        return name
    plain = f"{ends[0].name}-{ends[1].name}"
    name, count = plain, 1
    while name in routing.links:
        count += 1
        name = f"{plain}.{count}"
    return name


def _check_mtu(name: str, mtu: int | None, prefixes: Sequence[Prefix]) -> None:
    least = max((_SMALLEST[prefix.version] for prefix in prefixes), default=_SMALLEST[4])
    if mtu is not None and not least <= mtu <= MAX_MTU:
        raise ValueError(f"the MTU of link {name!r} is {least} to {MAX_MTU} bytes, not {mtu}")


# Addresses


def _plan(
    register: Register,
    name: str,
    prefix: str | Sequence[str] | None,
    addresses: Sequence[str | Sequence[str]] | None,
) -> tuple[tuple[Prefix, ...], Ends]:
    """The prefixes of a link, which are claimed, and the addresses of its ends."""
    routing = register.routing
    given = None if prefix is None else parse_prefixes(prefix)
    whose = f"link {name!r}"
    ends: Ends | None = None
    if addresses is not None:
        given, ends = _given(name, given, addresses)
    claimed: list[Prefix] = []
    try:
        if given is None:
            # Those that the LAN's networks have; IPv4 where it has none yet.
            for version in sorted(register.families) or [4]:
                claimed.append(routing.pool.take(version, whose))
        else:
            for each in given:
                routing.spaces.claim(each, whose)
                claimed.append(each)
        return tuple(claimed), ends or _first_two(name, claimed)
    except BaseException:
        for each in claimed:
            routing.spaces.give_back(each)
        raise


def _first_two(name: str, prefixes: Sequence[Prefix]) -> Ends:
    """The first address of each prefix is the first end's, the second the second's."""
    ends: tuple[list[Address], list[Address]] = ([], [])
    for prefix in prefixes:
        first, last = usable(prefix)
        if last == first:
            raise AddressError(f"{prefix} of link {name!r} has no room for two addresses")
        for end, number in zip(ends, (first, first + 1), strict=True):
            end.append(prefix.network_address + (number - int(prefix.network_address)))
    return tuple(ends[0]), tuple(ends[1])


def _given(
    name: str, prefixes: tuple[Prefix, ...] | None, addresses: Sequence[str | Sequence[str]]
) -> tuple[tuple[Prefix, ...], Ends]:
    """The prefixes that given addresses are in, and the addresses."""
    if isinstance(addresses, str) or len(addresses) != 2:
        raise AddressError(f"link {name!r} has two ends, so expected addresses=(A, B), not {addresses!r}")
    sides = [[text] if isinstance(text, str) else list(text) for text in addresses]
    if len(sides[0]) != len(sides[1]) or not sides[0]:
        raise AddressError(f"both ends of link {name!r} have an address of each of its families")
    found: list[Prefix] = []
    ends: tuple[list[Address], list[Address]] = ([], [])
    for one, other in zip(*(sorted(map(_interface, side), key=_version) for side in sides), strict=True):
        prefix = _common(name, one, other, prefixes)
        found.append(prefix)
        for end, address in zip(ends, (one[0], other[0]), strict=True):
            first, last = usable(prefix)
            if not first <= int(address) <= last:
                raise AddressError(f"{address} is the network, broadcast or anycast address of {prefix}")
            end.append(address)
        if one[0] == other[0]:
            raise AddressError(f"both ends of link {name!r} have the address {one[0]}")
    if len({prefix.version for prefix in found}) < len(found):
        raise AddressError(f"an end of link {name!r} has at most one address of each family")
    return tuple(found), (tuple(ends[0]), tuple(ends[1]))


_Interface = tuple[Address, int | None]


def _interface(text: str) -> _Interface:
    """An address, and the length of its prefix if that is given: ``10.0.0.1/30``."""
    try:
        if "/" not in text:
            return ip_address(text), None
        interface = ip_interface(text)
    except (TypeError, ValueError):
        raise AddressError(f"{text!r} is not an address such as 10.0.0.1 or 10.0.0.1/30") from None
    return interface.ip, interface.network.prefixlen


def _version(interface: _Interface) -> int:
    return interface[0].version


def _common(name: str, one: _Interface, other: _Interface, prefixes: tuple[Prefix, ...] | None) -> Prefix:
    """The prefix of two ends: the given one, or the smallest in which both can be."""
    a, b = one[0], other[0]
    if a.version != b.version:
        raise AddressError(f"the ends of link {name!r}, {a} and {b}, are of two families")
    if prefixes is not None:
        inside = next((each for each in prefixes if each.version == a.version), None)
        if inside is None or a not in inside or b not in inside:
            said = " and ".join(map(str, prefixes))
            raise AddressError(f"{a} and {b} of link {name!r} are not both in {said}")
        return inside
    lengths = {length for length in (one[1], other[1]) if length is not None}
    if len(lengths) > 1:
        raise AddressError(f"the ends of link {name!r}, {a} and {b}, have prefixes of two lengths")
    if lengths:
        prefix = ip_network((int(a) if a.version == 4 else a, lengths.pop()), strict=False)
        if b not in prefix:
            raise AddressError(f"{b} of link {name!r} is not in {prefix}, as {a} is")
        return prefix
    length = a.max_prefixlen - max(1, (int(a) ^ int(b)).bit_length())
    while True:
        prefix = ip_network((a, length), strict=False)
        first, last = usable(prefix)
        if first <= int(min(a, b)) and int(max(a, b)) <= last:
            return prefix
        length -= 1
