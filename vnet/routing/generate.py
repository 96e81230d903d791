"""Graphs that are made rather than read: lines, rings, trees, grids, fat trees, random graphs.

Each is a :class:`networkx.Graph` whose nodes are names of routers; their attribute ``hosts`` says whether guests belong
there, which is so at the edge of a fat tree, at the leaves of trees and stars, and everywhere in the others.

>>> from vnet.routing import generate
>>> generate.fat_tree(4)
<networkx.classes.graph.Graph object at 0x...>
"""

from __future__ import annotations

import random as chance
from typing import Any

from .model import MAX_ROUTERS

__all__ = ["fat_tree", "grid", "line", "random", "ring", "star", "tree"]


def line(count: int) -> Any:
    """Routers ``r1`` to ``rN`` one after the other."""
    import networkx

    return _numbered(networkx.path_graph(_number("the number of routers", count, 1)))


def ring(count: int) -> Any:
    """Routers ``r1`` to ``rN`` in a circle, three at least."""
    import networkx

    return _numbered(networkx.cycle_graph(_number("the number of routers in a ring", count, 3)))


def star(leaves: int) -> Any:
    """Routers ``r1`` to ``rN`` around ``hub``."""
    import networkx

    _number("the number of leaves", leaves, 1, MAX_ROUTERS - 1)
    names = {node: f"r{node}" if node else "hub" for node in range(leaves + 1)}
    return _named(networkx.star_graph(leaves), names, {names[0]})


def tree(depth: int, fanout: int) -> Any:
    """A balanced tree: ``r1`` is its root, and each router has ``fanout`` below it, ``depth`` rows deep."""
    import networkx

    _number("the depth of a tree", depth, 1)
    _number("the fanout of a tree", fanout, 1)
    graph = networkx.path_graph(depth + 1)
    if fanout > 1:
        # As long as that is not too many: the depth alone does not say.
        _number("the number of routers", sum(fanout**row for row in range(min(depth, 13) + 1)), 1)
        graph = networkx.balanced_tree(fanout, depth)
    leaves = {f"r{node + 1}" for node in graph if graph.degree[node] == 1 and node}
    names = {node: f"r{node + 1}" for node in graph}
    return _named(graph, names, set(names.values()) - leaves)


def grid(rows: int, columns: int) -> Any:
    """Routers ``r1-1`` to ``rROWS-COLUMNS``, each linked to those beside, above and below it."""
    import networkx

    _number("the number of rows", rows, 1)
    _number("the number of columns", columns, 1)
    _number("the number of routers", rows * columns, 1)
    graph = networkx.grid_2d_graph(rows, columns)
    return _named(graph, {node: f"r{node[0] + 1}-{node[1] + 1}" for node in graph}, set())


def fat_tree(ports: int) -> Any:
    """A fat tree of routers with so many ports (Al-Fares et al., SIGCOMM 2008): an even number.

    There are as many pods as ports, each with half as many routers ``agg-POD-N`` above half as many ``edge-POD-N``,
    where the hosts are, and above all a quarter of the square of it, ``core-N``.
    """
    import networkx

    _number("the number of ports in a fat tree", ports, 2)
    if ports % 2:
        raise ValueError(f"the routers of a fat tree have an even number of ports, not {ports}")
    half = ports // 2
    _number("the number of routers", half * half + ports * ports, 1)
    graph, places = networkx.Graph(), range(1, half + 1)
    cores = [f"core-{each}" for each in range(1, half * half + 1)]
    graph.add_nodes_from(cores, hosts=False)
    for pod in range(1, ports + 1):
        graph.add_nodes_from((f"agg-{pod}-{each}" for each in places), hosts=False)
        graph.add_nodes_from((f"edge-{pod}-{each}" for each in places), hosts=True)
        for above in places:
            # Each of a pod's upper routers has cores of its own.
            own = cores[(above - 1) * half : above * half]
            graph.add_edges_from((core, f"agg-{pod}-{above}") for core in own)
            graph.add_edges_from((f"agg-{pod}-{above}", f"edge-{pod}-{below}") for below in places)
    return graph


def random(
    routers: int, links: int | None = None, seed: int = 0, *, degree: int | None = None, p: float | None = None
) -> Any:
    """Routers ``r1`` to ``rN`` linked at random, and connected; the same for the same seed.

    Arguments:
        routers: how many.
        links: how many in all, at least one less than routers; half as many again as routers if nothing is said.  Or
        seed: what the choices follow from.
        degree: so many links at each (a random regular graph).  Or
        p: the probability of a link between any two (Erdős and Rényi); where it falls into parts, a link each joins
            them.

    Raises:
        ValueError: there is no such graph, or more than one of ``links``, ``degree`` and ``p`` is given.
    """
    import networkx

    _number("the number of routers", routers, 1)
    if sum(each is not None for each in (links, degree, p)) > 1:
        raise ValueError("a random graph has one of links, degree and p")
    if degree is not None:
        return _numbered(_regular(routers, degree, seed))
    if p is not None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, 0 to 1, not {p}")
        graph = networkx.fast_gnp_random_graph(routers, p, seed=seed)
        first = sorted(min(part) for part in networkx.connected_components(graph))
        graph.add_edges_from((first[at - 1], first[at]) for at in range(1, len(first)))
        return _numbered(graph)
    most = routers * (routers - 1) // 2
    if links is None:
        links = min(routers * 3 // 2, most)
    if not routers - 1 <= links <= most:
        raise ValueError(f"{routers} routers are connected by {routers - 1:,} to {most:,} links, not {links:,}")
    return _numbered(_linked(routers, links, chance.Random(seed)))


def _linked(routers: int, links: int, choice: chance.Random) -> Any:
    """A random tree, and random edges beside it."""
    import networkx

    graph = networkx.empty_graph(routers)
    graph.add_edges_from((choice.randrange(each), each) for each in range(1, routers))
    if links > routers * (routers - 1) // 4:
        # So many that trying would take long.
        rest = sorted(networkx.non_edges(graph))
        graph.add_edges_from(choice.sample(rest, links - graph.number_of_edges()))
    while graph.number_of_edges() < links:
        graph.add_edge(*choice.sample(range(routers), 2))
    return graph


def _regular(routers: int, degree: int, seed: int) -> Any:
    import networkx

    least = min(2, routers - 1)
    if not least <= degree < max(routers, 1) or routers * degree % 2:
        raise ValueError(
            f"{routers} routers cannot be connected with {degree} links at each: expected {least} to {routers - 1}, "
            "and an even number of ends in all"
        )
    if degree < 3:
        # There is but one that is connected.
        return networkx.cycle_graph(routers) if degree == 2 else networkx.path_graph(routers)
    # Almost all are connected.
    attempts = (networkx.random_regular_graph(degree, routers, seed=seed + each * 1_000_003) for each in range(1000))
    return next(graph for graph in attempts if networkx.is_connected(graph))


def _numbered(graph: Any) -> Any:
    """A graph with the nodes 0 to N-1, by the names r1 to rN."""
    return _named(graph, {node: f"r{node + 1}" for node in graph}, set())


def _named(graph: Any, names: dict[Any, str], without: set[str]) -> Any:
    import networkx

    found = networkx.Graph()
    for node in sorted(graph):
        found.add_node(names[node], hosts=names[node] not in without)
    found.add_edges_from((names[a], names[b]) for a, b in sorted(map(sorted, graph.edges)))
    return found


def _number(what: str, number: int, least: int, most: int = MAX_ROUTERS) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{what} is a whole number, not {number!r}")
    if not least <= number <= most:
        raise ValueError(f"{what} is {least:,} to {most:,}, not {number:,}")
    return number
