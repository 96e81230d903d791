"""Pictures: everything is in them, nothing stands on anything else, and text fits where it stands."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from graphs import flat, generated, routed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples

from vnet.errors import MachineLacks
from vnet.graph import Graph, Network, Node, Port, Wire, from_lab, render
from vnet.graph.drawing import draw
from vnet.graph.look import DARK, LIGHT
from vnet.graph.scene import Box, Path, Scene, Text
from vnet.lab.source import load, shipped_labs

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: bytes) -> list[str]:
    """What can be read and selected in an SVG picture."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", shipped_labs())
def test_a_shipped_lab_s_picture_has_all_its_names_and_addresses(name: str) -> None:
    lab = load(name)
    said = texts(render(from_lab(lab), "svg", everything=True))
    for network in lab.networks.values():
        assert network.name in said
        assert ", ".join(map(str, network.prefixes)) in said
    assert not {node.name for node in lab.nodes.values()} - set(said)
    # Those on links are for `vnet link` to tell.
    nics = (nic for node in lab.nodes.values() for nic in node.joined)
    assert not {str(address) for nic in nics for address in nic.addresses} - set(said)


def test_impairments_and_cut_links_are_in_the_picture() -> None:
    said = texts(render(routed(), "svg"))
    for words in ("5 ms ±1 ms", "loss 0.1%", "100 Mbit/s", "cut", "10.1.0.80", "fd00:1::1"):
        assert words in said


def test_each_thing_says_what_it_is_to_a_pointer_and_to_a_reader() -> None:
    picture = ElementTree.fromstring(render(routed(), "svg"))
    titles = [element.text for element in picture.iter(f"{SVG}title")]
    assert titles[0] == "routed: 3 networks · 4 nodes · 2 routers"
    assert any(title and title.startswith("hub, router\nnet-0: 10.0.0.1 fd00:1::1") for title in titles)
    description = picture.find(f"{SVG}desc")
    assert description is not None
    assert "Router edge joins net-0, net-1." in (description.text or "")


def test_names_that_mean_something_in_xml_are_shown_as_they_are() -> None:
    name = "<b>&\"'</title>"
    graph = Graph(name, (Network(name, ("10.0.0.0/8",)),), (Node(name, "host", (Port(name, (name,)),)),))
    assert texts(render(graph, "svg")).count(name) == 4


def test_what_is_down_is_told_from_what_is_up() -> None:
    graph = generated(3, down=frozenset({2}))
    cards = {shape.role for group in draw(graph).groups for shape in group.shapes if "host-2" in group.title}
    others = {shape.role for group in draw(graph).groups for shape in group.shapes if "host-3" in group.title}
    assert {"card-down", "ink-down"} <= cards
    assert not {"card-down", "ink-down"} & others
    assert "live, 1 down" in draw(graph).title


def test_every_role_has_a_look_on_light_and_on_dark_ground() -> None:
    assert LIGHT.keys() == DARK.keys()
    svg = render(routed(), "svg").decode()
    dark = svg[svg.index("prefers-color-scheme: dark") : svg.index("</style>")]
    used = {word for element in ElementTree.fromstring(svg).iter() for word in element.get("class", "").split()}
    assert all(f".{role} {{" in dark for role in used - {"mono"})


def test_a_picture_is_the_same_every_time() -> None:
    assert render(routed(9), "svg") == render(routed(9), "svg")
    assert render(routed(9), "png") == render(routed(9), "png")


# Where things stand


def things(scene: Scene) -> tuple[list[Box], list[Box]]:
    """The boxes of networks, and the cards: of a run the front one."""
    boxes = [s for group in scene.groups for s in group.shapes if isinstance(s, Box)]
    networks = [box for box in boxes if box.role == "network"]
    cards = []
    for group in scene.groups:
        mine = [s for s in group.shapes if isinstance(s, Box) and s.role in ("card", "card-down")]
        cards += mine[-1:] if group.title else []
    return networks, cards


def apart(a: Box, b: Box) -> bool:
    return (
        a.x + a.width <= b.x + 0.01
        or b.x + b.width <= a.x + 0.01
        or a.y + a.height <= b.y + 0.01
        or b.y + b.height <= a.y + 0.01
    )


def within(inner: Box, outer: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width + 0.01
        and inner.y + inner.height <= outer.y + outer.height + 0.01
    )


def check_places(graph: Graph) -> None:
    scene = draw(graph)
    networks, cards = things(scene)
    assert len(networks) == len(graph.networks)
    assert len(cards) == len(graph.nodes)
    paper = Box("paper", 0, 0, scene.width, scene.height)
    assert all(within(box, paper) for box in [*networks, *cards])
    assert all(apart(a, b) for a, b in combinations(networks, 2))
    inside = {id(card): network for card in cards for network in networks if within(card, network)}
    assert len(inside) == sum(not node.joins for node in graph.nodes)
    for a, b in combinations(cards, 2):
        assert apart(a, b)
    for card in cards:
        assert id(card) in inside or all(apart(card, network) for network in networks)
    for shape in (s for group in scene.groups for s in group.shapes):
        if isinstance(shape, Path):
            assert all(-0.01 <= x <= scene.width and -0.01 <= y <= scene.height for x, y in shape.points)
            # Points of a Bézier curve lie among its control points; straight stretches have theirs at their ends.
            if shape.role.startswith("edge"):
                for a, b in pairwise(shape.points[::3]):
                    assert a[0] != b[0] or not any(
                        box.x < a[0] < box.x + box.width
                        and min(a[1], b[1]) < box.y + box.height - 0.01
                        and box.y + 0.01 < max(a[1], b[1])
                        for box in networks
                    )
        elif isinstance(shape, Text):
            assert 0 <= shape.x <= scene.width
            assert 0 <= shape.y <= scene.height


ADDRESSES = ("fd00::1:2:3:4:5", "10.0.0.1", "10.0.0.2", "10.0.0.3")
WIRES = ("", "5 ms", "5 ms ±1 ms, loss 0.1%, 100 Mbit/s, duplicate 1%, reorder 25% 50%")

names = st.text("abcWM.-_0", min_size=1, max_size=64)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(0, 9))
    networks = [
        Network(f"{draw(names)}{n}"[-64:], (f"10.{n}.0.0/16",)[: draw(st.integers(1, 1))]) for n in range(count)
    ]
    networks = list({network.name: network for network in networks}.values())
    nodes: dict[str, Node] = {}
    for number in range(draw(st.integers(0, 24)) if networks else 0):
        name = f"{draw(names)}{number}"[-64:]
        kind = draw(st.sampled_from(["host", "process", "router", "netns", "strange"]))
        many = draw(st.integers(0, len(networks))) if kind == "router" else draw(st.sampled_from([1, 1, 1, 2]))
        ports = [
            Port(
                network.name,
                ("fd00::1:2:3:4:5", "10.0.0.1", "10.0.0.2", "10.0.0.3")[: draw(st.integers(0, 4))],
                draw(st.sampled_from(["", "5 ms", "5 ms ±1 ms, loss 0.1%, 100 Mbit/s, duplicate 1%, reorder 25% 50%"])),
            )
            for network in draw(st.permutations(networks))[:many]
        ]
        nodes[name] = Node(name, kind, tuple(ports), draw(st.sampled_from([None, "up", "down"])))
    joints = [node.name for node in nodes.values() if node.joins]
    wires = []
    if len(joints) > 1:
        for _ in range(draw(st.integers(0, 6))):
            a, b = draw(st.lists(st.sampled_from(joints), min_size=2, max_size=2, unique=True))
            wires.append(Wire((a, b), draw(st.sampled_from(["", "5 ms"])), draw(st.booleans())))
    return Graph("any", tuple(networks), tuple(nodes.values()), tuple(wires))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_nothing_stands_on_anything_else_nor_beside_the_paper(graph: Graph) -> None:
    check_places(graph)


@pytest.mark.parametrize(
    "graph", [flat(5), flat(50), flat(200), flat(0), routed(), routed(40)], ids=lambda g: str(g.total)
)
def test_usual_pictures_are_in_order_too(graph: Graph) -> None:
    check_places(graph)


def test_two_hundred_nodes_fit_a_sheet_that_one_reads() -> None:
    scene = draw(flat(200))
    # At 96 pixels to the inch, less than an A2 sheet, in letters of 10 pixels and more.
    assert scene.width < 2245
    assert scene.height < 1587
    assert min(s.size for group in scene.groups for s in group.shapes if isinstance(s, Text)) >= 10


@pytest.mark.parametrize("graph", [routed(12), flat(30), generated(2000)], ids=["routed", "flat", "generated"])
def test_text_fits_its_room_in_a_real_font(graph: Graph) -> None:
    fonts = pytest.importorskip("PIL.ImageFont", reason="Pillow is missing: pip install 'vnet[graph]'")
    measured = 0
    for shape in (s for group in draw(graph).groups for s in group.shapes if isinstance(s, Text) and s.room):
        name = "DejaVuSansMono" if shape.mono else "DejaVuSans"
        font = fonts.truetype(f"{name}{'-Bold' if shape.bold else ''}.ttf", 100)
        assert font.getlength(shape.text) * shape.size / 100 <= shape.room + 0.5, shape
        measured += 1
    assert measured > 10


# Summaries


def shown(graph: Graph) -> list[str]:
    return texts(render(graph, "svg"))


def test_a_thousand_generated_hosts_are_one_card() -> None:
    said = shown(generated(1000))
    assert "host-1 … host-1000" in said
    assert "10.0.0.1 … 10.0.3.232" in said
    assert "×1,000" in said
    assert "1 network · 1,000 nodes · live, all up" in said
    assert len(said) < 20


def test_all_are_shown_on_request_and_where_there_are_few() -> None:
    assert "host-500" in texts(render(generated(1000), "svg", everything=True))
    assert "host-100" in shown(generated(200))


def test_a_run_ends_where_a_state_or_an_address_is_out_of_order() -> None:
    # Nodes 400 to 402 are down; 700 does not exist, so neither does its address.
    said = shown(generated(1000, down=frozenset({400, 401, 402}), skipped=frozenset({700})))
    for words in ("host-1 … host-399", "host-400", "host-402", "host-403 … host-699", "host-701 … host-1000"):
        assert words in said
    assert "host-700" not in " ".join(said)


# PNG


def test_png_looks_as_the_svg_does() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is missing: pip install 'vnet[graph]'")
    chops = pytest.importorskip("PIL.ImageChops")
    stat = pytest.importorskip("PIL.ImageStat")
    if shutil.which("rsvg-convert") is None:
        pytest.skip("rsvg-convert is missing: apt-get install librsvg2-bin")
    for graph in (routed(), flat(50), generated(1000)):
        drawn = subprocess.run(["rsvg-convert"], input=render(graph, "svg"), capture_output=True, check=True).stdout
        theirs = image.open(io.BytesIO(drawn)).convert("RGB")
        ours = image.open(io.BytesIO(render(graph, "png"))).resize(theirs.size, image.Resampling.BOX)
        difference = stat.Stat(chops.difference(ours, theirs).convert("L")).mean[0]
        blank = stat.Stat(chops.difference(image.new("RGB", theirs.size, "white"), theirs).convert("L")).mean[0]
        # Of 255; edges of letters differ by a shade, and without the drawing it would be `blank`.
        assert difference < 3
        assert difference < blank / 2


def test_a_huge_picture_is_drawn_smaller_and_not_refused() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is missing: pip install 'vnet[graph]'")
    picture = image.open(io.BytesIO(render(flat(3000), "png", everything=True)))
    assert picture.width * picture.height <= 61_000_000
    assert picture.width > 5000


def test_without_pillow_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MachineLacks, match=r"pip install 'vnet\[graph\]'"):
        render(flat(1), "png")
