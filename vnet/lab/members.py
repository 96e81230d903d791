"""The nodes of a lab: who there is, on which network, with which addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vnet.errors import AddressError, AddressOutside
from vnet.lab.addresses import AddressBook
from vnet.lab.kinds import check_together, has_addresses_of_its_own, plan_node
from vnet.lab.plan import Address, Network, Node
from vnet.lab.schema import LabFile, NodeFile
from vnet.lab.tree import Key, Tree, did_you_mean

__all__ = ["LONGEST_NAME", "check_name", "plan_nodes"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The base takes 64 characters; the runner and "count" may add a number.
LONGEST_NAME = 48
# NIC slots of a LAN, some of them for programs that attach beside the lab's own guests.
MOST_NODES = 65_000


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


def plan_nodes(tree: Tree, said: LabFile, networks: dict[str, Network]) -> tuple[dict[str, Node], dict[Address, Node]]:
    """All nodes, by name, and which of them has each address.

    The addresses that the file gives are reserved before the first one is assigned.

    Raises:
        LabError: the first mistake.
    """
    members = list(_members(tree, said))
    books = {name: AddressBook(network) for name, network in networks.items()}
    given: dict[str, tuple[str, list[Address]]] = {}
    for name, key, node in members:
        network, addresses = _network_of(tree, said, networks, key, node)
        reserved = []
        for index, text in enumerate(addresses):
            path = ("nodes", key, "networks", network, index)
            if node.count is not None:
                raise tree.error("a node with a 'count' takes the next free addresses; expected none here", path)
            try:
                reserved.append(books[network].reserve(text, name))
            except AddressOutside as error:
                raise tree.error(f"{error}{_elsewhere(text, networks, books)}", path) from None
            except (AddressError, ValueError) as error:
                raise tree.error(str(error), path) from None
        given[name] = (network, reserved)
    places: dict[str, tuple[Network, tuple[Address, ...]]] = {}
    for name, key, node in members:
        network, reserved = given[name]
        own = networks[network]
        complete = tuple(reserved)
        if has_addresses_of_its_own(said.defaults.nodes, node):
            complete = _complete(tree, own, books[network], name, key, reserved)
        places[name] = (own, complete)
    nodes = {name: plan_node(tree, said.defaults.nodes, name, key, node, places) for name, key, node in members}
    check_together(tree, {name: key for name, key, _ in members}, nodes)
    return nodes, {address: node for node in nodes.values() for address in node.addresses}


def _members(tree: Tree, said: LabFile) -> Iterable[tuple[str, str, NodeFile]]:
    """Name, key in the file, and what it says, of each node; ``count`` makes several out of one."""
    names: dict[str, str] = {}
    for key, node in said.nodes.items():
        check_name(tree, key, "nodes", key, at_key=True)
        generated = [key] if node.count is None else [f"{key}-{number}" for number in range(1, node.count + 1)]
        for name in generated:
            if name in names:
                message = f"a node called {name!r} is made by {names[name]!r} too; expected names that are there once"
                raise tree.error(message, ("nodes", key), at_key=True)
            names[name] = key
            yield name, key, node
        if len(names) > MOST_NODES:
            raise tree.error(f"a lab has at most {MOST_NODES:,} nodes", ("nodes", key), at_key=True)


def _network_of(
    tree: Tree, said: LabFile, networks: dict[str, Network], key: str, node: NodeFile
) -> tuple[str, list[str]]:
    """The network that a node joins, and the addresses that the file gives it there."""
    path: tuple[Key, ...] = ("nodes", key, "networks")
    joined = node.networks
    if joined is None and said.defaults.nodes.networks is not None:
        path, joined = ("defaults", "nodes", "networks"), said.defaults.nodes.networks
    if joined is None:
        if len(networks) == 1:
            return next(iter(networks)), []
        known = ", ".join(networks)
        raise tree.error(f"the lab has several networks ({known}); expected 'networks: [{next(iter(networks))}]'", path)
    for name in joined:
        if name not in networks:
            known = ", ".join(networks)
            # A list of names has no mapping's place; its entry is found by position.
            place = path if (*path, name) in tree.values else (*path, list(joined).index(name))
            message = f"no network is called {name!r}{did_you_mean(name, networks)}; the networks are {known}"
            raise tree.error(message, (*place, name), at_key=(*path, name) in tree.values)
    if len(joined) != 1:
        raise tree.error(
            f"{key!r} joins {len(joined)} networks; expected one: a node has one NIC in this version, and there are no "
            "routers"
            if joined
            else f"{key!r} joins no network; expected one of {', '.join(networks)}",
            path,
        )
    return next(iter(joined.items()))


def _elsewhere(text: str, networks: dict[str, Network], books: dict[str, AddressBook]) -> str:
    for name, network in networks.items():
        if any((text.count(":") and p.version == 6) or p.version == 4 for p in network.prefixes):
            try:
                books[name].reserve(text, "")
            except (AddressError, ValueError):
                continue
            return f"; it belongs to network {name!r}"
    return ""


def _complete(
    tree: Tree, network: Network, book: AddressBook, name: str, key: str, reserved: list[Address]
) -> tuple[Address, ...]:
    """One address of each prefix at least, in the order of the prefixes."""
    addresses: list[Address] = []
    for prefix in network.prefixes:
        mine = [address for address in reserved if address in prefix]
        try:
            addresses += mine or [book.next(prefix, name)]
        except AddressError as error:
            raise tree.error(str(error), ("nodes", key), at_key=True) from None
    return tuple(addresses)
