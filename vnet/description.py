"""What the base tells of a LAN to those who ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    from .lan import Lan

__all__ = ["description"]


def description(lan: Lan) -> dict[str, Any]:
    """Returns the LAN as JSON values: its networks, NICs, routers and links, and what it said that it is."""
    register = lan._register
    with register.lock:
        # The guest or router that a NIC is of.
        nodes = {name: entry.node or name for name, entry in register.nics.items()}
    nics = [
        {
            "name": i.name,
            "node": nodes.get(i.name, i.name),
            "kind": i.kind,
            "network": i.network,
            "addresses": i.addresses,
            "mac": i.mac,
            "state": i.state,
            "gateways": i.gateways,
        }
        for i in lan.nics.values()
    ]
    networks = [
        {"name": each.name, "prefixes": list(map(str, each.prefixes)), "mtu": each.mtu}
        for each in lan.networks.values()
    ]
    return {
        "lan": lan.name,
        "abi": _native.ABI,
        "pid": os.getpid(),
        **lan._about,
        "networks": networks,
        "nics": nics,
        "routers": list(lan.routers),
        "links": [link.as_dict() for link in lan.links.values()],
    }
