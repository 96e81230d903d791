"""What a lab means: frozen dataclasses in which every name is resolved and every address is given out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnet.lab.steps.base import Step

if TYPE_CHECKING:
    from vnet.filtering import Filter
    from vnet.lab.schema.filters import DirectedFilter

__all__ = [
    "Address",
    "Bridge",
    "GuestService",
    "Joined",
    "Lab",
    "Link",
    "Network",
    "Node",
    "NodeCommand",
    "Outside",
    "Prefix",
    "Ready",
    "Region",
    "Service",
    "StaticRoute",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Network:
    """One broadcast domain.

    Attributes:
        name: as in the lab file.
        prefixes: an IPv4 prefix, an IPv6 prefix, or one of each.
        mtu: the largest datagram, in IP bytes.
        filter: what may enter it; None: everything.
    """

    name: str
    prefixes: tuple[Prefix, ...]
    mtu: int
    filter: Filter | None = None


@dataclass(frozen=True)
class NodeCommand:
    """One of the commands of a node.

    Attributes:
        words: a line for the shell, or a list of words.
        name: what its output is known by; empty for a node's only command that was given none.
    """

    words: str | tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Bridge:
    """The Linux bridge that a tap is in, and the interfaces that are put into it beside the tap."""

    name: str
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """What must hold before a node counts as ready; all that is not None must.

    Attributes:
        command: ends with code 0, where the node's own commands run and with their environment; asked again until it
            does.
        port: a TCP port of the node's first address that accepts a connection.
        output: a Python regular expression that a line of the output of one of the node's commands matches somewhere.
        timeout: seconds from the start of the node until all of it must hold.
    """

    command: str | tuple[str, ...] | None = None
    port: int | None = None
    output: str | None = None
    timeout: float = 10.0


@dataclass(frozen=True)
class Service:
    """What a built-in host does on a port.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        port: 1 to 65,535.
        action: ``http`` (answers each request with ``text``), ``echo`` or ``discard``.
        text: what ``http`` answers.
    """

    protocol: str
    port: int
    action: str
    text: str = ""

    def arguments(self) -> dict[str, int | str | bool]:
        """The arguments of ``Host.serve()``: ``{"tcp": 80, "http": "text"}``, ``{"udp": 7, "echo": True}``."""
        return {self.protocol: self.port, self.action: self.text if self.action == "http" else True}


@dataclass(frozen=True)
class Joined:
    """A NIC of a node: the network that it is on, and its addresses there.

    The addresses are one for each prefix of the network at least, in the order of the prefixes; of a tap in a bridge,
    those that the file gives.
    """

    network: str
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True)
class StaticRoute:
    """A static route of a router: ``via`` holds next hops, neighbours' addresses, or one word.

    The word is ``unreachable``, ``prohibit`` or ``blackhole``, as ``ip route`` calls what says no.
    """

    prefix: Prefix
    via: tuple[Address, ...] | str


@dataclass(frozen=True)
class Link:
    """A link between two routers.

    Attributes:
        name: what the LAN calls it.
        ends: the names of the routers.
        addresses: those of each end, one of each family that the link has.
        prefixes: one for each family, IPv4 first.
        weight: what it costs to go this way.
        mtu: the largest datagram, in IP bytes.
        attributes: what a graph file says of it, such as ``LinkSpeedRaw``.
        line: its line in the lab file; 0 where it is generated.
    """

    name: str
    ends: tuple[str, str]
    addresses: tuple[tuple[Address, ...], tuple[Address, ...]]
    prefixes: tuple[Prefix, ...]
    weight: int = 1
    mtu: int = 65_535
    attributes: tuple[tuple[str, Any], ...] = ()
    line: int = 0


@dataclass(frozen=True)
class Outside:
    """What lies outside of the lab: one prefix, or those of a file, behind the guest that has the addresses ``via``.

    There is one of each family that is needed; ``unreachable``, ``prohibit`` or ``blackhole`` in their place say no.
    """

    via: tuple[Address, ...] | str
    prefix: Prefix | None = None
    file: Path | None = None
    line: int = 0


@dataclass(frozen=True)
class Node:
    """One guest and its NICs, or a router.

    Attributes:
        name: as in the lab file, with ``-1``, ``-2`` ... where ``count`` generates several.
        kind: ``host``, ``process``, ``netns``, ``tap`` or ``router``.
        joined: its NICs, in file order; of a router its interfaces on networks.
        commands: what a process, netns or tap node runs, in file order; of a process node one at most.
        environment: added to the commands' environment.
        buffer: bytes of the input buffer; None: the LAN's default.
        line: the line of the node in the lab file.
        serve: what a host offers.
        ready: when a process, netns or tap node counts as ready, beyond that the command of the first has attached and
            the interface of the others is there; None: no more than that.
        interface: what the interface of a netns or tap node is called; None: as the LAN calls it.
        gateway: where the default routes of a guest lead, one address of each family at most; None: to the first
            router of its network, whichever that is.
        bridge: the bridge that a tap is in; None: in none.
        nat: whether a tap lets its network out through this machine.
        forward: whether a guest forwards between its networks.
        loopback: the addresses of a router that are on no network and no link.
        on_links: the addresses of a router on its links.
        routes: the static routes of a router.
        attributes: what a graph file says of a router, such as its latitude.
        filter: what its NICs may be given and send.
    """

    name: str
    kind: str
    joined: tuple[Joined, ...]
    commands: tuple[NodeCommand, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    buffer: int | None = None
    line: int = 0
    serve: tuple[Service, ...] = ()
    ready: Ready | None = None
    interface: str | None = None
    gateway: tuple[Address, ...] | None = None
    bridge: Bridge | None = None
    nat: bool = False
    forward: bool = False
    loopback: tuple[Address, ...] = ()
    on_links: tuple[Address, ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    filter: tuple[DirectedFilter, ...] = ()

    @property
    def network(self) -> str:
        """The name of the first network that it joins; empty of a router that has links only."""
        return self.joined[0].network if self.joined else ""

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses that it has; a router's loopback first, then those on networks, then those on links."""
        return (*self.loopback, *(address for each in self.joined for address in each.addresses), *self.on_links)

    @property
    def nics(self) -> tuple[str, ...]:
        """What its NICs are called on the LAN: as it is; where they are several, with their networks."""
        if len(self.joined) == 1:
            return (self.name,)
        return tuple(f"{self.name}.{each.network}" for each in self.joined)

    @property
    def nic_environment(self) -> dict[str, str]:
        """What tells a command its NIC: ``VNET_NIC``, and ``VNET_NICS``, all of them, where there are several."""
        several = {"VNET_NICS": " ".join(self.nics)} if len(self.nics) > 1 else {}
        return {"VNET_NIC": self.nics[0], **several} if self.nics else {}

    def label(self, command: NodeCommand) -> str:
        """What one of its commands is known by on the LAN: ``NODE``, or ``NODE/NAME``."""
        return f"{self.name}/{command.name}" if command.name else self.name

    @property
    def labels(self) -> tuple[str, ...]:
        """What its commands are known by."""
        return tuple(map(self.label, self.commands))

    def address(self, family: int | None = None) -> Address | None:
        """Its first address, or its first one of the family (4 or 6); None where it has none."""
        return next((a for a in self.addresses if family in (None, a.version)), None)


@dataclass(frozen=True)
class Region:
    """Memory that nodes share: made before they start, held until the lab ends.

    Attributes:
        name: as in the lab file; guests find it by that.
        size: bytes.
        nodes: who may attach it, by name.
        readonly: those of them that may only read.
        huge: whether it is of the kernel's huge pages.
        line: its line in the lab file.
    """

    name: str
    size: int
    nodes: tuple[str, ...]
    readonly: tuple[str, ...] = ()
    huge: bool = False
    line: int = 0


@dataclass(frozen=True)
class GuestService:
    """A service that one node has for the pipes and calls of others.

    Attributes:
        name: as in the lab file; guests listen and connect by that.
        node: who serves; nobody else may.
        clients: who may connect, by name; None: everybody.
        ready: whether the node is ready only when it listens.
        line: its line in the lab file.
    """

    name: str
    node: str
    clients: tuple[str, ...] | None = None
    ready: bool = True
    line: int = 0


@dataclass(frozen=True)
class Lab:
    """A lab, ready to be run.

    Attributes:
        name: the LAN's name.
        seed: what every random choice of the lab follows from.
        file: the file's name as the user gave it.
        directory: where relative file names and commands begin.
        networks: by name, in file order.
        nodes: by name, in file order.
        steps: in file order.
        programs: that the steps run in namespaces, beside what they name themselves.
        links: between routers, by name, in file order.
        outside: what lies outside of the lab, and behind whom.
        meanings: what names mean in filters: the addresses of nodes and the prefixes of networks; empty where the lab
            has no filters.
        regions: that nodes share, by name, in file order.
        services: that nodes have for one another, by name, in file order.
    """

    name: str
    seed: int
    file: str
    directory: Path
    networks: Mapping[str, Network]
    nodes: Mapping[str, Node]
    steps: tuple[Step, ...]
    programs: frozenset[str] = frozenset()
    links: Mapping[str, Link] = field(default_factory=dict)
    outside: tuple[Outside, ...] = ()
    meanings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions: Mapping[str, Region] = field(default_factory=dict)
    services: Mapping[str, GuestService] = field(default_factory=dict)
