"""From what a lab file says to what it means: names resolved, addresses given out, packets built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from vnet.lab.addresses import parse_prefix
from vnet.lab.filters import check_network, check_node
from vnet.lab.kinds import Ground, check_together, plan_node, read_loopback, value_of
from vnet.lab.linking import LinkPlanner, Role
from vnet.lab.members import LONGEST_NAME, Member, check_name, place_members, said_members
from vnet.lab.plan import Address, GuestService, Lab, Link, Network, Node, Outside, Prefix, Region
from vnet.lab.schema import LabFile, read_lab
from vnet.lab.shapes import read_shape
from vnet.lab.sharing import plan_regions, plan_services
from vnet.lab.statics import RoutePlanner, check_loops
from vnet.lab.steps import (
    call,
    connecting,
    inject,
    link,
    log,
    parallel,
    ping,
    ping_all,
    repeat,
    replay,
    traceroute,
    traffic,
    wait,
    wait_until,
)
from vnet.lab.steps import exec as exec_step
from vnet.lab.steps.base import Step, StepContext
from vnet.lab.tree import Key, Tree
from vnet.routing.spaces import AddressPlan

__all__ = ["default_lab_name", "plan_lab"]

_PLANNERS: dict[str, Callable[[Any, StepContext], Step]] = {
    "ping": ping.plan,
    "ping_all": ping_all.plan,
    "traceroute": traceroute.plan,
    "tcp": connecting.plan_tcp,
    "http": connecting.plan_http,
    "inject": inject.plan,
    "replay": replay.plan,
    "traffic": traffic.plan,
    "exec": exec_step.plan,
    "call": call.plan,
    "wait": wait.plan,
    "wait_until": wait_until.plan,
    "parallel": parallel.plan,
    "repeat": repeat.plan,
    "log": log.plan,
    "link": link.plan,
}


def plan_lab(tree: Tree, *, directory: Path, default_name: str, seed: int | None = None) -> Lab:
    """Work out what a lab file means.

    Args:
        tree: the YAML document.
        directory: where relative file names and commands begin.
        default_name: the LAN's name where the file has none.
        seed: stands in for the file's own.

    Raises:
        LabError: the first mistake, with its place.
    """
    said = read_lab(tree)
    if said.name is not None:
        check_name(tree, said.name, "name")
    chosen = said.seed if seed is None else seed
    grounds = _plan_everyone(tree, said, directory, chosen)
    owners = {address: node for node in _guests(grounds) for address in node.addresses}
    context = StepContext(
        tree,
        ("steps",),
        grounds.networks,
        grounds.nodes,
        directory,
        chosen,
        owners,
        grounds.links,
        _PLANNERS,
        services=grounds.services,
    )
    steps = [context.plan(step, index) for index, step in enumerate(said.steps)]
    return Lab(
        name=said.name or default_name,
        seed=chosen,
        file=tree.file,
        directory=directory,
        networks=grounds.networks,
        nodes=grounds.nodes,
        steps=tuple(steps),
        programs=frozenset(context.programs),
        links=grounds.links,
        outside=grounds.outside,
        meanings=grounds.meanings,
        regions=grounds.regions,
        services=grounds.services,
    )


def _guests(grounds: _Grounds) -> Iterator[Node]:
    return (node for node in grounds.nodes.values() if node.kind != "router")


@dataclass(frozen=True)
class _Grounds:
    """All of a lab but its steps."""

    networks: dict[str, Network]
    nodes: dict[str, Node]
    links: dict[str, Link]
    outside: tuple[Outside, ...]
    meanings: Mapping[str, tuple[str, ...]]
    regions: Mapping[str, Region]
    services: Mapping[str, GuestService]


def _plan_everyone(tree: Tree, said: LabFile, directory: Path, seed: int) -> _Grounds:
    """Who and what there is.  Addresses that the file gives are taken before others are given out."""
    space = AddressPlan()
    networks = _networks(tree, said, space)
    _claim_loopbacks(tree, said, space)
    shape = read_shape(tree, said, directory, seed)
    members = said_members(tree, said, shape.members)
    roles = {
        each.name: Role(str(value_of(said.defaults.nodes, each.said, "kind")), each.said.forward) for each in members
    }
    linking = LinkPlanner(tree, said, roles, {*networks, *shape.networks}, space)
    linking.claim_given()
    networks |= shape.give_prefixes(networks, space)
    joined = place_members(tree, said, members, networks)
    families = sorted({prefix.version for network in networks.values() for prefix in network.prefixes}) or [4]
    links = linking.plan(shape.edges, families)
    on_links: dict[str, list[Address]] = {}
    for each in links.values():
        for end, addresses in zip(each.ends, each.addresses, strict=True):
            on_links.setdefault(end, []).extend(addresses)
    owners = frozenset(address for some in joined.values() for each in some for address in each.addresses)
    kinds = {name: role.kind for name, role in roles.items()}
    ground = Ground(tree, said.defaults.nodes, networks, joined, kinds, owners)
    routing = RoutePlanner(tree, networks, joined, links)
    nodes: dict[str, Node] = {}
    for member in members:
        node = plan_node(ground, member)
        if node.kind == "router":
            _check_router(tree, member, node, on_links)
            routes = routing.static(member)
            node = replace(node, on_links=tuple(on_links.get(node.name, ())), routes=routes)
        nodes[node.name] = node
    check_together(tree, {member.name: member.path for member in members}, nodes)
    shape.check_connected(nodes, links)
    meanings = _check_filters(tree, members, networks, nodes)
    outside = routing.outside(said, nodes, directory)
    check_loops(tree, {member.name: member for member in members}, nodes, networks, links, outside)
    regions, services = plan_regions(tree, said, nodes), plan_services(tree, said, nodes)
    return _Grounds(networks, nodes, links, outside, meanings, regions, services)


def _networks(tree: Tree, said: LabFile, space: AddressPlan) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for name, network in said.networks.items():
        path = ("networks", name)
        check_name(tree, name, *path, at_key=True)
        prefixes: list[Prefix] = []
        for index, text in enumerate(network.prefix):
            place = (*path, "prefix", index)
            try:
                prefix = parse_prefix(text)
            except ValueError as error:
                raise tree.error(str(error), place) from None
            if any(other.version == prefix.version for other in prefixes):
                message = f"a network has one IPv{prefix.version} prefix, but {name!r} also has {prefix}"
                raise tree.error(message, place)
            taken = space.overlapping(prefix)
            if taken is not None:
                message = f"{prefix} overlaps {taken[0]} of {taken[1]}; expected separate networks"
                raise tree.error(message, place)
            space.claim(prefix, f"network {name!r}")
            prefixes.append(prefix)
        # IPv4 first, as everywhere in vnet.
        networks[name] = Network(
            name, tuple(sorted(prefixes, key=lambda prefix: prefix.version)), network.mtu, network.filter
        )
        if network.mtu < 1280 and any(prefix.version == 6 for prefix in prefixes):
            raise tree.error(
                f"IPv6 needs an MTU of at least 1280 bytes (RFC 8200), found {network.mtu}", (*path, "mtu")
            )
    return networks


def _claim_loopbacks(tree: Tree, said: LabFile, space: AddressPlan) -> None:
    for name, node in said.nodes.items():
        if value_of(said.defaults.nodes, node, "kind") != "router":
            continue
        path = ("nodes", name)
        if node.count is not None and node.loopback:
            raise tree.error("a loopback address is one router's; expected no 'count' beside it", (*path, "loopback"))
        for index, address in enumerate(read_loopback(tree, path, node.loopback or ())):
            prefix = ip_network(address)
            taken = space.overlapping(prefix)
            if taken is not None:
                message = f"{address} is in {taken[0]} of {taken[1]}; expected an address of no network and no link"
                raise tree.error(message, (*path, "loopback", index))
            space.claim(prefix, f"router {name!r}")


def _check_router(tree: Tree, member: Member, node: Node, on_links: Mapping[str, object]) -> None:
    if not node.joined and node.name not in on_links:
        message = (
            f"router {node.name!r} has neither a network nor a link; expected 'networks', or a link that ends there"
        )
        raise tree.error(message, member.path, at_key=True)


def _check_filters(
    tree: Tree, members: Iterable[Member], networks: Mapping[str, Network], nodes: Mapping[str, Node]
) -> Mapping[str, tuple[str, ...]]:
    """See that rules name what is there; what their names mean, or nothing where there are no rules."""
    filtered = [each for each in networks.values() if each.filter is not None]
    if not filtered and not any(node.filter for node in nodes.values()):
        return {}
    hosts = {node.name: tuple(map(str, node.addresses)) for node in nodes.values()}
    prefixes = {each.name: tuple(map(str, each.prefixes)) for each in networks.values()}
    for network in filtered:
        if network.filter is not None:
            check_network(tree, network.name, network.filter, hosts, prefixes)
    seen: set[tuple[Key, ...]] = set()
    for member in members:
        node = nodes[member.name]
        if node.filter and member.path not in seen:
            # What several nodes are made of is looked at once.
            seen.add(member.path)
            check_node(tree, str(member.path[-1]), node.filter, [each.network for each in node.joined], hosts, prefixes)
    return {**hosts, **prefixes}


def default_lab_name(stem: str) -> str:
    """A LAN name made of a file's: what a name may not hold becomes ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:LONGEST_NAME].strip("-._")
    return name or "lab"
