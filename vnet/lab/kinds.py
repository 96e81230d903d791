"""What each kind of node makes of what the lab file says of it: which keys it takes, and what they mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vnet.lab.addresses import parse_address
from vnet.lab.plan import Address, Bridge, Joined, Network, Node, NodeCommand, Ready, Service
from vnet.lab.schema import BridgeFile, CommandFile, NodeDefaults, NodeFile, ReadyFile, ServiceFile
from vnet.lab.tree import Key, Tree, did_you_mean

if TYPE_CHECKING:
    from vnet.lab.members import Member

__all__ = ["Ground", "check_together", "has_addresses_of_its_own", "plan_node", "read_loopback", "value_of"]


@dataclass(frozen=True)
class Ground:
    """What is known of everyone when a node is planned.

    Attributes:
        tree: the lab file.
        defaults: what all nodes share.
        networks: by name.
        joined: the NICs of every node, by its name.
        kinds: the kind of every node.
        owners: the addresses that nodes have.
    """

    tree: Tree
    defaults: NodeDefaults
    networks: Mapping[str, Network]
    joined: Mapping[str, tuple[Joined, ...]]
    kinds: Mapping[str, str]
    owners: Collection[Address]


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
    "env": (("process", "netns", "tap"), {}),
    "buffer": (("host", "process", "netns", "tap"), {}),
    "interface": (("netns", "tap"), {}),
    "gateway": (("host", "process", "netns", "tap"), {}),
    "bridge": (("tap",), {}),
    "forward": (("netns", "process"), {"host": "a host node forwards nothing", "tap": "a tap node forwards nothing"}),
    "loopback": (("router",), {}),
    "routes": (("router",), {}),
}
_HAS_NONE = {
    "env": "no commands",
    "interface": "no interface of the kernel's",
    "gateway": "no gateway",
    "bridge": "no bridge",
    "loopback": "no loopback address",
    "routes": "no static routes: its gateway is where all goes",
}
_OF_A_ROUTER = {
    "exec": "a router runs no command: it is simulated",
    "ready": "a router is ready as soon as it is there",
    "serve": "a router serves nothing: it forwards, and answers pings",
    "env": "a router runs no command: it is simulated",
    "buffer": "a router has no input buffer: what it forwards goes straight to its receiver",
    "interface": "a router has no interface of the kernel's: it is simulated",
    "gateway": "a router has no default gateway; where it sends what is for elsewhere is 'routes: {0.0.0.0/0: ...}'",
    "bridge": "a router is in no bridge",
    "forward": "a router forwards as it is",
}


def has_addresses_of_its_own(defaults: NodeDefaults, node: NodeFile) -> bool:
    """Whether it gets an address of each prefix; a tap in a bridge has those that the file gives, perhaps none."""
    return not (value_of(defaults, node, "kind") == "tap" and value_of(defaults, node, "bridge") is not None)


def value_of(defaults: NodeDefaults, node: NodeFile, key: str) -> Any:
    """What the file says of a node under ``key``, there or in the defaults."""
    return getattr(node if key in node.model_fields_set or key not in NodeDefaults.model_fields else defaults, key)


def plan_node(ground: Ground, member: Member) -> Node:
    """What the file says of a node means; of a router all but its links and routes.

    Raises:
        LabError: a key is of another kind of node, or its value cannot be.
    """
    tree, said, name, path = ground.tree, member.said, member.name, member.path
    kind = str(value_of(ground.defaults, said, "kind"))
    for word, (takers, why) in _TAKEN.items():
        if word in said.model_fields_set and kind not in takers and getattr(said, word) not in (None, [], {}, False):
            raise tree.error(_wrong_kind(word, kind, takers, why), (*path, word), at_key=True)

    def value(word: str) -> Any:
        return value_of(ground.defaults, said, word) if kind in _TAKEN[word][0] else None

    joined = ground.joined[name]
    addresses = tuple(address for each in joined for address in each.addresses)
    serve = tuple(map(_service, value("serve") or ()))
    _check_ports(tree, path, serve)
    commands = _commands(tree, path, kind, value("exec") or ())
    ready = value("ready")
    if ready is not None and ready.output is not None and not commands:
        message = "a node without a command prints nothing; expected 'exec' beside it"
        raise tree.error(message, (*path, "ready", "output"), at_key=True)
    if ready is not None and ready.port is not None and not addresses:
        message = "a tap without an address has no ports; expected 'networks: {NETWORK: ADDRESS}' beside it"
        raise tree.error(message, (*path, "ready", "port"), at_key=True)
    gateway = value("gateway")
    if "gateway" not in said.model_fields_set and gateway == [name]:
        # It is everybody else's.
        gateway = None
    buffer = value("buffer")
    forward = bool(value("forward"))
    if forward and len(joined) < 2:
        message = "a node forwards between networks, and this one joins one; expected 'networks' with at least two"
        raise tree.error(message, (*path, "forward"), at_key=True)
    return Node(
        name=name,
        kind=kind,
        joined=joined,
        commands=commands,
        environment=tuple({**ground.defaults.env, **said.env}.items()) if kind != "router" else (),
        buffer=None if buffer is None else int(buffer),
        line=tree.keys[tree.resolve(path)][0],
        serve=serve,
        ready=None if ready is None else _ready(ready),
        interface=value("interface"),
        gateway=() if kind in ("tap", "router") else _gateway(ground, member, gateway),
        bridge=_bridge(value("bridge")),
        nat=_is_gateway(tree, path, gateway, addresses) if kind == "tap" else False,
        forward=forward,
        loopback=tuple(sorted(read_loopback(tree, path, value("loopback") or ()), key=lambda each: each.version)),
        attributes=tuple(member.attributes.items()),
        filter=value_of(ground.defaults, said, "filter") or (),
    )


def _wrong_kind(word: str, kind: str, takers: Sequence[str], why: Mapping[str, str]) -> str:
    if kind == "router":
        return f"{_OF_A_ROUTER[word]}; expected no {word!r} here"
    kinds = " or ".join([", ".join(takers[:-1]), takers[-1]] if len(takers) > 1 else takers)
    return f"{why.get(kind) or f'a {kind} node has {_HAS_NONE[word]}'}; expected 'kind: {kinds}' beside it"


def read_loopback(tree: Tree, path: tuple[Key, ...], said: Sequence[str]) -> tuple[Address, ...]:
    """The loopback addresses of a router, in the order of the file.

    Raises:
        LabError: one is no address that a router can have, or two are of one family.
    """
    found: list[Address] = []
    for index, text in enumerate(said):
        place = (*path, "loopback", index)
        try:
            address = parse_address(text)
        except ValueError:
            raise tree.error(f"{text!r} is not an IP address; expected one such as 10.255.0.1", place) from None
        if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
            raise tree.error(f"{address} is no address that others could reach; expected one of a router", place)
        if any(address.version == other.version for other in found):
            message = f"a router has one loopback address of each family; expected one IPv{address.version} address"
            raise tree.error(message, place)
        found.append(address)
    return tuple(found)


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


def _check_ports(tree: Tree, path: tuple[Key, ...], serve: tuple[Service, ...]) -> None:
    seen: set[tuple[str, int]] = set()
    for index, service in enumerate(serve):
        if (service.protocol, service.port) in seen:
            message = f"{service.protocol} port {service.port} has a service already; expected another port"
            raise tree.error(message, (*path, "serve", index))
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


def _gateway(ground: Ground, member: Member, said: bool | list[str] | None) -> tuple[Address, ...] | None:
    """Where the default routes of a guest lead: one address of each family at most; None for the first router."""
    tree, path = ground.tree, (*member.path, "gateway")
    if said is True:
        raise tree.error("expected a node or an address that the default route leads to; true is for tap nodes", path)
    if said is None:
        return None
    if said is False or said == ["none"]:
        return ()
    found: list[Address] = []
    for index, text in enumerate(said):
        place = (*path, index) if (*path, index) in tree.values else path
        for address in _addresses_of(ground, place, member.name, text):
            if any(address.version == other.version for other in found):
                raise tree.error(f"there is one default route for IPv{address.version}; expected one gateway", place)
            found.append(address)
    return tuple(sorted(found, key=lambda address: address.version))


def _first_of_each(addresses: Sequence[Address], own: Sequence[Address]) -> tuple[Address, ...]:
    """The first address of each family that ``own`` has, too, IPv4 first."""
    versions = {address.version for address in own}
    first = {address.version: address for address in reversed(addresses) if address.version in versions}
    return tuple(first[version] for version in sorted(first))


def _addresses_of(ground: Ground, place: tuple[Key, ...], name: str, text: str) -> tuple[Address, ...]:
    tree, mine = ground.tree, ground.joined[name]
    own = tuple(address for each in mine for address in each.addresses)
    itself = "a node is not its own gateway; expected another node, or an address"
    names = [each.network for each in mine]
    where = " or ".join(repr(network) for network in names)
    if text in ground.joined:
        if text == name:
            raise tree.error(itself, place)
        shared = [each for each in ground.joined[text] if each.network in names]
        if not shared:
            there = ", ".join(repr(each.network) for each in ground.joined[text]) or "no network"
            raise tree.error(f"{text!r} is on network {there}; expected a neighbour on network {where}", place)
        found = _first_of_each(shared[0].addresses, own)
        if not found:
            raise tree.error(f"{text!r} has no address that {name!r} could reach it at", place)
        return found
    try:
        address = parse_address(text)
    except ValueError:
        close = did_you_mean(text, ground.joined)
        raise tree.error(f"{text!r} is neither a node nor an IP address{close}", place) from None
    if address in own:
        raise tree.error(itself, place)
    prefixes = [prefix for network in names for prefix in ground.networks[network].prefixes]
    if ground.kinds.get(name) != "netns" and address not in ground.owners and any(address in p for p in prefixes):
        # The kernel of a namespace asks for itself, and somebody may come; the base must know whom it leads to.
        raise tree.error(f"nobody has the address {address}; expected that of a router or another node", place)
    if not any(address in prefix for prefix in prefixes):
        message = f"{address} is outside network {where} ({', '.join(map(str, prefixes))})"
        raise tree.error(f"{message}; a gateway is a neighbour there", place)
    return (address,)


def _check_nic_names(tree: Tree, paths: Mapping[str, tuple[Key, ...]], nodes: Mapping[str, Node]) -> None:
    """See that no NIC of a node with several is called as another node."""
    for node in nodes.values():
        if len(node.joined) < 2:
            continue
        for each, nic in zip(node.joined, node.nics, strict=True):
            if nic in nodes:
                message = f"the NIC of {node.name!r} on network {each.network!r} is called so already"
                raise tree.error(f"{message}; expected another name", paths[nic], at_key=True)


# --- what must not meet -----------------------------------------------------------------------------------------------


def check_together(tree: Tree, paths: Mapping[str, tuple[Key, ...]], nodes: Mapping[str, Node]) -> None:
    """What two nodes cannot both have on one machine.

    Args:
        tree: the lab file.
        paths: where it speaks of each node.
        nodes: all nodes by name.

    Raises:
        LabError: two have it.
    """
    _check_nic_names(tree, paths, nodes)
    interfaces: dict[str, str] = {}
    bridges: dict[tuple[str, str], str] = {}
    gateways: dict[str, str] = {}
    logs = {
        label.replace("/", "."): node.name for node in nodes.values() for label in node.labels if label == node.name
    }
    for node in nodes.values():
        path = paths[node.name]
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
