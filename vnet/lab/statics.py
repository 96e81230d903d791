"""Routes that a lab file gives: static routes of routers, and what lies outside of the lab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from vnet.lab.addresses import parse_address
from vnet.lab.members import Member
from vnet.lab.plan import Address, Joined, Link, Network, Node, Outside, Prefix, StaticRoute
from vnet.lab.schema import LabFile
from vnet.lab.tree import Key, Tree, did_you_mean
from vnet.network import Network as OnLan
from vnet.routing.loops import find_loops
from vnet.routing.model import Behind, Class, Model, Refusal, RouterNode, Step, Via

__all__ = ["RoutePlanner", "check_loops"]

_REFUSALS = ("unreachable", "prohibit", "blackhole")


class RoutePlanner:
    """Plans the routes of a lab file.

    Args:
        tree: the lab file.
        networks: by name.
        joined: the NICs of every node, by its name.
        links: by name.
    """

    def __init__(
        self,
        tree: Tree,
        networks: Mapping[str, Network],
        joined: Mapping[str, tuple[Joined, ...]],
        links: Mapping[str, Link],
    ) -> None:
        self._tree = tree
        self._networks = networks
        self._joined = joined
        # The prefixes of the links of each router, with who is at the other end and which address it has there.
        self._peers: dict[str, list[tuple[Prefix, str, Address]]] = {}
        for link in links.values():
            for index, (one, other) in enumerate((link.ends, link.ends[::-1])):
                there = link.addresses[1 - index]
                self._peers.setdefault(one, []).extend(
                    (prefix, other, address) for prefix, address in zip(link.prefixes, there, strict=True)
                )

    # Static routes

    def static(self, member: Member) -> tuple[StaticRoute, ...]:
        """The static routes of a router.

        Raises:
            LabError: a prefix is none, or a next hop is no neighbour.
        """
        routes: dict[Prefix, StaticRoute] = {}
        for text, said in member.said.routes.items():
            path = (*member.path, "routes", text)
            prefix = self._prefix(text, path)
            if prefix in routes:
                raise self._tree.error(f"{prefix} has a route already; expected one, with a list of next hops", path)
            words = [word for word in said if word in _REFUSALS]
            if words and len(said) > 1:
                raise self._tree.error(f"{words[0]!r} stands alone; expected it, or next hops", path)
            if words:
                routes[prefix] = StaticRoute(prefix, words[0])
                continue
            hops: list[Address] = []
            for index, via in enumerate(said):
                hop = self._next_hop(member.name, prefix, via, (*path, index))
                if hop in hops:
                    raise self._tree.error(f"{hop} is a next hop twice; expected it once", (*path, index))
                hops.append(hop)
            routes[prefix] = StaticRoute(prefix, tuple(hops))
        return tuple(routes.values())

    def _prefix(self, text: str, path: tuple[Key, ...], *, at_key: bool = True) -> Prefix:
        try:
            if "%" in text or "/" not in text:
                raise ValueError
            return ip_network(text, strict=True)
        except ValueError:
            pass
        try:
            if "%" in text:
                raise ValueError
            loose = ip_interface(text)
        except ValueError:
            message = f"{text!r} is not a prefix; expected one such as 10.9.0.0/16 or fd00:9::/32"
            raise self._tree.error(message, path, at_key=at_key) from None
        message = f"{text!r} is an address; expected a prefix such as {loose.network}"
        if "/" in text:
            message = f"{text!r} is an address inside {loose.network}; expected the prefix {loose.network}"
        raise self._tree.error(message, path, at_key=at_key)

    def _next_hop(self, router: str, prefix: Prefix, via: str, path: tuple[Key, ...]) -> Address:
        """The address of a neighbour."""
        error, version = self._tree.error, prefix.version
        mine = [each.network for each in self._joined[router]]
        if via in self._joined:
            if via == router:
                raise error("a router is not its own next hop; expected a neighbour", path)
            near = [
                address
                for each in self._joined[via]
                if each.network in mine
                for address in each.addresses
                if address.version == version
            ]
            near += [
                there for its, peer, there in self._peers.get(router, ()) if peer == via and its.version == version
            ]
            if not near:
                message = f"{via!r} has no IPv{version} address on a network or link of {router!r}"
                raise error(f"{message}; expected a neighbour", path)
            return near[0]
        try:
            address = parse_address(via)
        except ValueError:
            close = did_you_mean(via, (*self._joined, *_REFUSALS))
            expected = "expected a neighbour, unreachable, prohibit or blackhole"
            raise error(f"{via!r} is neither a node nor an IP address{close}; {expected}", path) from None
        if address.version != version:
            raise error(f"{address} is an IPv{address.version} address, and {prefix} is IPv{version}", path)
        if any(address in each.addresses for each in self._joined[router]):
            raise error("a router is not its own next hop; expected a neighbour", path)
        peers = [(its, there) for its, _, there in self._peers.get(router, ())]
        if address in (there for _, there in peers):
            return address
        prefixes = [each for network in mine for each in self._networks[network].prefixes]
        if not any(address in each for each in prefixes):
            own = ", ".join(map(str, (*prefixes, *(its for its, _ in peers)))) or "none"
            message = f"{address} is the address of no neighbour of {router!r}"
            raise error(f"{message}; expected one on its networks and links ({own})", path)
        return address

    # Outside

    def outside(self, said: LabFile, nodes: Mapping[str, Node], directory: Path) -> tuple[Outside, ...]:
        """What lies outside of the lab.

        Raises:
            LabError: a prefix is none or a network's own, a file is not there, or nobody can have it behind them.
        """
        found: list[Outside] = []
        own = {prefix: network.name for network in self._networks.values() for prefix in network.prefixes}
        seen: set[Prefix] = set()
        for index, route in enumerate(said.routes):
            path: tuple[Key, ...] = ("routes",)
            for inner in ((index,), (route.prefix,)):
                if inner[0] is not None and (*path, inner[0]) in self._tree.values:
                    path = (*path, inner[0])
                    break
            line = self._tree.keys[self._tree.resolve(path)][0]
            at_via = (*path, "via")
            if route.file is not None:
                file = self._file(directory, route.file, (*path, "file"))
                # Which families the file has is known when it is read.
                found.append(Outside(self._via(nodes, route.via, None, at_via), None, file, line))
                continue
            assert route.prefix is not None  # the model has seen to it
            by_key = (*path, "prefix") not in self._tree.values
            at_prefix = path if by_key else (*path, "prefix")
            prefix = self._prefix(route.prefix, at_prefix, at_key=by_key)
            if prefix in own:
                message = f"{prefix} is the prefix of network {own[prefix]!r}; expected one outside of the lab"
                raise self._tree.error(message, at_prefix, at_key=by_key)
            if prefix in seen:
                message = f"{prefix} is here twice; expected one node that it lies behind"
                raise self._tree.error(message, at_prefix, at_key=by_key)
            seen.add(prefix)
            found.append(Outside(self._via(nodes, route.via, prefix.version, at_via), prefix, None, line))
        return tuple(found)

    def _file(self, directory: Path, text: str, path: tuple[Key, ...]) -> Path:
        file = directory / text
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._tree.error(f"{text!r} cannot be read: {reason.lower()}", path) from None
        return file

    def _via(
        self, nodes: Mapping[str, Node], text: str, version: int | None, path: tuple[Key, ...]
    ) -> tuple[Address, ...] | str:
        """The addresses of the guest behind which something lies, one of each family that is asked for."""
        error, versions = self._tree.error, (4, 6) if version is None else (version,)
        if text in nodes:
            node = nodes[text]
            if node.kind == "router":
                message = (
                    f"{text!r} is a router; what lies behind a router is in the lab: expected a guest on a network"
                )
                raise error(f"{message}, or 'routes' of the router", path)
            found = tuple(address for address in map(node.address, versions) if address is not None)
            if not found:
                family = f"IPv{version} " if version else ""
                raise error(f"{text!r} has no {family}address; expected a node that has one", path)
        elif text in _REFUSALS:
            return text
        else:
            try:
                found = (parse_address(text),)
            except ValueError:
                close = did_you_mean(text, (*nodes, *_REFUSALS))
                raise error(f"{text!r} is neither a node nor an IP address{close}", path) from None
            if found[0].version not in versions:
                raise error(f"{text} is an IPv{found[0].version} address, and the prefix is IPv{version}", path)
        for address in found:
            near = next((each for each in self._networks.values() if any(address in p for p in each.prefixes)), None)
            if near is None:
                raise error(f"{address} is outside of the lab's networks; expected the address of a guest", path)
            if not any(
                each.network == near.name and (node.kind == "router" or node.forward)
                for node in nodes.values()
                for each in node.joined
            ):
                message = f"{address} is on network {near.name!r}, which has no router to go there"
                raise error(f"{message}; expected a guest on a network that has one", path)
        return found


def check_loops(
    tree: Tree,
    members: Mapping[str, Member],
    nodes: Mapping[str, Node],
    networks: Mapping[str, Network],
    links: Mapping[str, Link],
    outside: Iterable[Outside],
) -> None:
    """See that static routes do not lead in a circle.

    Raises:
        LabError: some do; the message names the routers in the order of the way.
    """
    if not any(node.routes for node in nodes.values()):
        return
    loops = find_loops(_model(nodes, networks, links, outside))
    if not loops:
        return
    loop = loops[0]
    destination = ip_network(loop.prefix)
    place: tuple[Key, ...] = ()
    for name in loop.routers:
        # The first of the way that has a static route there: shortest paths alone make no circle.
        texts = {ip_network(text): text for text in members[name].said.routes}
        own = [prefix for prefix in texts if prefix.version == destination.version and _holds(prefix, destination)]
        if own:
            longest = max(own, key=lambda prefix: prefix.prefixlen)
            place = (*members[name].path, "routes", texts[longest])
            break
    raise tree.error(f"{loop}; expected static routes that end somewhere", place, at_key=True)


def _holds(outer: Prefix, inner: Prefix) -> bool:
    return inner.subnet_of(outer)  # type: ignore[arg-type]


def _model(
    nodes: Mapping[str, Node], networks: Mapping[str, Network], links: Mapping[str, Link], outside: Iterable[Outside]
) -> Model:
    """The lab as those who compute its paths have it, without a LAN."""
    model = Model()
    known = {name: OnLan(name, each.prefixes, each.mtu, number) for number, (name, each) in enumerate(networks.items())}
    routers = {}
    for node in nodes.values():
        if node.kind == "router" or node.forward:
            router = routers[node.name] = model.add_router(node.name, guest=node.forward, loopbacks=node.loopback)
            for each in node.joined:
                network = known[each.network]
                model.add_port(router, network, nic="", slot=0, mtu=network.mtu, weight=1, addresses=each.addresses)
    for link in links.values():
        ends = (routers[link.ends[0]], routers[link.ends[1]])
        weights: dict[str, Any] = {"weight": link.weight, "mtu": link.mtu, "attributes": {}}
        model.add_wire(link.name, ends, prefixes=link.prefixes, addresses=link.addresses, **weights)
    for far in outside:
        if far.prefix is not None and not isinstance(far.via, str):
            near = next(each for each in known.values() if each.prefix_of(far.via[0]) is not None)
            # Whoever knows no longer prefix goes there.
            model.by_prefix[far.prefix] = Class(model.classes.next(), far.prefix, Behind(near, far.via[0]))
            model.classes.put(model.by_prefix[far.prefix].number, model.by_prefix[far.prefix])
    for node in nodes.values():
        for route in node.routes:
            model.set_static(routers[node.name], route.prefix, _steps(routers[node.name], route))
    return model


def _steps(router: RouterNode, route: StaticRoute) -> list[Step]:
    if isinstance(route.via, str):
        return [Refusal(route.via)]
    steps: list[Step] = []
    for hop in route.via:
        port = next(
            each
            for each in router.ports
            if (each.network is not None and each.network.prefix_of(hop) is not None)
            or (each.wire is not None and any(hop in prefix for prefix in each.wire.prefixes))
        )
        steps.append(Via(port, hop))
    return steps
