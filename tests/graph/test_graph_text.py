"""Graphs as text: the tree, JSON, and what Graphviz makes of our DOT."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from graphs import flat, generated, routed

from vnet.graph import FORMATS, Graph, Network, Node, Port, from_lab, render
from vnet.lab.source import load, shipped_labs

NASTY = ['quo"te', "back\\slash", "new\\nline", "<b>", "a&b;", "{x}", "#1", "[y]", "|", "--", "end"]


def nasty() -> Graph:
    nodes = [Node(name, "host", (Port("net work", (f"10.0.0.{n}",)),)) for n, name in enumerate(NASTY, 1)]
    return Graph('the "lab"', (Network("net work", ("10.0.0.0/24",)),), tuple(nodes))


def graphviz(text: bytes) -> dict[str, object]:
    if shutil.which("dot") is None:
        pytest.skip("dot is missing: apt-get install graphviz")
    # The layout that the file asks for takes a while and is not what is asked here.
    done = subprocess.run(["dot", "-Kdot", "-Tjson"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", shipped_labs())
def test_graphviz_finds_every_node_and_edge(name: str) -> None:
    lab = load(name)
    found = graphviz(render(from_lab(lab), "dot", everything=len(lab.nodes) < 250))
    if len(lab.nodes) < 250:
        objects = {each["name"] for each in found["objects"]}
        assert objects == {f"node {each}" for each in lab.nodes} | {f"network {each}" for each in lab.networks}
        nics = sum(len(node.joined) for node in lab.nodes.values())
        assert len(found["edges"]) == nics + len(lab.links)
    assert found["name"] == lab.name


def test_graphviz_draws_what_we_print_with_the_layout_that_it_asks_for() -> None:
    if shutil.which("dot") is None:
        pytest.skip("dot is missing: apt-get install graphviz")
    done = subprocess.run(["dot", "-Tsvg"], input=render(routed(), "dot"), capture_output=True, check=False)
    assert done.returncode == 0
    assert b"5 ms" in done.stdout
    assert b"net&#45;2" in done.stdout or b"net-2" in done.stdout


def test_names_pass_through_graphviz_unchanged() -> None:
    objects = graphviz(render(nasty(), "dot"))["objects"]
    assert isinstance(objects, list)
    # Graphviz gives strings back as they stood in the file, with its escapes.
    found = {each["name"].replace("\\\\", "\\") for each in objects}
    assert {f"node {name}" for name in NASTY} <= found


def test_mermaid_gets_names_as_text_only() -> None:
    lines = render(nasty(), "mermaid").decode().splitlines()
    assert lines[0] == "flowchart TB"
    for line in lines[1:]:
        # Identifiers of our own, then one quoted text in which nothing can end it.
        assert re.fullmatch(
            r'  (  n\d+\["[^"]*"\]|subgraph net\d+\["[^"]*"\]|end|classDef \w+ [\w:#]+|class [n\d,]+ \w+)', line
        ), line
    assert "quo#quot;te" in "\n".join(lines)


def test_mermaid_draws_routers_and_links() -> None:
    text = render(routed(), "mermaid").decode()
    assert re.search(r'n\d+ ---\|"10\.0\.0\.2<br/>5 ms ±1 ms, loss 0\.1%, 100 Mbit/s"\| net0', text)
    assert re.search(r'n\d+ -\.-\|"?', text) or "-.- " in text


def test_the_tree_has_a_line_for_each_node_with_its_state() -> None:
    lines = render(generated(3, down=frozenset({2})), "text").decode().splitlines()
    assert lines == [
        "generated",
        "└─ lan  10.0.0.0/16",
        "   ├─ host-1  host  up    10.0.0.1",
        "   ├─ host-2  host  down  10.0.0.2",
        "   └─ host-3  host  up    10.0.0.3",
    ]


def test_json_has_every_node_whatever_a_picture_sums_up() -> None:
    found = json.loads(render(generated(1000), "json"))
    assert found["format"] == 1
    assert [node["name"] for node in found["nodes"]] == [f"host-{number}" for number in range(1, 1001)]
    assert json.loads(render(routed(), "json"))["links"][0] == {
        "ends": ["hub", "edge"],
        "does": "5 ms ±1 ms, loss 0.1%, 100 Mbit/s",
        "cut": False,
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_lan_without_anything_on_it_is_drawn_too(form: str) -> None:
    assert render(Graph("empty", (), ()), form)
    assert render(flat(0), form)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no format 'gif'.*svg"):
        render(flat(1), "gif")
