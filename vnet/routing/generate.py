"""Layouts that are made rather than read: lines, rings, trees, grids, fat trees, random graphs.

>>> from vnet.routing import generate
>>> layout = generate.fat_tree(4)
>>> len(layout.routers), len(layout.links)
(20, 32)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .layout import Layout, LinkSketch, RouterSketch
from .model import MAX_ROUTERS

__all__ = ["fat_tree", "grid", "line", "random", "ring", "star", "tree"]


def line(count: int) -> Layout:
    """Routers ``r1`` to ``rN`` one after the other."""
    return _numbered(_number("count", count, 1), ((each, each + 1) for each in range(1, count)))


def ring(count: int) -> Layout:
    """Routers ``r1`` to ``rN`` in a circle, three at least."""
    _number("count", count, 3)
    return _numbered(count, ((each, each % count + 1) for each in range(1, count + 1)))


def star(count: int) -> Layout:
    """Routers ``r2`` to ``rN`` around ``r1``."""
    return _numbered(_number("count", count, 2), ((1, each) for each in range(2, count + 1)))


def tree(branches: int, height: int) -> Layout:
    """A balanced tree: ``r1`` is its root, each router but the leaves has so many below it, in so many rows."""
    import networkx

    _number("branches", branches, 1)
    _number("height", height, 0)
    count = height + 1 if branches == 1 else (branches ** min(height + 1, 64) - 1) // (branches - 1)
    _number("count", count, 1)
    return _of(networkx.balanced_tree(branches, height))


def grid(rows: int, columns: int) -> Layout:
    """Routers ``r1.1`` to ``rROWS.COLUMNS``, each linked to those beside, above and below it."""
    import networkx

    _number("rows", rows, 1)
    _number("columns", columns, 1)
    _number("count", rows * columns, 1)
    graph = networkx.grid_2d_graph(rows, columns)
    names = {node: f"r{node[0] + 1}.{node[1] + 1}" for node in graph}
    links = (LinkSketch(names[a], names[b]) for a, b in graph.edges)
    return Layout(tuple(RouterSketch(names[node]) for node in graph), tuple(links))


def fat_tree(ports: int) -> Layout:
    """A fat tree of routers with so many ports (Al-Fares et al., SIGCOMM 2008): an even number.

    There are as many pods as ports, each with half as many routers ``agg-POD-N`` above half as many ``edge-POD-N``,
    where the hosts are, and above all a quarter of the square of it, ``core-N``.
    """
    _number("ports", ports, 2)
    if ports % 2:
        raise ValueError(f"the routers of a fat tree have an even number of ports, not {ports}")
    half = ports // 2
    _number("count", half * half + ports * ports, 1)
    places = range(1, half + 1)
    cores = [RouterSketch(f"core-{each}", hosts=False) for each in range(1, half * half + 1)]
    routers, links = list(cores), []
    for pod in range(1, ports + 1):
        routers += [RouterSketch(f"agg-{pod}-{each}", hosts=False) for each in places]
        routers += [RouterSketch(f"edge-{pod}-{each}") for each in places]
        for above in places:
            # Each of a pod's upper routers has cores of its own.
            own = cores[(above - 1) * half : above * half]
            links += [LinkSketch(core.name, f"agg-{pod}-{above}") for core in own]
            links += [LinkSketch(f"agg-{pod}-{above}", f"edge-{pod}-{below}") for below in places]
    return Layout(tuple(routers), tuple(links))


def random(count: int, *, degree: int | None = None, p: float | None = None, seed: int = 0) -> Layout:
    """Routers ``r1`` to ``rN`` linked at random, and connected; the same for the same seed and version of networkx.

    Arguments:
        count: how many routers.
        degree: so many links at each (a random regular graph); 3 where neither is given.  Or
        p: the probability of a link between any two (Erdős and Rényi); where it falls into parts, one more link each
            joins them.
        seed: what the choices follow from.

    Raises:
        ValueError: no such graph can be.
    """
    import networkx

    _number("count", count, 1)
    if degree is not None and p is not None:
        raise ValueError("a random graph has either a degree or a probability p, not both")
    if p is not None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, 0 to 1, not {p}")
        return _of(_joined(networkx.fast_gnp_random_graph(count, p, seed=seed)))
    if degree is None:
        # An odd number of routers has no regular graph of degree 3.
        degree = min(3 if count % 2 == 0 else 4, count - 1)
    if not _can_be(count, degree):
        raise ValueError(
            f"{count} routers cannot be connected with {degree} links at each: expected at least 2 and fewer than "
            f"{count}, and an even number of ends in all"
        )
    if degree < 3:
        # Of degree 2 there is but one that is connected.
        return ring(count) if degree == 2 else line(count)
    # Almost all are connected.
    attempts = (networkx.random_regular_graph(degree, count, seed=seed + each * 1_000_003) for each in range(1000))
    return _of(next(graph for graph in attempts if networkx.is_connected(graph)))


def _can_be(count: int, degree: int) -> bool:
    """Whether there is a connected graph with so many nodes, and so many edges at each."""
    return count * degree % 2 == 0 and (degree == count - 1 if count < 3 else 2 <= degree < count)


def _joined(graph: Any) -> Any:
    import networkx

    parts = [min(part) for part in networkx.connected_components(graph)]
    parts.sort()
    graph.add_edges_from((parts[at - 1], parts[at]) for at in range(1, len(parts)))
    return graph


def _of(graph: Any) -> Layout:
    """A graph of networkx with the nodes 0 to N-1."""
    return _numbered(len(graph), ((a + 1, b + 1) for a, b in sorted(map(sorted, graph.edges))))


def _numbered(count: int, links: Iterable[tuple[int, int]]) -> Layout:
    routers = tuple(RouterSketch(f"r{each}") for each in range(1, count + 1))
    return Layout(routers, tuple(LinkSketch(f"r{a}", f"r{b}") for a, b in links))


def _number(what: str, number: int, least: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{what} is a whole number, not {number!r}")
    if not least <= number <= MAX_ROUTERS:
        raise ValueError(f"{what} is {least} to {MAX_ROUTERS:,}, not {number:,}")
    return number
