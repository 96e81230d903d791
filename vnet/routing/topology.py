"""A LAN as a graph of networkx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..register import Register

__all__ = ["network_node", "topology"]


def network_node(name: str) -> str:
    """What a network is called in a graph: a router or a guest may have its name, but no name has a colon in it."""
    return f"network:{name}"


def topology(register: Register) -> Any:
    """See :meth:`vnet.Lan.topology`."""
    # A third of a second, for those who need it.
    import networkx

    graph = networkx.MultiGraph()
    routing = register.routing
    with register.lock:
        for network in register.networks.values():
            prefixes = tuple(map(str, network.prefixes))
            graph.add_node(network_node(network.name), kind="network", prefixes=prefixes, mtu=network.mtu)
        for router in routing.routers.values():
            graph.add_node(router.name, kind="router", addresses=router.addresses, **_free(router.attributes))
        for entry in register.nics.values():
            port = routing.port_of(entry)
            node = entry.node if port is None else port.router.name
            if node not in graph:
                graph.add_node(node, kind=entry.kind, forward=port is not None)
            said: dict[str, Any] = {"nic": entry.name, "addresses": tuple(map(str, entry.addresses)), "mtu": entry.mtu}
            if port is not None:
                said["weight"] = port.weight
            graph.add_edge(node, network_node(entry.network.name), key=entry.name, up=register.is_up(entry), **said)
        for link in routing.links.values():
            a, b = link.endpoints
            graph.add_edge(
                a,
                b,
                key=link.name,
                **_free(link.attributes),
                link=link.name,
                weight=link.weight,
                mtu=link.mtu,
                up=link.up,
                addresses=dict(zip(link.endpoints, link.addresses, strict=True)),
            )
    return graph


def _free(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes that bear none of the names that the graph gives a meaning."""
    own = {"kind", "addresses", "link", "nic", "weight", "mtu", "up", "key"}
    return {name: value for name, value in attributes.items() if name not in own}
