"""Who stands above whom: networks and the nodes that join them, ranked in layers so that few lines cross."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Vertex", "components"]

# What kind of thing it is, and its name.
Vertex = tuple[str, str]

# Walks down and up again in which a layer takes the order of its neighbours; more change nothing to speak of.
_SWEEPS = 6


def components(vertices: Sequence[Vertex], edges: Iterable[tuple[Vertex, Vertex]]) -> list[list[list[Vertex]]]:
    """The connected parts of a graph, each as layers from top to bottom.

    An edge leads from a layer to itself or to the next one, and never further, because a layer is what is equally far
    from the first.

    Args:
        vertices: in the order of the lab, which decides where nothing else does.
        edges: pairs of them.
    """
    pairs = [(a, b) for a, b in edges if a != b]
    if not pairs:
        return [[[vertex]] for vertex in vertices]
    import networkx  # takes longer than to draw a lab without routers

    graph = networkx.Graph()
    graph.add_nodes_from(vertices)
    graph.add_edges_from(pairs)
    rank = {vertex: number for number, vertex in enumerate(vertices)}
    parts = sorted(networkx.connected_components(graph), key=lambda part: min(rank[vertex] for vertex in part))
    return [_layers(networkx, graph.subgraph(part), rank) for part in parts]


def _layers(networkx: Any, graph: Any, rank: Mapping[Vertex, int]) -> list[list[Vertex]]:
    root = _middle(networkx, graph, rank)
    layers = [sorted(layer, key=rank.__getitem__) for layer in networkx.bfs_layers(graph, [root])]
    for sweep in range(_SWEEPS):
        downward = sweep % 2 == 0
        order = range(1, len(layers)) if downward else range(len(layers) - 2, -1, -1)
        for index in order:
            beside = {vertex: place for place, vertex in enumerate(layers[index - 1 if downward else index + 1])}
            layers[index] = _by_neighbours(graph, layers[index], beside)
    return layers


def _middle(networkx: Any, graph: Any, rank: Mapping[Vertex, int]) -> Vertex:
    """The vertex that most others are near to: the middle of a longest way, found with two walks."""
    start = min(graph, key=rank.__getitem__)
    for _ in range(2):
        ways: dict[Vertex, list[Vertex]] = networkx.single_source_shortest_path(graph, start)
        longest = max(ways.values(), key=lambda way: (len(way), -rank[way[-1]]))
        start = longest[-1]
    return longest[(len(longest) - 1) // 2]


def _by_neighbours(graph: Any, layer: list[Vertex], beside: Mapping[Vertex, int]) -> list[Vertex]:
    """The layer in the order of the mean places of its neighbours; those without any stay where they are."""
    places: dict[Vertex, float] = {}
    for place, vertex in enumerate(layer):
        mine = [beside[other] for other in graph.neighbors(vertex) if other in beside]
        places[vertex] = sum(mine) / len(mine) if mine else place
    return sorted(layer, key=places.__getitem__)
