"""Layouts that are made: their shape as networkx tells it, connected, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest

from vnet.routing import generate
from vnet.routing.layout import Layout


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (generate.line(5), nx.path_graph(5)),
        (generate.line(1), nx.path_graph(1)),
        (generate.ring(6), nx.cycle_graph(6)),
        (generate.star(5), nx.star_graph(4)),
        (generate.tree(3, 2), nx.balanced_tree(3, 2)),
        (generate.tree(1, 4), nx.path_graph(5)),
        (generate.grid(3, 4), nx.grid_2d_graph(3, 4)),
    ],
)
def test_each_shape_is_that_of_its_name(made: Layout, shape: nx.Graph) -> None:
    assert nx.is_isomorphic(nx.Graph(made.graph()), shape)
    assert len(made.links) == shape.number_of_edges()


@pytest.mark.parametrize("ports", [2, 4, 6, 8])
def test_a_fat_tree_has_the_routers_and_links_of_the_paper(ports: int) -> None:
    graph = generate.fat_tree(ports).graph()
    cores = [name for name in graph if name.startswith("core-")]
    edges = [name for name in graph if name.startswith("edge-")]
    assert len(cores) == (ports // 2) ** 2
    assert len(graph) == len(cores) + ports * ports
    assert {graph.degree[name] for name in graph if name not in edges} == {ports}
    # The other half of their ports is for hosts.
    assert {graph.degree[name] for name in edges} == {ports // 2}
    # Between two pods there are as many ways of the least length as there are cores.
    ways = list(nx.all_shortest_paths(graph, "edge-1-1", f"edge-{ports}-1"))
    assert len(ways) == len(cores)
    assert [router.name for router in generate.fat_tree(ports).routers if router.hosts] == edges


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: generate.random(40, seed=seed),
        lambda seed: generate.random(41, seed=seed),
        lambda seed: generate.random(30, degree=5, seed=seed),
        lambda seed: generate.random(60, p=0.03, seed=seed),
    ],
)
def test_a_random_layout_is_connected_and_follows_from_its_seed(make: Callable[[int], Layout]) -> None:
    layouts = [make(seed) for seed in range(8)]
    assert all(nx.is_connected(layout.graph()) for layout in layouts)
    assert layouts == [make(seed) for seed in range(8)]
    assert len({tuple((link.a, link.b) for link in layout.links) for layout in layouts}) == 8


def test_a_regular_layout_has_the_degree_that_was_asked_for() -> None:
    assert set(dict(generate.random(30, degree=5, seed=7).graph().degree).values()) == {5}
    assert generate.random(9, degree=2) == generate.ring(9)
    assert [len(generate.random(count).links) for count in (1, 2, 3, 4, 5)] == [0, 1, 3, 6, 10]


@pytest.mark.parametrize(
    "make",
    [
        lambda: generate.line(0),
        lambda: generate.line(4097),
        lambda: generate.ring(2),
        lambda: generate.star(1),
        lambda: generate.tree(2, 60),
        lambda: generate.tree(0, 3),
        lambda: generate.grid(100, 100),
        lambda: generate.fat_tree(5),
        lambda: generate.fat_tree(0),
        lambda: generate.fat_tree(1000),
        lambda: generate.random(5, degree=3),
        lambda: generate.random(5, degree=5),
        lambda: generate.random(5, degree=1),
        lambda: generate.random(5, p=1.5),
        lambda: generate.random(5, degree=2, p=0.5),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Layout]) -> None:
    with pytest.raises(ValueError, match=r"not|cannot"):
        make()
