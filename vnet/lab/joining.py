"""How each kind of node joins the LAN, and what is done with links and routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vnet.lab.plan import Joined, Link, Node, Outside, StaticRoute

__all__ = ["add_link", "add_routes", "join", "join_router", "load_outside"]


def join(lan: Any, node: Node, buffer: int) -> Any:
    """Put a guest on the LAN.

    Args:
        lan: the LAN.
        node: the plan.
        buffer: bytes of its input buffer.

    Returns:
        What the LAN gives for it: a host, a namespace, a tap; of a process node, the place that is kept.

    Raises:
        MachineLacks, VnetError, ValueError: the LAN refuses; nothing of the node is there.
    """
    settings: dict[str, Any] = {"buffer": buffer}
    if node.kind != "tap" and node.gateway is not None:
        settings["gateway"] = [str(address) for address in node.gateway] or False
    if node.interface is not None:
        settings["interface"] = node.interface
    if node.kind == "netns" and (len(node.joined) > 1 or node.forward):
        networks = {each.network: _texts(each) for each in node.joined}
        return lan.netns(node.name, networks=networks, forward=node.forward, **settings)
    own = node.joined[0]
    if node.kind == "process" and len(node.joined) > 1:
        return _reserve_several(lan, node, settings)
    settings["network"] = own.network
    if node.kind == "host":
        return lan.host(node.name, _texts(own), **settings)
    if node.kind == "process":
        return lan.reserve(node.name, _texts(own), **settings)
    if node.kind == "netns":
        return lan.netns(node.name, _texts(own), **settings)
    if node.bridge is not None:
        settings |= {"bridge": node.bridge.name, "ports": node.bridge.ports}
    return lan.tap(node.name, _texts(own) or None, nat=node.nat, **settings)


def _texts(joined: Joined) -> list[str]:
    return list(map(str, joined.addresses))


def _reserve_several(lan: Any, node: Node, settings: dict[str, Any]) -> None:
    """Keep a place for each NIC of a process node; all of them or none."""
    forward = {"forward": node.name} if node.forward else {}
    kept = []
    try:
        for name, each in zip(node.nics, node.joined, strict=True):
            lan.reserve(name, _texts(each), network=each.network, **forward, **settings)
            kept.append(name)
    except BaseException:
        for name in kept:
            lan.remove(name)
        raise


# --- routers ----------------------------------------------------------------------------------------------------------


def join_router(lan: Any, node: Node) -> Any:
    """Put a router on the LAN, without its static routes: what they lead over is not there yet."""
    networks = {each.network: _texts(each) for each in node.joined}
    loopback = list(map(str, node.loopback)) or None
    return lan.router(node.name, networks, loopback=loopback, attributes=dict(node.attributes))


def add_link(lan: Any, link: Link) -> Any:
    """Link two routers."""
    return lan.link(
        *link.ends,
        weight=link.weight,
        mtu=link.mtu,
        prefix=list(map(str, link.prefixes)),
        addresses=[list(map(str, addresses)) for addresses in link.addresses],
        name=link.name,
        attributes=dict(link.attributes),
    )


def add_routes(router: Any, routes: Iterable[StaticRoute]) -> None:
    """Give a router static routes."""
    for route in routes:
        for via in (route.via,) if isinstance(route.via, str) else route.via:
            router.add_route(str(route.prefix), str(via))


# --- outside ----------------------------------------------------------------------------------------------------------


def load_outside(lan: Any, outside: Outside) -> None:
    """Tell the LAN what lies behind a guest.

    Raises:
        VnetError, ValueError: the LAN refuses.
    """
    via = outside.via if isinstance(outside.via, str) else list(map(str, outside.via))
    if outside.file is not None:
        lan.routes.load(outside.file, via=via)
    else:
        lan.routes.add(str(outside.prefix), via=via)
