"""What a lab means: frozen dataclasses in which every name is resolved and every address is given out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vnet.lab.steps.base import Step

__all__ = ["Address", "Lab", "Network", "Node", "Prefix", "Ready", "Service"]

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
class Ready:
    """What must hold before a node counts as ready; all that is not None must.

    Attributes:
        command: ends with code 0, in the lab's directory, with the environment of the node's own command; asked again
            until it does.
        port: a TCP port of the node's first address that accepts a connection.
        output: a Python regular expression that a line of the output of the node's command matches somewhere.
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
        kind: ``host`` or ``process``.
        network: the name of the network that it joins.
        addresses: one for each prefix of the network at least, in the order of the prefixes.
        command: what a process node runs, a shell line or a list of words; None: nothing.
        environment: added to the command's environment.
        buffer: bytes of the input buffer; None: the LAN's default.
        line: the line of the node in the lab file.
        serve: what a host offers.
        ready: when a process node counts as ready, beyond that its command has attached; None: no more than that.
    """

    name: str
    kind: str
    network: str
    addresses: tuple[Address, ...]
    command: str | tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    buffer: int | None = None
    line: int = 0
    serve: tuple[Service, ...] = ()
    ready: Ready | None = None

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
    """

    name: str
    seed: int
    file: str
    directory: Path
    networks: Mapping[str, Network]
    nodes: Mapping[str, Node]
    steps: tuple[Step, ...]
