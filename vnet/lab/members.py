"""The nodes of a lab: who there is, on which networks, with which addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vnet.errors import AddressError, AddressOutside
from vnet.lab.addresses import AddressBook
from vnet.lab.kinds import has_addresses_of_its_own, value_of
from vnet.lab.plan import Address, Joined, Network
from vnet.lab.schema import LabFile, NodeDefaults, NodeFile
from vnet.lab.tree import Key, Tree, did_you_mean

__all__ = ["LONGEST_NAME", "MOST_NODES", "Member", "check_name", "place_members", "said_members"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The base takes 64 characters; the runner and "count" may add a number.
LONGEST_NAME = 48
# NIC slots of a LAN, some of them for programs that attach beside the lab's own guests.
MOST_NODES = 65_000
# Kinds of nodes that join several networks.
_JOIN_SEVERAL = ("router", "netns", "process")


@dataclass(frozen=True)
class Member:
    """A node before its addresses are given out.

    Attributes:
        name: the node's.
        path: where the file speaks of it.
        said: what it says.
        attributes: what a graph file says of it beside.
        generated: whether the file does not name it, but a graph or a shape.
    """

    name: str
    path: tuple[Key, ...]
    said: NodeFile
    attributes: Mapping[str, object] = field(default_factory=dict)
    generated: bool = False


def check_name(tree: Tree, name: str, *path: Key, at_key: bool = False) -> None:
    """See that a LAN, a network or a node may have this name.

    Raises:
        LabError: it may not.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise tree.error(
            f"{name[:60]!r} is not a name; expected up to {LONGEST_NAME} letters, digits, '.', '_' and '-'",
            path,
            at_key=at_key,
        )


def said_members(tree: Tree, said: LabFile, generated: Sequence[Member]) -> list[Member]:
    """Everyone: who follows from a graph or a shape, then the nodes that the file names, ``count`` of each.

    Raises:
        LabError: a name is there twice, or there are too many.
    """
    names = {member.name: member.path[0] for member in generated}
    members = list(generated)
    for key, node in said.nodes.items():
        check_name(tree, key, "nodes", key, at_key=True)
        several = [key] if node.count is None else [f"{key}-{number}" for number in range(1, node.count + 1)]
        for name in several:
            if name in names:
                message = f"a node called {name!r} is made by {names[name]!r} too; expected names that are there once"
                raise tree.error(message, ("nodes", key), at_key=True)
            names[name] = key
            members.append(Member(name, ("nodes", key), node))
        if len(names) > MOST_NODES:
            raise tree.error(f"a lab has at most {MOST_NODES:,} nodes", ("nodes", key), at_key=True)
    if len(names) > MOST_NODES:
        raise tree.error(f"a lab has at most {MOST_NODES:,} nodes, not {len(names):,}", generated[0].path)
    return members


def place_members(
    tree: Tree, said: LabFile, members: Sequence[Member], networks: Mapping[str, Network]
) -> dict[str, tuple[Joined, ...]]:
    """The NICs of every node, with their addresses.

    The addresses that the file gives are reserved first; then routers get the lowest that are free, so that they have
    the first ones of their networks, and everybody else the next, in file order.

    Raises:
        LabError: the first mistake.
    """
    defaults = said.defaults.nodes
    books = {name: AddressBook(network) for name, network in networks.items()}
    given: dict[str, list[tuple[str, list[Address]]]] = {}
    for member in members:
        given[member.name] = []
        for network, addresses in _networks_of(tree, defaults, member, networks).items():
            reserved = _reserve(tree, member, network, addresses, networks, books) if addresses else []
            given[member.name].append((network, reserved))
    placed: dict[str, tuple[Joined, ...]] = {}
    routers_first = sorted(members, key=lambda member: value_of(defaults, member.said, "kind") != "router")
    for member in routers_first:
        joined = []
        for network, reserved in given[member.name]:
            complete = tuple(reserved)
            if has_addresses_of_its_own(defaults, member.said):
                complete = _complete(tree, networks[network], books[network], member, reserved)
            joined.append(Joined(network, complete))
        placed[member.name] = tuple(joined)
    return placed


def _reserve(
    tree: Tree,
    member: Member,
    network: str,
    addresses: Iterable[str],
    networks: Mapping[str, Network],
    books: Mapping[str, AddressBook],
) -> list[Address]:
    reserved = []
    for index, text in enumerate(addresses):
        path = (*member.path, "networks", network, index)
        if member.said.count is not None:
            raise tree.error("a node with a 'count' takes the next free addresses; expected none here", path)
        try:
            reserved.append(books[network].reserve(text, member.name))
        except AddressOutside as error:
            raise tree.error(f"{error}{_elsewhere(text, networks, books)}", path) from None
        except (AddressError, ValueError) as error:
            raise tree.error(str(error), path) from None
    return reserved


def _networks_of(
    tree: Tree, defaults: NodeDefaults, member: Member, networks: Mapping[str, Network]
) -> Mapping[str, list[str]]:
    """The networks that a node joins, and the addresses that the file gives it there."""
    node, kind = member.said, value_of(defaults, member.said, "kind")
    path: tuple[Key, ...] = (*member.path, "networks")
    joined = node.networks
    if joined is None and defaults.networks is not None:
        path, joined = ("defaults", "nodes", "networks"), defaults.networks
    if joined is None:
        if kind == "router":
            # It may have links; who has neither is found when links are known.
            return {}
        if len(networks) == 1:
            return {next(iter(networks)): []}
        if not networks:
            raise tree.error(f"{member.name!r} has no network to join; expected 'networks' with one", member.path)
        known = ", ".join(list(networks)[:8]) + (", ..." if len(networks) > 8 else "")
        raise tree.error(f"the lab has several networks ({known}); expected 'networks: [{next(iter(networks))}]'", path)
    for name in joined:
        if name not in networks:
            known = ", ".join(list(networks)[:8]) + (", ..." if len(networks) > 8 else "")
            # A list of names has no mapping's place; its entry is found by position.
            place = path if (*path, name) in tree.values else (*path, list(joined).index(name))
            message = f"no network is called {name!r}{did_you_mean(name, networks)}; the networks are {known}"
            raise tree.error(message, (*place, name), at_key=(*path, name) in tree.values)
    if not joined and kind != "router":
        raise tree.error(f"{member.name!r} joins no network; expected one of {', '.join(list(networks)[:8])}", path)
    if len(joined) > 1 and kind not in _JOIN_SEVERAL:
        raise tree.error(
            f"{member.name!r} joins {len(joined)} networks, but a {kind} node has one NIC; expected one, or 'kind: "
            "netns' or 'kind: router'",
            path,
        )
    return joined


def _elsewhere(text: str, networks: Mapping[str, Network], books: Mapping[str, AddressBook]) -> str:
    for name, network in networks.items():
        if any((text.count(":") and p.version == 6) or p.version == 4 for p in network.prefixes):
            try:
                books[name].reserve(text, "")
            except (AddressError, ValueError):
                continue
            return f"; it belongs to network {name!r}"
    return ""


def _complete(
    tree: Tree, network: Network, book: AddressBook, member: Member, reserved: list[Address]
) -> tuple[Address, ...]:
    """One address of each prefix at least, in the order of the prefixes."""
    addresses: list[Address] = []
    for prefix in network.prefixes:
        mine = [address for address in reserved if address in prefix]
        try:
            addresses += mine or [book.next(prefix, member.name)]
        except AddressError as error:
            raise tree.error(str(error), member.path, at_key=True) from None
    return tuple(addresses)
