"""How each kind of node joins the LAN."""

from __future__ import annotations

from typing import Any

from vnet.lab.plan import Node

__all__ = ["join"]


def join(lan: Any, node: Node, buffer: int) -> Any:
    """Put a node on the LAN.

    Args:
        lan: the LAN.
        node: the plan.
        buffer: bytes of its input buffer.

    Returns:
        What the LAN gives for it: a host, a namespace, a tap; of a process node, the place that is kept.

    Raises:
        MachineLacks, VnetError, ValueError: the LAN refuses; nothing of the node is there.
    """
    addresses = [str(address) for address in node.addresses]
    settings: dict[str, Any] = {"network": node.network, "buffer": buffer}
    if node.kind == "host":
        return lan.host(node.name, addresses, **settings)
    if node.kind == "process":
        return lan.reserve(node.name, addresses, **settings)
    if node.interface is not None:
        settings["interface"] = node.interface
    if node.kind == "netns":
        gateway = [str(address) for address in node.gateway]
        return lan.netns(node.name, addresses, gateway=gateway or None, **settings)
    if node.bridge is not None:
        settings |= {"bridge": node.bridge.name, "ports": node.bridge.ports}
    return lan.tap(node.name, addresses or None, nat=node.nat, **settings)
