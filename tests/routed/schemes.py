"""What a routed lab consists of, said once: :mod:`kernel_side` builds it from namespaces, :mod:`vnet_side` from vnet.

Everything that shows in an answer is given here: addresses, MTUs, weights, static routes.  Hardware addresses do not
show.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

import networkx

_FIRST = 0x100


@dataclass(frozen=True)
class Network:
    """A broadcast domain with its prefixes."""

    prefixes: Sequence[str]
    mtu: int = 1500


@dataclass(frozen=True)
class Host:
    """An end of the lab that sends and receives bytes: no stack of anybody's answers there."""

    network: str
    gateway: str
    """The router that its datagrams are handed to."""


@dataclass(frozen=True)
class Wire:
    """A link between two routers: the first has the lower address of each prefix."""

    one: str
    other: str
    prefixes: Sequence[str]
    mtu: int = 1500
    weight: int = 1


@dataclass(frozen=True)
class Fixed:
    """A static route: ``via`` is an address, ``unreachable``, ``prohibit`` or ``blackhole``."""

    router: str
    prefix: str
    via: str


@dataclass(frozen=True)
class Port:
    """A router's interface: its addresses with the length of their prefix, and whom it reaches."""

    router: str
    attached: str
    """The network, or the router at the link's other end."""
    addresses: tuple[str, ...]
    mtu: int
    wire: Wire | None = None

    def address(self, family: int) -> str:
        """Its address without the length."""
        return next(str(each.ip) for each in map(ip_interface, self.addresses) if each.version == family)


@dataclass(frozen=True)
class Scheme:
    """A lab."""

    networks: Mapping[str, Network]
    routers: Mapping[str, Mapping[str, Sequence[str]]]
    """Each router's addresses by network; ``lo`` for those of its loopback."""
    hosts: Mapping[str, Host]
    wires: Sequence[Wire] = ()
    fixed: Sequence[Fixed] = ()
    multipath: bool = False
    """Whether routers use all shortest paths; else there is one."""
    addresses: int = 250
    """How many each host has: routers count errors to each, so each probe takes a new one."""

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """All routers' interfaces."""
        found = []
        for router, networks in self.routers.items():
            for name, addresses in networks.items():
                if name != "lo":
                    network = self.networks[name]
                    found.append(Port(router, name, _with_lengths(addresses, network.prefixes), network.mtu))
        for wire in self.wires:
            for at, (router, peer) in enumerate(((wire.one, wire.other), (wire.other, wire.one))):
                prefixes = map(ip_network, wire.prefixes)
                addresses = tuple(f"{prefix[at]}/{prefix.prefixlen}" for prefix in prefixes)
                found.append(Port(router, peer, addresses, wire.mtu, wire))
        return tuple(found)

    def port(self, router: str, attached: str) -> Port:
        """The interface of a router on a network, or on its link to another router."""
        return next(each for each in self.ports if each.router == router and each.attached == attached)

    def router_addresses(self, family: int) -> set[str]:
        """Every address that a router has itself."""
        found = {each.address(family) for each in self.ports if _has(each.addresses, family)}
        for networks in self.routers.values():
            found |= {each for each in networks.get("lo", ()) if ip_address(each).version == family}
        return found

    def speakers(self, family: int) -> set[str]:
        """What routers' own datagrams may come from: their addresses, and in IPv6 those of all routers of a network."""
        prefixes = (_prefix(network.prefixes, 6) for network in self.networks.values()) if family == 6 else ()
        return self.router_addresses(family) | {str(each.network_address) for each in prefixes if each is not None}

    def host_addresses(self, host: str, family: int) -> list[str]:
        """The addresses of a host, which it has many of."""
        return self._host_addresses[host, family]

    @cached_property
    def _host_addresses(self) -> dict[tuple[str, int], list[str]]:
        found = {}
        for number, (name, host) in enumerate(self.hosts.items()):
            for family in (4, 6):
                prefix = _prefix(self.networks[host.network].prefixes, family)
                first = _FIRST + number * self.addresses
                last = first + self.addresses
                assert prefix is None or last < prefix.num_addresses, f"{prefix} is too small for hosts"
                numbers = range(first, last) if prefix is not None else ()
                found[name, family] = [str(prefix.network_address + each) for each in numbers]
        return found

    def routes(self, router: str, family: int) -> Iterator[tuple[str, list[Port]]]:
        """What a router has to be told: prefixes that are not its own, each with the ways out that are shortest."""
        graph = networkx.DiGraph()
        for port in self.ports:
            if port.wire is not None:
                graph.add_edge(port.router, port.attached, weight=port.wire.weight)
            else:
                # Cost out of a router's port, none into a router: RFC 2328, section 2.1.2.
                graph.add_edge(port.router, f"network {port.attached}", weight=1)
                graph.add_edge(f"network {port.attached}", port.router, weight=0)
        for prefix, at in self._prefixes(family):
            mine = {router, *(f"network {p.attached}" for p in self.ports if p.router == router and p.wire is None)}
            if at & mine:
                continue
            lengths = {
                each: networkx.dijkstra_path_length(graph, router, each)
                for each in sorted(at)
                if networkx.has_path(graph, router, each)
            }
            if not lengths:
                continue
            nearest = min(lengths.values())
            targets = [each for each, length in lengths.items() if length == nearest]
            paths = [path for each in targets for path in networkx.all_shortest_paths(graph, router, each, "weight")]
            hops = []
            for path in paths:
                # The router after this one, on the far side of the network where one lies between.
                wired = not path[1].startswith("network ")
                hop = self.port(path[1], router) if wired else self.port(path[2], path[1].removeprefix("network "))
                if hop not in hops:
                    hops.append(hop)
            yield prefix, hops if self.multipath else hops[:1]

    def _prefixes(self, family: int) -> Iterator[tuple[str, set[str]]]:
        for name, network in self.networks.items():
            for prefix in network.prefixes:
                if ip_network(prefix).version == family:
                    yield prefix, {f"network {name}"}
        for wire in self.wires:
            for prefix in wire.prefixes:
                if ip_network(prefix).version == family:
                    yield prefix, {wire.one, wire.other}
        for router, networks in self.routers.items():
            for address in networks.get("lo", ()):
                if ip_address(address).version == family:
                    yield f"{address}/{32 if family == 4 else 128}", {router}


def _prefix(prefixes: Sequence[str], family: int):
    return next((each for each in map(ip_network, prefixes) if each.version == family), None)


def _has(addresses: Sequence[str], family: int) -> bool:
    return any(ip_interface(each).version == family for each in addresses)


def _with_lengths(addresses: Sequence[str], prefixes: Sequence[str]) -> tuple[str, ...]:
    lengths = {prefix.version: prefix.prefixlen for prefix in map(ip_network, prefixes)}
    return tuple(f"{each}/{lengths[ip_address(each).version]}" for each in addresses)


def line(
    routers: int = 3,
    *,
    mtus: Sequence[int] | None = None,
    fixed: Sequence[Fixed] = (),
    ends: Sequence[int] = (1500, 1500),
    addresses: int = 250,
) -> Scheme:
    """Two networks with a host each and so many routers in a row between them.

    ::

        a ── left ── r1 ──── r2 ──── r3 ── right ── b
          10.1.0.0/20   link    link    10.2.0.0/20

    Arguments:
        routers: how many.
        mtus: those of the links, from left to right.
        fixed: static routes.
        ends: the MTUs of the two networks.
        addresses: how many each host has.
    """
    names = [f"r{number}" for number in range(1, routers + 1)]
    own: dict[str, dict[str, Sequence[str]]] = {
        name: {"lo": (f"10.254.0.{number}", f"fd00:fe::{number:x}")} for number, name in enumerate(names, 1)
    }
    own[names[0]]["left"] = ("10.1.0.1", "fd00:1::1")
    own[names[-1]]["right"] = ("10.2.0.1", "fd00:2::1")
    sizes = mtus or [1500] * (routers - 1)
    return Scheme(
        networks={
            "left": Network(("10.1.0.0/20", "fd00:1::/64"), ends[0]),
            "right": Network(("10.2.0.0/20", "fd00:2::/64"), ends[1]),
        },
        routers=own,
        hosts={"a": Host("left", names[0]), "b": Host("right", names[-1])},
        wires=[
            Wire(one, other, (f"10.255.0.{2 * at}/31", f"fd00:ff::{2 * at:x}/127"), mtu)
            for at, ((one, other), mtu) in enumerate(zip(itertools.pairwise(names), sizes, strict=True))
        ],
        fixed=fixed,
        addresses=addresses,
    )


def version(address: str | IPv4Address | IPv6Address) -> int:
    """4 or 6."""
    return ip_address(address).version
