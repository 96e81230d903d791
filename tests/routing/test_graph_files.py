"""Graph files: what becomes of names and attributes, and each mistake with its sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import vnet
from vnet.routing.graphs import from_networkx, read_graph
from vnet.routing.layout import unique_names

ZOO = Path("/work/shared/data/topology-zoo")
TRIANGLE = """graph [
  node [ id 0 label "São Paulo" Latitude -23.5 ]
  node [ id 1 label "Köln" ]
  node [ id 2 ]
  edge [ source 0 target 1 LinkSpeedRaw 10000000000 weight 7 ]
  edge [ source 1 target 2 ]
  edge [ source 2 target 0 ]
]
"""


def written(directory: Path, text: str, name: str = "backbone.gml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def test_names_are_made_of_labels_and_attributes_are_kept(tmp_path: Path) -> None:
    layout = read_graph(written(tmp_path, TRIANGLE))
    assert [router.name for router in layout.routers] == ["Sao-Paulo", "Koln", "node-2"]
    assert layout.routers[0].attributes == {"label": "São Paulo", "Latitude": -23.5}
    first = layout.links[0]
    assert (first.a, first.b, first.weight) == ("Sao-Paulo", "Koln", 7)
    assert first.attributes["LinkSpeedRaw"] == 10_000_000_000
    assert layout.links[1].weight == 1


def test_a_file_of_another_encoding_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "old.gml"
    path.write_bytes(TRIANGLE.encode("latin-1"))
    assert [router.name for router in read_graph(path).routers] == ["Sao-Paulo", "Koln", "node-2"]


def test_the_second_of_a_name_is_numbered_and_nobody_loses_its_own() -> None:
    labels = [("A", "0"), ("A", "1"), ("A-2", "2"), ("", "7"), ("?", "8"), ("A!", "9"), ("None", "10")]
    assert unique_names(labels) == ["A", "A-3", "A-2", "node-7", "node-8", "A-4", "None"]
    long = unique_names([("x" * 100, "0"), ("x" * 100, "1")])
    assert len(set(long)) == 2
    assert all(len(name) < 64 for name in long)


@pytest.mark.parametrize("suffix", ["gml", "graphml"])
def test_what_networkx_writes_is_read(tmp_path: Path, suffix: str) -> None:
    graph = nx.relabel_nodes(nx.petersen_graph(), {number: f"r{number + 1}x" for number in range(10)})
    nx.set_edge_attributes(graph, 3, "weight")
    path = tmp_path / f"petersen.{suffix}"
    (nx.write_gml if suffix == "gml" else nx.write_graphml)(graph, path)
    layout = read_graph(path)
    assert {frozenset((link.a, link.b)) for link in layout.links} == set(map(frozenset, graph.edges))
    assert {link.weight for link in layout.links} == {3}


EDGES = {
    "parallel": "edge [ source 0 target 1 ]",
    "loop": "edge [ source 2 target 2 ]",
    "island": 'node [ id 3 label "Malta" ]',
}


@pytest.mark.parametrize(
    ("more", "said", "option", "links"),
    [
        ("parallel", "'Sao-Paulo' and 'Koln' are linked more than once", {"parallel": "keep"}, 4),
        ("parallel", "parallel='keep'", {"parallel": "merge"}, 3),
        ("loop", "node 'node-2' is linked to itself", {"self_loops": "drop"}, 3),
        ("island", "it is not connected.*'Malta' is not in the largest", {"disconnected": "keep"}, 3),
        ("island", "2 parts", {"disconnected": "largest"}, 3),
    ],
)
def test_a_graph_that_is_no_lab_is_named_unless_it_was_allowed(
    tmp_path: Path, more: str, said: str, option: dict[str, Any], links: int
) -> None:
    path = written(tmp_path, TRIANGLE.replace("]\n]\n", f"]\n  {EDGES[more]}\n]\n"))
    with pytest.raises(vnet.GraphError, match=said) as refused:
        read_graph(path)
    assert refused.value.file == str(path)
    assert str(refused.value).startswith(f"{path}: ")
    layout = read_graph(path, **option)
    assert len(layout.links) == links
    assert [router.name for router in layout.routers[3:]] == (["Malta"] if option == {"disconnected": "keep"} else [])


def test_of_merged_links_the_least_weight_counts(tmp_path: Path) -> None:
    text = TRIANGLE.replace("]\n]\n", "]\n  edge [ source 1 target 0 weight 3 ]\n]\n")
    first = read_graph(written(tmp_path, text), parallel="merge").links[0]
    assert (first.weight, first.attributes["LinkSpeedRaw"]) == (3, 10_000_000_000)


def test_a_directed_graph_has_one_link_for_two_ways() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")])
    assert [(link.a, link.b) for link in from_networkx(graph).links] == [("a", "b"), ("b", "c"), ("c", "a")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.gml", "", "no GML"),
        ("a.gml", "graph [", "no GML"),
        ("a.gml", "graph [ node [ id 0 ] node [ id 0 ] ]", "no GML.*duplicated"),
        ("a.gml", "graph [ node [ id 0 ] edge [ source 0 target 9 ] ]", "no GML.*9"),
        ("a.gml", "graph [ ]", "no nodes"),
        ("a.gml", TRIANGLE.replace("weight 7", "weight 0"), "the weight of 'Sao-Paulo' to 'Koln'.*not 0"),
        ("a.gml", TRIANGLE.replace("weight 7", 'weight "heavy"'), "not 'heavy'"),
        ("a.gml", TRIANGLE.replace("weight 7", "weight 1.5"), "not 1.5"),
        ("a.graphml", "", "no GraphML"),
        ("a.graphml", "<graphml><graph>", "no GraphML"),
        ("a.graphml", '<!DOCTYPE x [<!ENTITY a "a">]><graphml/>', "entities"),
        ("a.txt", TRIANGLE, r"ends in \.gml or \.graphml"),
        ("a", TRIANGLE, r"ends in \.gml or \.graphml"),
    ],
)
def test_a_file_that_is_no_graph_is_refused_in_a_sentence(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(vnet.GraphError, match=said) as refused:
        read_graph(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vnet.GraphError, match="No such file"):
        read_graph(tmp_path / "nowhere.gml")
    (tmp_path / "directory.gml").mkdir()
    with pytest.raises(vnet.GraphError, match="directory"):
        read_graph(tmp_path / "directory.gml")


@pytest.mark.skipif(not ZOO.is_dir(), reason="shared/data/topology-zoo is not there")
@pytest.mark.parametrize("name", ["AttMpls", "Bellsouth", "Geant2012"])
def test_backbones_of_real_operators_are_read_whole(name: str) -> None:
    plain = nx.read_gml(ZOO / f"{name}.gml", label="id")
    layout = read_graph(ZOO / f"{name}.gml")
    graph = layout.graph()
    assert nx.is_isomorphic(nx.Graph(graph), plain)
    assert len(layout.links) == plain.number_of_edges()
    # In the order of the file, with what it says of each.
    assert [dict(router.attributes) for router in layout.routers] == [said for _, said in plain.nodes(data=True)]
