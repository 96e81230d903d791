"""What a lab means: frozen dataclasses in which every name is resolved and every address is given out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vnet.lab.steps.base import Step

__all__ = ["Address", "Lab", "Network", "Node", "Prefix"]

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
    """

    name: str
    kind: str
    network: str
    addresses: tuple[Address, ...]
    command: str | tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    buffer: int | None = None
    line: int = 0

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
