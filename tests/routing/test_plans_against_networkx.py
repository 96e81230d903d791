"""Distances and ways of equal cost in compiled plans are those of networkx, before and after links are cut."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from vnet import _native

ZOO = Path("/work/shared/data/topology-zoo")
NO_CLASS = ("static", 0, None, 0, [])


class Compiled:
    """A graph as a plan: a router for each node, with a network of its own behind it, and a link for each edge."""

    def __init__(self, graph: nx.MultiGraph) -> None:
        self.graph = graph
        self.nodes = list(graph)
        self.numbers = {node: number for number, node in enumerate(self.nodes)}
        ports: list[Any] = [(number, number + 1, -1, 0, 1500, 1, 0, 0, True, True) for number in self.numbers.values()]
        self.ends: dict[Any, tuple[int, int]] = {}
        for one, other, key, weight in graph.edges(keys=True, data="weight"):
            near = len(ports)
            ports.append((self.numbers[one], 0, near + 1, 0, 1500, weight, 0, 0, True, True))
            ports.append((self.numbers[other], 0, near, 0, 1500, weight, 0, 0, True, True))
            self.ends[one, other, key] = near, near + 1
        self.owners = [port[0] for port in ports]
        classes: list[Any] = [NO_CLASS, *(("network", number + 1, None, 0, []) for number in self.numbers.values())]
        self.plan = _native.Plan([(False, True)] * len(self.nodes), ports, classes, False)

    def distances(self, start: Any) -> dict[Any, int]:
        """The distances from a node to all that it reaches."""
        found = {end: self.plan.distance(self.numbers[start], number) for end, number in self.numbers.items()}
        return {end: distance for end, distance in found.items() if distance is not None}

    def ways(self, start: Any, end: Any) -> set[Any]:
        """The neighbours to which a node may send what is for the network behind another."""
        choices = self.plan.choices(self.numbers[start], self.numbers[end] + 1)
        assert all(what == "router" for what, _, _ in choices)
        return {self.nodes[self.owners[int(into or 0)]] for _, _, into in choices}

    def walk(self, start: Any, end: Any, hash: int) -> list[Any]:
        """The nodes that a flow comes by."""
        way = [start]
        while len(way) <= len(self.nodes):
            what, _, into = self.plan.next(self.numbers[way[-1]], self.numbers[end] + 1, hash)
            if what == "link":
                return way
            assert what == "router"
            way.append(self.nodes[self.owners[int(into or 0)]])
        raise AssertionError(f"{start} to {end} goes in a circle: {way}")


def agree(compiled: Compiled, graph: nx.MultiGraph) -> None:
    """Holds all distances and all sets of next hops against networkx's."""
    for end in graph:
        # From the destination: who comes before a node there is who comes after it on the way to the destination.
        after, distances = nx.dijkstra_predecessor_and_distance(graph, end)
        for start in graph:
            expected = set() if start == end else set(after.get(start, ()))
            if start != end:
                assert compiled.ways(start, end) == expected, (start, end)
        assert compiled.distances(end) == distances


def weighted(graph: nx.Graph, heaviest: int, seed: int = 3) -> nx.MultiGraph:
    """The graph with random weights, small ones so that ways are often of equal cost."""
    drawn = random.Random(seed)
    found = nx.MultiGraph(graph)
    for _, _, data in found.edges(data=True):
        data["weight"] = drawn.randint(1, heaviest)
    return found


def parallel() -> nx.MultiGraph:
    """Rings in which every link is there twice or three times."""
    graph = nx.MultiGraph()
    for node in range(12):
        graph.add_edge(node, (node + 1) % 12)
        graph.add_edge(node, (node + 1) % 12)
        graph.add_edge(node, (node + 5) % 12)
    return graph


GENERATED: dict[str, Callable[[], nx.MultiGraph]] = {
    "grid": lambda: weighted(nx.grid_2d_graph(6, 7), 1),
    "hypercube": lambda: weighted(nx.hypercube_graph(6), 1),
    "small world": lambda: weighted(nx.connected_watts_strogatz_graph(60, 6, 0.3, seed=5), 3),
    "scale free": lambda: weighted(nx.barabasi_albert_graph(70, 3, seed=5), 4),
    "sparse, in pieces": lambda: weighted(nx.gnm_random_graph(60, 60, seed=5), 2),
    "parallel links": lambda: weighted(parallel(), 2),
    "one node": lambda: weighted(nx.empty_graph(1), 1),
}


def zoo(name: str, heaviest: int) -> nx.MultiGraph:
    graph = nx.read_gml(ZOO / f"{name}.gml", label="id")
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return weighted(graph, heaviest)


def graphs() -> list[Any]:
    found = [pytest.param(make, id=name) for name, make in GENERATED.items()]
    for heaviest in (1, 5):
        for path in sorted(ZOO.glob("*.gml")):
            found.append(
                pytest.param(lambda name=path.stem, most=heaviest: zoo(name, most), id=f"{path.stem}, {heaviest}")
            )
    return found


@pytest.mark.parametrize("make", graphs())
def test_distances_and_ways_of_equal_cost_are_those_of_networkx(make: Callable[[], nx.MultiGraph]) -> None:
    graph = make()
    agree(Compiled(graph), graph)


@pytest.mark.parametrize("make", graphs())
def test_links_that_are_cut_mended_and_weighed_change_ways_as_networkx_has_it(
    make: Callable[[], nx.MultiGraph],
) -> None:
    graph = make()
    compiled = Compiled(graph)
    drawn = random.Random(8)
    edges = sorted(compiled.ends)
    for _ in range(3):
        cut = drawn.sample(edges, k=min(len(edges), 1 + len(edges) // 6))
        heavy = drawn.sample(edges, k=min(len(edges), 3))
        for one, other, key in heavy:
            graph[one][other][key]["weight"] = drawn.randint(1, 6)
        changes = []
        for edge, ports in compiled.ends.items():
            one, other, key = edge
            changes += [(port, edge not in cut, graph[one][other][key]["weight"]) for port in ports]
        compiled.plan.set_ports(changes)
        left = graph.copy()
        left.remove_edges_from(cut)
        agree(compiled, left)
        # One end is enough to cut a link, and one change of one link is repaired rather than compiled.
        for one, other, key in edges[:2]:
            weight = graph[one][other][key]["weight"]
            compiled.plan.set_ports([(compiled.ends[one, other, key][1], False, weight)])
            if left.has_edge(one, other, key):
                left.remove_edge(one, other, key)
        agree(compiled, left)


@pytest.mark.parametrize("make", graphs())
def test_every_flow_comes_by_as_many_routers_as_networkx_counts(make: Callable[[], nx.MultiGraph]) -> None:
    graph = make()
    for _, _, data in graph.edges(data=True):
        data["weight"] = 1
    compiled = Compiled(graph)
    drawn = random.Random(8)
    for start, hops in nx.all_pairs_shortest_path_length(graph):
        for end in drawn.sample(sorted(hops), k=min(len(hops), 12)):
            way = compiled.walk(start, end, drawn.getrandbits(32))
            assert len(way) == hops[end] + 1
            assert nx.is_path(graph, way)


def test_flows_take_all_shortest_paths_of_networkx_and_no_other() -> None:
    graph = weighted(nx.grid_2d_graph(4, 4), 1)
    compiled = Compiled(graph)
    drawn = random.Random(8)
    taken = {tuple(compiled.walk((0, 0), (3, 3), drawn.getrandbits(32))) for _ in range(2000)}
    assert taken == {tuple(path) for path in nx.all_shortest_paths(graph, (0, 0), (3, 3))}


def test_a_plan_that_names_what_is_not_there_is_refused_in_a_sentence() -> None:
    router, port = [(False, True)], (0, 1, -1, 0, 1500, 1, 0, 0, True, True)
    refused: list[tuple[list[Any], list[Any], str]] = [
        ([(1, *port[1:])], [], "port 0 names router 1, but there are 1"),
        ([(0, 0, *port[2:])], [], "port 0 names network 0, which is none"),
        ([(0, 0, 0, *port[3:])], [], "port 0 is linked to port 0, which is not linked to it"),
        ([(*port[:5], 0, *port[6:])], [], "port 0 has weight 0; a weight is 1 to 1048575"),
        ([port], [NO_CLASS, ("circle", 0, None, 0, [])], '"circle" is no kind of a class'),
        ([port], [NO_CLASS, ("external", 1, None, 0, [])], "a next hop needs an address"),
        ([port], [NO_CLASS, ("external", 1, "10.0.0.256", 0, [])], '"10.0.0.256" is no IP address'),
        (
            [port],
            [NO_CLASS, ("static", 0, None, 0, [(0, "why", 0, None)])],
            '"why" is nothing that a static route says',
        ),
        ([port], [NO_CLASS, ("static", 0, None, 1, [])], "the parents of class 1 do not end within 129 classes"),
    ]
    for ports, classes, sentence in refused:
        with pytest.raises(ValueError, match="^" + sentence.replace(".", r"\.") + "$"):
            _native.Plan(router, ports, classes, False)
    plan = _native.Plan(router, [port], [NO_CLASS], False)
    with pytest.raises(ValueError, match=r"^a change names port 1, but there are 1$"):
        plan.set_ports([(0, False, 1), (1, False, 1)])
