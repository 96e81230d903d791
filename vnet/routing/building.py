"""Puts a layout on a LAN: its routers and links, and a network with hosts at each router."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import islice
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
            what so many hosts need, or what there is room for.
        mtu: that of networks and links, in bytes of IP.
        buffer: bytes of each host's input buffer; ``None`` for the LAN's largest.
        host: makes a host in place of ``lan.host``, with the same arguments.

    Raises:
        NameTaken, LanFull: as of :meth:`vnet.Lan.router`.  Then nothing was made.
        NetworkFull: the pools are used up.
    """
    if not isinstance(hosts, int) or isinstance(hosts, bool) or hosts < 0:
        raise ValueError(f"hosts is how many there are at each router, not {hosts!r}")
    made = _Made(lan, {}, [], {}, {})
    with lan.routing.batch():
        try:
            made.build(layout, hosts, pools, mtu, buffer, host or lan.host)
        except BaseException:
            made.undo()
            raise
    return Built(made.routers, tuple(made.links), made.networks, made.hosts)


@dataclass
class _Made:
    """What was made until now."""

    lan: Lan
    routers: dict[str, Router]
    links: list[Link]
    networks: dict[str, Network]
    hosts: dict[str, tuple[Host, ...]]

    def build(
        self,
        layout: Layout,
        hosts: int,
        pools: str | Sequence[str],
        mtu: int,
        buffer: int | None,
        make: Callable[..., Any],
    ) -> None:
        lan = self.lan
        where = [sketch.name for sketch in layout.routers if hosts and sketch.hosts]
        plan = prefixes_for(pools, len(where), hosts + 1, lan.routing.spaces)
        # All of them, before anything is there.
        prefixes = dict(zip(where, list(islice(plan, len(where))), strict=True))
        for sketch in layout.routers:
            own: list[str] = []
            if sketch.name in prefixes:
                own = [f"{sketch.name}-net"]
                network = lan.add_network(own[0], [str(prefix) for prefix in prefixes[sketch.name]], mtu=mtu)
                self.networks[sketch.name] = network
            self.routers[sketch.name] = lan.router(sketch.name, own, attributes=sketch.attributes)
        for link in layout.links:
            self.links.append(lan.link(link.a, link.b, weight=link.weight, mtu=mtu, attributes=link.attributes))
        for name, network in self.networks.items():
            for number in range(1, hosts + 1):
                host = make(f"{name}-host-{number}", network=network.name, buffer=buffer)
                self.hosts[name] = (*self.hosts.get(name, ()), host)

    def undo(self) -> None:
        for router in self.routers.values():
            router.close()
        for name, network in self.networks.items():
            for host in self.hosts.get(name, ()):
                self.lan.remove(host.name)
            self.lan.remove_network(network.name)


def prefixes_for(
    pools: str | Sequence[str], count: int, addresses: int, spaces: AddressPlan
) -> Iterator[tuple[Prefix, ...]]:
    """Prefixes for ``count`` networks of so many addresses each, out of ``pools`` in order, one of each family.

    What is claimed in ``spaces`` is left out; nothing is claimed here.

    Raises:
        AddressError: a pool is no prefix, or has no room for a single network.
        NetworkFull: a pool is used up; when the next is asked for.
    """
    runs = []
    for pool in parse_prefixes(pools):
        length = _length(pool, count, addresses)
        if pool.prefixlen > length:
            raise AddressError(f"the pool {pool} has no room for a network of {addresses} addresses, a /{length}")
        runs.append(_run(pool, length, spaces))
    return zip(*runs, strict=True)


def _length(pool: Prefix, count: int, addresses: int) -> int:
    """The usual length; longer, down to what the addresses need, where not all networks have room so."""
    # Network and broadcast address beside them, or the anycast address: no more is reserved.
    needed = pool.max_prefixlen - (addresses + 1).bit_length()
    least = pool.prefixlen + max(0, count - 1).bit_length()
    return min(max(_LENGTHS[pool.version], least), needed)


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
