"""Shortest paths over the model, for what Python itself has to know of them; datagrams go by the compiled plan.

A network with several routers is a node of its own: leaving a router by a port costs the port's weight, coming from a
network into a router costs nothing (RFC 2328 section 2.1.2).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import count

from ..network import Network
from .model import Behind, Model, Origin, Port, RouterNode, Wire

__all__ = ["attached", "distances", "first_hops", "parts"]


def attached(model: Model, origin: Origin) -> dict[RouterNode, int]:
    """Returns the routers that a prefix is at, and what the last step of each costs (RFC 2328 section 16.1)."""
    if isinstance(origin, Behind):
        origin = origin.network
    if isinstance(origin, Network):
        # Of two ports of one router there, the first counts.
        return {port.router: port.weight for port in reversed(model.on_network.get(origin, ()))}
    if isinstance(origin, Wire):
        return {port.router: port.weight for port in origin.ports if port.up}
    return {origin: 0} if isinstance(origin, RouterNode) else {}


def distances(model: Model, targets: Mapping[RouterNode, int]) -> dict[RouterNode, int]:
    """Returns what it costs each router to come to the nearest of ``targets``; who cannot is not in it.

    Arguments:
        model: the routers.
        targets: what their own last step costs.
    """
    found: dict[RouterNode, int] = {}
    networks: set[Network] = set()
    # Ties in the order of arrival: routers themselves do not compare.
    order = count()
    queue = sorted((cost, next(order), router) for router, cost in targets.items())
    while queue:
        cost, _, router = heapq.heappop(queue)
        if router in found:
            continue
        found[router] = cost
        for port in router.ports:
            if port.peer is not None and port.up and port.peer.router not in found:
                heapq.heappush(queue, (cost + port.peer.weight, next(order), port.peer.router))
            elif port.network is not None and port.network not in networks:
                # Whoever is on the network too comes by the first that was found: the next ones are no nearer.
                networks.add(port.network)
                for other in model.on_network[port.network]:
                    if other.router not in found:
                        heapq.heappush(queue, (cost + other.weight, next(order), other.router))
    return found


def first_hops(model: Model, source: RouterNode) -> dict[RouterNode, tuple[int, Port, Port]]:
    """Returns, for each other router that ``source`` can come to, the cost, and the two ports of the first step.

    Of paths of equal cost it is the one whose first ports have the smaller numbers.
    """
    found: dict[RouterNode, tuple[int, Port, Port]] = {}
    networks: set[Network] = set()
    queue: list[tuple[int, int, int, int, RouterNode | Network, Port | None, Port | None]] = []
    order = count()

    def reach(cost: int, where: RouterNode | Network, out: Port | None, into: Port | None) -> None:
        numbers = (-1 if out is None else out.number, -1 if into is None else into.number)
        heapq.heappush(queue, (cost, *numbers, next(order), where, out, into))

    reach(0, source, None, None)
    while queue:
        cost, _, _, _, where, out, into = heapq.heappop(queue)
        if isinstance(where, Network):
            if where in networks:
                continue
            networks.add(where)
            for port in model.on_network[where]:
                if port.router is not source and port.router not in found:
                    # The first step may be onto this very network.
                    reach(cost, port.router, out, into or port)
            continue
        if where is not source:
            if where in found:
                continue
            assert out is not None
            assert into is not None
            found[where] = (cost, out, into)
        for port in where.ports:
            if not port.up:
                continue
            if port.peer is not None:
                if port.peer.router is not source:
                    reach(cost + port.weight, port.peer.router, out or port, into or port.peer)
            elif port.network is not None and port.network not in networks:
                reach(cost + port.weight, port.network, out or port, into)
    return found


def parts(model: Model) -> dict[RouterNode, int]:
    """Returns a number for each router, the same for all that can come to one another."""
    found: dict[RouterNode, int] = {}
    for start in model.routers:
        if start in found:
            continue
        for router in distances(model, {start: 0}):
            found[router] = start.number
    return found
