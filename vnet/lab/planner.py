"""From what a lab file says to what it means: names resolved, addresses given out, packets built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vnet.errors import AddressError, AddressOutside
from vnet.lab.addresses import AddressBook, parse_prefix
from vnet.lab.plan import Address, Lab, Network, Node, Prefix, Ready, Service
from vnet.lab.schema import LabFile, NodeFile, ReadyFile, ServiceFile, read_lab
from vnet.lab.steps import connecting, inject, log, parallel, ping, ping_all, repeat, replay, traffic, wait, wait_until
from vnet.lab.steps import exec as exec_step
from vnet.lab.steps.base import Step, StepContext
from vnet.lab.tree import Key, Tree, did_you_mean

__all__ = ["default_lab_name", "plan_lab"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The base takes 64 characters; the runner and "count" may add a number.
LONGEST_NAME = 48
# NIC slots of a LAN, some of them for programs that attach beside the lab's own guests.
MOST_NODES = 65_000

_PLANNERS: dict[str, Callable[[Any, StepContext], Step]] = {
    "ping": ping.plan,
    "ping_all": ping_all.plan,
    "tcp": connecting.plan_tcp,
    "http": connecting.plan_http,
    "inject": inject.plan,
    "replay": replay.plan,
    "traffic": traffic.plan,
    "exec": exec_step.plan,
    "wait": wait.plan,
    "wait_until": wait_until.plan,
    "parallel": parallel.plan,
    "repeat": repeat.plan,
    "log": log.plan,
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
        _check_name(tree, said.name, "name")
    networks = _networks(tree, said)
    nodes, owners = _nodes(tree, said, networks)
    chosen = said.seed if seed is None else seed
    context = StepContext(tree, ("steps",), networks, nodes, directory, chosen, owners, _PLANNERS)
    steps = [context.plan(step, index) for index, step in enumerate(said.steps)]
    return Lab(
        name=said.name or default_name,
        seed=chosen,
        file=tree.file,
        directory=directory,
        networks=networks,
        nodes=nodes,
        steps=tuple(steps),
    )


def _check_name(tree: Tree, name: str, *path: Key, at_key: bool = False) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise tree.error(
            f"{name[:60]!r} is not a name; expected up to {LONGEST_NAME} letters, digits, '.', '_' and '-'",
            path,
            at_key=at_key,
        )


def _networks(tree: Tree, said: LabFile) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    places: dict[str, dict[Prefix, tuple[Key, ...]]] = {}
    for name, network in said.networks.items():
        path = ("networks", name)
        _check_name(tree, name, *path, at_key=True)
        prefixes: dict[Prefix, tuple[Key, ...]] = {}
        for index, text in enumerate(network.prefix):
            place = (*path, "prefix", index)
            try:
                prefix = parse_prefix(text)
            except ValueError as error:
                raise tree.error(str(error), place) from None
            if any(other.version == prefix.version for other in prefixes):
                message = f"a network has one IPv{prefix.version} prefix, but {name!r} also has {prefix}"
                raise tree.error(message, place)
            prefixes[prefix] = place
        places[name] = prefixes
        # IPv4 first, as everywhere in vnet.
        networks[name] = Network(name, tuple(sorted(prefixes, key=lambda prefix: prefix.version)), network.mtu)
        if network.mtu < 1280 and any(prefix.version == 6 for prefix in prefixes):
            raise tree.error(
                f"IPv6 needs an MTU of at least 1280 bytes (RFC 8200), found {network.mtu}", (*path, "mtu")
            )
    _check_overlap(tree, networks, places)
    return networks


def _check_overlap(tree: Tree, networks: dict[str, Network], places: dict[str, dict[Prefix, tuple[Key, ...]]]) -> None:
    for version in (4, 6):
        order = [(p, index, n) for index, n in enumerate(networks.values()) for p in n.prefixes if p.version == version]
        order.sort(key=lambda entry: int(entry[0].network_address))
        widest = None
        for entry in order:
            if widest is not None and int(entry[0].network_address) <= int(widest[0].broadcast_address):
                earlier, later = sorted((widest, entry), key=lambda one: one[1])
                raise tree.error(
                    f"{later[0]} overlaps {earlier[0]} of network {earlier[2].name!r}; expected separate networks",
                    places[later[2].name][later[0]],
                )
            widest = entry


def _nodes(tree: Tree, said: LabFile, networks: dict[str, Network]) -> tuple[dict[str, Node], dict[Address, Node]]:
    """All nodes: the addresses that the file gives are reserved before the first one is assigned."""
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
    nodes: dict[str, Node] = {}
    owners: dict[Address, Node] = {}
    for name, key, node in members:
        network, reserved = given[name]
        complete = _complete(tree, networks[network], books[network], name, key, reserved)
        nodes[name] = planned = _node(tree, said, name, key, node, network, complete)
        owners.update((address, planned) for address in complete)
    return nodes, owners


def _members(tree: Tree, said: LabFile) -> Iterable[tuple[str, str, NodeFile]]:
    """Name, key in the file, and what it says, of each node; ``count`` makes several out of one."""
    names: dict[str, str] = {}
    for key, node in said.nodes.items():
        _check_name(tree, key, "nodes", key, at_key=True)
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
            f"{key!r} joins {len(joined)} networks; expected one, as routers are not in this version"
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


def _node(
    tree: Tree, said: LabFile, name: str, key: str, node: NodeFile, network: str, addresses: tuple[Address, ...]
) -> Node:
    defaults = said.defaults.nodes
    kind = node.kind if "kind" in node.model_fields_set else defaults.kind
    command = node.exec
    if command is not None and kind == "host":
        message = "a host node runs no command; expected 'kind: process' beside 'exec'"
        raise tree.error(message, ("nodes", key, "exec"), at_key=True)
    if command is None and kind == "process":
        command = defaults.exec
    serve = tuple(map(_service, node.serve if "serve" in node.model_fields_set else defaults.serve))
    if kind != "host" and "serve" in node.model_fields_set and serve:
        message = f"a {kind} node serves with its own command; expected 'kind: host' beside 'serve'"
        raise tree.error(message, ("nodes", key, "serve"), at_key=True)
    _check_ports(tree, key, serve)
    ready = node.ready if "ready" in node.model_fields_set else defaults.ready
    if "ready" in node.model_fields_set and kind == "host":
        message = "a host node is ready as soon as it is there; expected 'kind: process' beside 'ready'"
        raise tree.error(message, ("nodes", key, "ready"), at_key=True)
    if kind == "host":
        ready = None
    if ready is not None and ready.output is not None and command is None:
        place = ("nodes", key, "ready", "output")
        raise tree.error("a node without a command prints nothing; expected 'exec' beside it", place, at_key=True)
    environment = {**defaults.env, **node.env}
    buffer = node.buffer if node.buffer is not None else defaults.buffer
    return Node(
        name=name,
        kind=kind,
        network=network,
        addresses=addresses,
        command=command if command is None or isinstance(command, str) else tuple(command),
        environment=tuple(environment.items()),
        buffer=None if buffer is None else int(buffer),
        line=tree.keys[("nodes", key)][0],
        serve=serve if kind == "host" else (),
        ready=None if ready is None else _ready(ready),
    )


def _service(said: ServiceFile) -> Service:
    action = "http" if said.http is not None else "echo" if said.echo else "discard"
    protocol, port = ("tcp", said.tcp) if said.tcp is not None else ("udp", said.udp)
    assert port is not None  # the model has seen to it
    return Service(protocol, port, action, said.http or "")


def _check_ports(tree: Tree, key: str, serve: tuple[Service, ...]) -> None:
    seen: set[tuple[str, int]] = set()
    for index, service in enumerate(serve):
        if (service.protocol, service.port) in seen:
            message = f"{service.protocol} port {service.port} has a service already; expected another port"
            raise tree.error(message, ("nodes", key, "serve", index))
        seen.add((service.protocol, service.port))


def _ready(said: ReadyFile) -> Ready:
    command = said.command if said.command is None or isinstance(said.command, str) else tuple(said.command)
    return Ready(command, said.port, said.output, said.timeout)


def default_lab_name(stem: str) -> str:
    """A LAN name made of a file's: what a name may not hold becomes ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:LONGEST_NAME].strip("-._")
    return name or "lab"
