"""Puts a layout on a LAN: its routers and links, and a network with hosts at each router."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from ..errors import AddressError, NetworkFull
from ..network import Network, Prefix, parse_prefixes
from ..register import LARGEST
from .layout import Layout
from .spaces import AddressPlan

if TYPE_CHECKING:
    from ..hosts import Host
    from ..lan import Lan
    from .links import Link
    from .routers import Router

__all__ = ["HOST_POOLS", "Built", "build", "prefixes_for"]

# Where the networks at routers get their prefixes from, and how long those are.
HOST_POOLS = ("10.0.0.0/8",)
_LENGTHS = {4: 24, 6: 64}


@dataclass(frozen=True)
class Built:
    """What a layout has become on a LAN.

    Attributes:
        routers: by name, in the order of the layout.
        links: in the order of the layout.
        networks: by the name of the router that they are at.
        hosts: likewise.
    """

    routers: Mapping[str, Router]
    links: tuple[Link, ...]
    networks: Mapping[str, Network]
    hosts: Mapping[str, tuple[Host, ...]]


def build(
    lan: Lan,
    layout: Layout,
    *,
    hosts: int = 1,
    pools: str | Sequence[str] = HOST_POOLS,
    mtu: int = LARGEST,
    buffer: int | None = None,
    host: Callable[..., Any] | None = None,
) -> Built:
    """Puts the routers and links of a layout on a LAN, with a network and hosts at each router that is to have some.

    The network at ``R1`` is called ``R1-net``, its hosts ``R1-host-1``, ``R1-host-2``...  The router has the first
    address.

    Arguments:
        lan: the LAN; what is on it stays.
        layout: as :func:`vnet.routing.graphs.read_graph` reads it, or :mod:`vnet.routing.generate` makes it.
        hosts: how many hosts at each; 0 for no networks either.
        pools: prefixes out of which the networks get theirs, in order, one of each family: a /24 and a /64 each, or
            what so many hosts need.
        mtu: that of networks and links, in bytes of IP.
        buffer: bytes of each host's input buffer; ``None`` for the LAN's largest.
        host: makes a host in place of ``lan.host``, with the same arguments.

    Raises:
        NameTaken, LanFull: as of :meth:`vnet.Lan.router`; what was made until then is there.
        NetworkFull: the pools are used up.
    """
    if not isinstance(hosts, int) or isinstance(hosts, bool) or hosts < 0:
        raise ValueError(f"hosts is how many there are at each router, not {hosts!r}")
    make = host or lan.host
    routing = lan.routing
    networks: dict[str, Network] = {}
    made: dict[str, tuple[Host, ...]] = {}
    routers: dict[str, Router] = {}
    with routing.batch():
        plan = prefixes_for(pools, hosts + 1, routing.spaces)
        for sketch in layout.routers:
            own: dict[str, None] = {}
            if hosts and sketch.hosts:
                network = lan.add_network(f"{sketch.name}-net", [str(prefix) for prefix in next(plan)], mtu=mtu)
                networks[sketch.name] = network
                own = {network.name: None}
            routers[sketch.name] = lan.router(sketch.name, own, attributes=sketch.attributes)
        links = tuple(
            lan.link(link.a, link.b, weight=link.weight, mtu=mtu, attributes=link.attributes) for link in layout.links
        )
        for name, network in networks.items():
            names = (f"{name}-host-{number}" for number in range(1, hosts + 1))
            made[name] = tuple(make(each, network=network.name, buffer=buffer) for each in names)
    return Built(routers, links, networks, made)


def prefixes_for(pools: str | Sequence[str], addresses: int, spaces: AddressPlan) -> Iterator[tuple[Prefix, ...]]:
    """Prefixes for networks of so many addresses each, out of ``pools`` in order, one of each family.

    What is claimed in ``spaces`` is left out; nothing is claimed here.

    Raises:
        AddressError: a pool is no prefix, or has no room for a single network.
        NetworkFull: a pool is used up; when the next is asked for.
    """
    runs = []
    for pool in parse_prefixes(pools):
        length = _length(pool.version, addresses)
        if pool.prefixlen > length:
            raise AddressError(f"the pool {pool} has no room for a network of {addresses} addresses, a /{length}")
        runs.append(_run(pool, length, spaces))
    return zip(*runs, strict=True)


def _length(version: int, addresses: int) -> int:
    length = _LENGTHS[version]
    if version == 4:
        # Network and broadcast address beside them.
        length = min(length, 32 - (addresses + 1).bit_length())
    return length


def _run(pool: Prefix, length: int, spaces: AddressPlan) -> Iterator[Prefix]:
    size = 1 << (pool.max_prefixlen - length)
    kind = IPv4Network if pool.version == 4 else IPv6Network
    at = int(pool.network_address)
    while at <= int(pool.broadcast_address):
        prefix = kind((at, length))
        taken = spaces.overlapping(prefix)
        if taken is None:
            yield prefix
            at += size
        else:
            after = int(taken[0].broadcast_address) + 1
            at = max(at + size, after + -after % size)
    raise NetworkFull(f"the pool {pool} is used up: no further /{length} of it is free")
