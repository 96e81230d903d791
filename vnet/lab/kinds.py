"""What each kind of node makes of what the lab file says of it: which keys it takes, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vnet.lab.addresses import parse_address
from vnet.lab.plan import Address, Bridge, Network, Node, NodeCommand, Ready, Service
from vnet.lab.schema import BridgeFile, CommandFile, NodeDefaults, NodeFile, ReadyFile, ServiceFile
from vnet.lab.tree import Key, Tree, did_you_mean

__all__ = ["check_together", "has_addresses_of_its_own", "plan_node"]

Places = Mapping[str, tuple[Network, tuple[Address, ...]]]
"""The network and the addresses of every node, by its name."""

# Keys that some kinds take, those kinds, and what is so of the others.
_TAKEN: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "exec": (
        ("process", "netns", "tap"),
        {"host": "a host node runs no command"},
    ),
    "ready": (
        ("process", "netns", "tap"),
        {"host": "a host node is ready as soon as it is there"},
    ),
    "serve": (
        ("host",),
        {
            "process": "a process node serves with its own command",
            "netns": "a netns node serves with its own commands",
            "tap": "a tap node serves with its own commands",
        },
    ),
    "interface": (("netns", "tap"), {}),
    "gateway": (("netns", "tap"), {}),
    "bridge": (("tap",), {}),
}
_HAS_NONE = {"interface": "no interface of the kernel's", "gateway": "no gateway", "bridge": "no bridge"}


def has_addresses_of_its_own(defaults: NodeDefaults, node: NodeFile) -> bool:
    """Whether it gets an address of each prefix; a tap in a bridge has those that the file gives, perhaps none."""
    return not (_said(defaults, node, "kind") == "tap" and _said(defaults, node, "bridge") is not None)


def _said(defaults: NodeDefaults, node: NodeFile, key: str) -> Any:
    return getattr(node if key in node.model_fields_set else defaults, key)


def plan_node(tree: Tree, defaults: NodeDefaults, name: str, key: str, said: NodeFile, places: Places) -> Node:
    """What the file says of a node, ``key`` there, means for the node ``name``.

    Raises:
        LabError: a key is of another kind of node, or its value cannot be.
    """
    kind = str(_said(defaults, said, "kind"))
    path = ("nodes", key)
    for word, (takers, why) in _TAKEN.items():
        if word in said.model_fields_set and kind not in takers and getattr(said, word) not in (None, [], False):
            kinds = " or ".join([", ".join(takers[:-1]), takers[-1]] if len(takers) > 1 else takers)
            message = f"{why.get(kind) or f'a {kind} node has {_HAS_NONE[word]}'}; expected 'kind: {kinds}' beside it"
            raise tree.error(message, (*path, word), at_key=True)

    def value(word: str) -> Any:
        return _said(defaults, said, word) if kind in _TAKEN[word][0] else None

    network, addresses = places[name]
    serve = tuple(map(_service, value("serve") or ()))
    _check_ports(tree, key, serve)
    commands = _commands(tree, path, kind, value("exec") or ())
    ready = value("ready")
    if ready is not None and ready.output is not None and not commands:
        message = "a node without a command prints nothing; expected 'exec' beside it"
        raise tree.error(message, (*path, "ready", "output"), at_key=True)
    if ready is not None and ready.port is not None and not addresses:
        message = "a tap without an address has no ports; expected 'networks: {NETWORK: ADDRESS}' beside it"
        raise tree.error(message, (*path, "ready", "port"), at_key=True)
    gateway = value("gateway")
    buffer = said.buffer if said.buffer is not None else defaults.buffer
    return Node(
        name=name,
        kind=kind,
        network=network.name,
        addresses=addresses,
        commands=commands,
        environment=tuple({**defaults.env, **said.env}.items()),
        buffer=None if buffer is None else int(buffer),
        line=tree.keys[path][0],
        serve=serve,
        ready=None if ready is None else _ready(ready),
        interface=value("interface"),
        gateway=_gateway(tree, path, name, gateway, places) if kind == "netns" else (),
        bridge=_bridge(value("bridge")),
        nat=_is_gateway(tree, path, gateway, addresses) if kind == "tap" else False,
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands(tree: Tree, path: tuple[Key, ...], kind: str, said: Sequence[CommandFile]) -> tuple[NodeCommand, ...]:
    path = (*path, "exec")
    if kind == "process" and len(said) > 1:
        message = "a process node runs one command, which holds its NIC; expected one, or 'kind: netns' for several"
        raise tree.error(message, (*path, 1))
    commands: list[NodeCommand] = []
    for index, one in enumerate(said):
        words = one.command if isinstance(one.command, str) else tuple(one.command)
        if len(said) == 1 and kind != "process" and _are_lines(words):
            raise tree.error(
                f"a list of texts is one command and its words, and no program is called {words[0]!r}; several "
                f"commands are a list of mappings, such as [{{command: {words[0]}}}, ...]",
                path,
            )
        name = one.name or (str(index + 1) if len(said) > 1 else "")
        if any(name == other.name for other in commands):
            raise tree.error(f"two commands of a node are called {name!r}; expected another name", (*path, index))
        commands.append(NodeCommand(words, name))
    return tuple(commands)


def _are_lines(words: str | tuple[str, ...]) -> bool:
    """Whether a list of words was meant as a list of lines for the shell."""
    return isinstance(words, tuple) and len(words) > 1 and " " in words[0].strip() and "/" not in words[0].split()[0]


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


# --- interfaces -------------------------------------------------------------------------------------------------------


def _bridge(said: BridgeFile | None) -> Bridge | None:
    return None if said is None else Bridge(said.name, tuple(said.ports))


def _is_gateway(
    tree: Tree, path: tuple[Key, ...], said: bool | list[str] | None, addresses: tuple[Address, ...]
) -> bool:
    path = (*path, "gateway")
    if isinstance(said, list):
        raise tree.error("a tap is a gateway or is none; expected true or false", path)
    if said and not addresses:
        example = "networks: {NETWORK: ADDRESS}"
        raise tree.error(f"a gateway has an address, which its bridge bears; expected '{example}' beside it", path)
    return bool(said)


def _gateway(
    tree: Tree, path: tuple[Key, ...], name: str, said: bool | list[str] | None, places: Places
) -> tuple[Address, ...]:
    """Where the default routes of a namespace lead: one address of each family at most."""
    path = (*path, "gateway")
    if said is True:
        raise tree.error("expected a node or an address that the default route leads to; true is for tap nodes", path)
    found: list[Address] = []
    for index, text in enumerate(said or ()):
        place = (*path, index) if (*path, index) in tree.values else path
        for address in _addresses_of(tree, place, name, text, places):
            if any(address.version == other.version for other in found):
                raise tree.error(f"there is one default route for IPv{address.version}; expected one gateway", place)
            found.append(address)
    return tuple(sorted(found, key=lambda address: address.version))


def _addresses_of(tree: Tree, place: tuple[Key, ...], name: str, text: str, places: Places) -> list[Address]:
    network, own = places[name]
    if text in places:
        where, addresses = places[text]
        if text == name:
            raise tree.error("a node is not its own gateway; expected another node, or an address", place)
        if where is not network:
            message = f"{text!r} is on network {where.name!r}; expected a neighbour on network {network.name!r}"
            raise tree.error(message, place)
        versions = {address.version for address in own}
        first = {address.version: address for address in reversed(addresses) if address.version in versions}
        if not first:
            raise tree.error(f"{text!r} has no address that {name!r} could reach it at", place)
        return list(first.values())
    try:
        address = parse_address(text)
    except ValueError:
        close = did_you_mean(text, places)
        raise tree.error(f"{text!r} is neither a node nor an IP address{close}", place) from None
    if address in own:
        raise tree.error("a node is not its own gateway; expected another node, or an address", place)
    if not any(address in prefix for prefix in network.prefixes):
        prefixes = ", ".join(map(str, network.prefixes))
        message = f"{address} is outside network {network.name!r} ({prefixes}); a gateway is a neighbour there"
        raise tree.error(message, place)
    return [address]


# --- what must not meet -----------------------------------------------------------------------------------------------


def check_together(tree: Tree, keys: Mapping[str, str], nodes: Mapping[str, Node]) -> None:
    """What two nodes cannot both have on one machine.

    Args:
        tree: the lab file.
        keys: what each node is called there.
        nodes: all nodes by name.

    Raises:
        LabError: two have it.
    """
    interfaces: dict[str, str] = {}
    bridges: dict[tuple[str, str], str] = {}
    gateways: dict[str, str] = {}
    logs = {
        label.replace("/", "."): node.name for node in nodes.values() for label in node.labels if label == node.name
    }
    for node in nodes.values():
        path = ("nodes", keys[node.name])
        for label in node.labels:
            other = logs.get(label.replace("/", "."), node.name)
            if other != node.name:
                message = f"the log of {label!r} would be that of {other!r}; expected another name"
                raise tree.error(message, (*path, "exec"))
        if node.kind != "tap":
            continue
        named = [*([(node.interface, "interface")] if node.interface else [])]
        named += [(port, "bridge") for port in (node.bridge.ports if node.bridge else ())]
        for interface, word in named:
            if interface in interfaces:
                message = f"{interface!r} is an interface of {interfaces[interface]!r} already; expected another name"
                raise tree.error(message, (*path, word))
            interfaces[interface] = node.name
        if node.bridge is not None:
            if (other_tap := bridges.get((node.bridge.name, node.network))) is not None:
                raise tree.error(
                    f"{node.bridge.name!r} and network {node.network!r} are joined by {other_tap!r} already, and two "
                    "such taps would make a loop; expected another bridge",
                    (*path, "bridge"),
                )
            bridges[node.bridge.name, node.network] = node.name
        if node.nat:
            if node.network in gateways:
                message = f"network {node.network!r} has its gateway already, {gateways[node.network]!r}; expected one"
                raise tree.error(message, (*path, "gateway"))
            gateways[node.network] = node.name
