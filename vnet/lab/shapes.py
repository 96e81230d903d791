"""Routers, links and networks that follow from a graph file or a shape, and the guests at each router.

What is made has names that the lab file can use: the routers are called as the graph or the shape has it, the network
at router ``R`` is ``R-net``, and its guests ``R-host``, or ``R-host-1`` to ``R-host-N`` where they are several.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from vnet.errors import GraphError
from vnet.lab.addresses import parse_prefix, usable
from vnet.lab.linking import Edge
from vnet.lab.members import MOST_NODES, Member, check_name
from vnet.lab.plan import Link, Network, Node, Prefix
from vnet.lab.schema import GraphFile, HostsFile, LabFile, NodeFile, RandomFile, TopologyFile, TreeFile
from vnet.lab.schema.routed import MOST_WEIGHT
from vnet.lab.tree import Key, Tree, did_you_mean
from vnet.routing import generate
from vnet.routing.graphs import Parallel, SelfLoops, read_graph
from vnet.routing.layout import Layout, LinkSketch
from vnet.routing.spaces import AddressPlan

__all__ = ["Shape", "read_shape"]

# Networks at routers have room to grow: a /24 if there are enough of them, never longer than they need.
_USUAL = {4: 24, 6: 64}
# Each has two ports (vnet.routing.model).
_MOST_LINKS = 32_768


@dataclass
class Shape:
    """What follows from a graph or a shape.

    Attributes:
        members: the routers, then the guests at each.
        edges: the links.
        networks: the name of the network at each router that has one, by the router's name.
    """

    tree: Tree
    path: tuple[Key, ...] = ()
    said: GraphFile | TopologyFile | None = None
    members: list[Member] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)

    def give_prefixes(self, others: Mapping[str, Network], space: AddressPlan) -> dict[str, Network]:
        """The networks at the routers, with prefixes of the pool that nobody else has.

        Raises:
            LabError: a network is called so already, or the pool is too small.
        """
        if self.said is None or not self.networks:
            return {}
        for name in self.networks:
            if name in others:
                message = f"a network called {name!r} is made by {self.path[0]!r} too; expected another name"
                raise self.tree.error(message, ("networks", name), at_key=True)
        pools: dict[int, list[Prefix]] = {}
        for index, text in enumerate(self.said.prefix):
            place = (*self.path, "prefix", index)
            try:
                pool = parse_prefix(text)
            except ValueError as error:
                raise self.tree.error(str(error), place) from None
            if pool.version in pools:
                raise self.tree.error(f"one IPv{pool.version} pool is enough; expected one of each family", place)
            if pool.version == 6 and self.said.mtu < 1280:
                if place[:-1] in self.tree.values:
                    message = f"IPv6 needs an MTU of at least 1280 bytes (RFC 8200), found {self.said.mtu}"
                    raise self.tree.error(message, (*self.path, "mtu"))
                continue
            pools[pool.version] = self._cut(pool, space, place)
        made: dict[str, Network] = {}
        for number, name in enumerate(self.networks):
            prefixes = tuple(pools[version][number] for version in sorted(pools))
            for prefix in prefixes:
                space.claim(prefix, f"network {name!r}")
            made[name] = Network(name, prefixes, self.said.mtu)
        return made

    def _cut(self, pool: Prefix, space: AddressPlan, place: tuple[Key, ...]) -> list[Prefix]:
        """Prefixes of the pool that nobody has, one for each network, all of one length: the usual one if it fits.

        Raises:
            LabError: there is no room for so many of the length that they need.
        """
        assert self.said is not None
        needed, number = self.said.hosts.count + 1, len(self.networks)
        longest: int = pool.max_prefixlen
        while longest >= pool.prefixlen and _room(pool, longest) < needed:
            longest -= 1
        first = min(max(_USUAL[pool.version], pool.prefixlen + (number - 1).bit_length()), longest)
        for length in range(first, longest + 1):
            if length >= pool.prefixlen:
                found = list(itertools.islice(_free(pool, length, space), number))
                if len(found) == number:
                    return found
        message = f"{pool} has no room for {number:,} networks of {needed:,} addresses each"
        raise self.tree.error(f"{message}; expected a larger pool as 'prefix'", place)

    def check_connected(self, nodes: Mapping[str, Node], links: Mapping[str, Link]) -> None:
        """See that every router of the graph can be reached from every other, by links or networks.

        Raises:
            LabError: it cannot.
        """
        routers = [member.name for member in self.members if nodes[member.name].kind == "router"]
        if not routers or (isinstance(self.said, GraphFile) and self.said.disconnected == "keep"):
            return
        near: dict[str, list[str]] = {}
        for link in links.values():
            near.setdefault(link.ends[0], []).append(link.ends[1])
            near.setdefault(link.ends[1], []).append(link.ends[0])
        for node in nodes.values():
            if node.kind == "router" or node.forward:
                for each in node.joined:
                    # A network is a neighbour of all that are on it; a colon is in no name.
                    near.setdefault(node.name, []).append(f":{each.network}")
                    near.setdefault(f":{each.network}", []).append(node.name)
        reached, todo = {routers[0]}, [routers[0]]
        while todo:
            for other in near.get(todo.pop(), ()):
                if other not in reached:
                    reached.add(other)
                    todo.append(other)
        apart = [name for name in routers if name not in reached]
        if apart:
            more = ", ..." if len(apart) > 6 else ""
            raise self.tree.error(
                f"the graph is not connected: no links lead from {routers[0]!r} to {', '.join(apart[:6])}{more}; "
                "expected 'links' that join the parts, or 'disconnected: largest' or 'keep'",
                (*self.path, "file") if (*self.path, "file") in self.tree.values else self.path,
            )


def read_shape(tree: Tree, said: LabFile, directory: Path, seed: int) -> Shape:
    """What a lab file's ``graph`` or ``topology`` makes; nothing where it has none.

    Raises:
        LabError: the file cannot be read, or its graph cannot be a lab.
    """
    if said.graph is not None:
        layout = _read_graph(tree, said.graph, directory)
        return _shape(tree, said, ("graph",), said.graph, layout, said.graph.weight)
    if said.topology is not None:
        layout = _make_layout(tree, said.topology, seed)
        return _shape(tree, said, ("topology",), said.topology, layout, said.topology.weight)
    return Shape(tree)


def _shape(
    tree: Tree, said: LabFile, path: tuple[Key, ...], what: GraphFile | TopologyFile, layout: Layout, weight: int | str
) -> Shape:
    _check_kind(tree, said, what.hosts, path)
    shape = Shape(tree, path, what)
    hosts: list[Member] = []
    many = sum(router.hosts for router in layout.routers) * what.hosts.count if what.networks else 0
    if many > MOST_NODES:
        message = f"{many:,} guests at {len(layout.routers):,} routers are more than the {MOST_NODES:,} nodes of a lab"
        raise tree.error(message, (*path, "hosts"))
    for router in layout.routers:
        network = f"{router.name}-net"
        here = what.networks and router.hosts
        _check_made(tree, network if here else router.name, path)
        joined: dict[str, list[str]] = {network: []} if here else {}
        node = NodeFile.model_construct({"kind", "networks"}, kind="router", networks=joined)
        shape.members.append(Member(router.name, path, node, router.attributes, generated=True))
        if here:
            shape.networks.append(network)
            hosts += _hosts(what.hosts, router.name, network, path)
    shape.members += hosts
    if len(layout.links) > _MOST_LINKS:
        raise tree.error(f"{len(layout.links):,} links are more than the {_MOST_LINKS:,} that a lab can have", path)
    for link in layout.links:
        cost = _weight(tree, path, link, weight)
        attributes = {name: value for name, value in link.attributes.items() if name != "weight"}
        shape.edges.append(Edge((link.a, link.b), path, weight=cost, mtu=what.mtu, attributes=attributes))
    return shape


def _hosts(said: HostsFile, router: str, network: str, path: tuple[Key, ...]) -> Iterable[Member]:
    names = [f"{router}-host"] if said.count == 1 else [f"{router}-host-{n}" for n in range(1, said.count + 1)]
    values = {key: getattr(said, key) for key in said.model_fields_set if key != "count"}
    node = NodeFile.model_construct({*values, "networks"}, **{**values, "networks": {network: []}})
    return [Member(name, (*path, "hosts"), node, generated=True) for name in names]


def _check_made(tree: Tree, name: str, path: tuple[Key, ...]) -> None:
    check_name(tree, name, *((*path, "file") if (*path, "file") in tree.values else path))


def _check_kind(tree: Tree, said: LabFile, hosts: HostsFile, path: tuple[Key, ...]) -> None:
    kind = hosts.kind if "kind" in hosts.model_fields_set else said.defaults.nodes.kind
    if hosts.count and kind in ("router", "tap"):
        message = f"expected host, process or netns at each router, and the defaults say {kind}"
        raise tree.error(message, (*path, "hosts", "kind"))


def _weight(tree: Tree, path: tuple[Key, ...], link: LinkSketch, wanted: int | str) -> int:
    """The weight of a link: a number, or what its edge has under a name."""
    if isinstance(wanted, int):
        return wanted
    if wanted == "weight":
        return link.weight
    place, said = (*path, "weight"), link.attributes.get(wanted)
    if said is None:
        message = f"the edge from {link.a!r} to {link.b!r} has no attribute {wanted!r}"
        close = did_you_mean(wanted, map(str, link.attributes))
        raise tree.error(f"{message}{close}; expected one that every edge has, or a number", place)
    try:
        weight = round(float(said))
        if isinstance(said, bool) or not 1 <= weight <= MOST_WEIGHT:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        message = f"{wanted!r} of the edge from {link.a!r} to {link.b!r} is {said!r}"
        raise tree.error(f"{message}; expected a number from 1 to {MOST_WEIGHT:,}", place) from None
    return weight


def _read_graph(tree: Tree, said: GraphFile, directory: Path) -> Layout:
    place = ("graph", "file") if ("graph", "file") in tree.values else ("graph",)
    # Links of the lab file may join the parts of a graph, so these are looked at when links are known.
    disconnected: Literal["keep", "largest"] = "largest" if said.disconnected == "largest" else "keep"
    parallel, self_loops = cast(Parallel, said.parallel), cast(SelfLoops, said.self_loops)
    try:
        return read_graph(directory / said.file, parallel=parallel, self_loops=self_loops, disconnected=disconnected)
    except GraphError as error:
        # Arguments of Python, said as keys of a lab file.
        message = re.sub(r"(\w+)='(\w+)'", r"'\1: \2'", error.message)
        raise tree.error(f"{said.file}: {message}", place) from None


def _make_layout(tree: Tree, said: TopologyFile, seed: int) -> Layout:
    size = getattr(said, said.shape)
    try:
        if isinstance(size, TreeFile):
            return generate.tree(size.branches, size.height)
        if isinstance(size, RandomFile):
            own = seed if size.seed is None else size.seed
            number = size.routers
            links = number * size.degree / 2 if size.degree is not None else number * (number - 1) / 2 * (size.p or 0)
            if links > 2 * _MOST_LINKS:
                # It would take long to make so many only to find that.
                raise ValueError(f"about {links:,.0f} links are more than the {_MOST_LINKS:,} that a lab can have")
            return generate.random(size.routers, degree=size.degree, p=size.p, seed=own)
        if said.grid is not None:
            return generate.grid(*said.grid)
        make: Callable[[int], Layout] = getattr(generate, said.shape)
        return make(size)
    except ValueError as error:
        raise tree.error(str(error), ("topology", said.shape)) from None


def _free(pool: Prefix, length: int, space: AddressPlan) -> Iterator[Prefix]:
    """The prefixes of a pool with that length that nobody has, in order."""
    begin, last = int(pool.network_address), int(pool.broadcast_address)
    at, size = begin, 1 << (pool.max_prefixlen - length)
    while at + size - 1 <= last:
        prefix: Prefix = (
            ipaddress.IPv4Network((at, length)) if pool.version == 4 else ipaddress.IPv6Network((at, length))
        )
        taken = space.overlapping(prefix)
        if taken is None:
            yield prefix
            at += size
        else:
            # To the first place behind what is taken.
            beyond = int(taken[0].broadcast_address) + 1
            at = max(at + size, beyond + (begin - beyond) % size)


def _room(pool: Prefix, length: int) -> int:
    """How many addresses a prefix of the pool with that length has for NICs."""
    bits = pool.max_prefixlen
    prefix: Prefix = (
        ipaddress.IPv4Network((int(pool.network_address), length))
        if bits == 32
        else ipaddress.IPv6Network((int(pool.network_address), length))
    )
    first, last = usable(prefix)
    return last - first + 1
