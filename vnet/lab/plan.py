"""What a lab means: frozen dataclasses in which every name is resolved and every address is given out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vnet.lab.steps.base import Step

__all__ = ["Address", "Bridge", "Lab", "Network", "Node", "NodeCommand", "Prefix", "Ready", "Service"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Network:
    """One broadcast domain.

    Attributes:
        name: as in the lab file.
        prefixes: an IPv4 prefix, an IPv6 prefix, or one of each.
        mtu: the largest datagram, in IP bytes.
    """

    name: str
    prefixes: tuple[Prefix, ...]
    mtu: int


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
class Node:
    """One guest and its NIC.

    Attributes:
        name: as in the lab file, with ``-1``, ``-2`` ... where ``count`` generates several.
        kind: ``host``, ``process``, ``netns`` or ``tap``.
        network: the name of the network that it joins.
        addresses: one for each prefix of the network at least, in the order of the prefixes; of a tap in a bridge,
            those that the file gives.
        commands: what a process, netns or tap node runs, in file order; of a process node one at most.
        environment: added to the commands' environment.
        buffer: bytes of the input buffer; None: the LAN's default.
        line: the line of the node in the lab file.
        serve: what a host offers.
        ready: when a process, netns or tap node counts as ready, beyond that the command of the first has attached and
            the interface of the others is there; None: no more than that.
        interface: what the interface of a netns or tap node is called; None: as the LAN calls it.
        gateway: where the default routes of a netns node lead, one address of each family at most.
        bridge: the bridge that a tap is in; None: in none.
        nat: whether a tap lets its network out through this machine.
    """

    name: str
    kind: str
    network: str
    addresses: tuple[Address, ...]
    commands: tuple[NodeCommand, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    buffer: int | None = None
    line: int = 0
    serve: tuple[Service, ...] = ()
    ready: Ready | None = None
    interface: str | None = None
    gateway: tuple[Address, ...] = ()
    bridge: Bridge | None = None
    nat: bool = False

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
    """

    name: str
    seed: int
    file: str
    directory: Path
    networks: Mapping[str, Network]
    nodes: Mapping[str, Node]
    steps: tuple[Step, ...]
    programs: frozenset[str] = frozenset()
