"""From a graph to a scene: boxes, cards and lines at their places, a heading above and a legend below."""

from __future__ import annotations

from collections.abc import Iterator

from vnet.graph.cards import NAME, Card, NetworkBox, legend, moved
from vnet.graph.icons import SIZE
from vnet.graph.lettering import cut, width
from vnet.graph.look import KINDS
from vnet.graph.model import Graph, Node
from vnet.graph.order import Vertex, components
from vnet.graph.placing import LABEL, LABEL_LINE, Edge, Line, Part, Thing, demand, place, shelves
from vnet.graph.scene import Box, Group, Path, Scene, Shape, Text

__all__ = ["draw"]

_MARGIN, _GAP = 28.0, 28.0
_TITLE = 19.0
_HEADING = 62.0
_LEGEND = 40.0
_ASPECT = 1.5


def draw(graph: Graph) -> Scene:
    """The picture of a LAN."""
    boxes = {
        network.name: NetworkBox(network, graph.inside()[network.name], number)
        for number, network in enumerate(graph.networks)
    }
    cards = {node.name: Card.of(node, addresses=False) for node in graph.nodes if node.joins}
    parts = _parts(graph, boxes, cards)
    places, across, down = shelves([(part.width, part.height) for part in parts], _GAP, _ASPECT)
    title = graph.name
    about = _about(graph)
    kinds = [kind for kind in KINDS if any(_kind(node) == kind for node in graph.nodes)]
    signs, signs_width = legend(kinds, live=any(node.state == "down" for node in graph.nodes))
    # Long names are cut to the picture rather than make it wide.
    least = max(360.0, signs_width, width(about, NAME), min(width(title, _TITLE, bold=True), 640.0))
    across = max(across, least)
    scene = Scene(
        width=across + 2 * _MARGIN,
        height=_MARGIN + _HEADING + down + (_LEGEND if signs else 0) + _MARGIN,
        title=f"{title}: {about}",
        description=_description(graph),
    )
    scene.groups.append(
        Group(
            (
                Text(
                    "strong",
                    _MARGIN,
                    _MARGIN + 18,
                    cut(title, across, _TITLE, bold=True),
                    _TITLE,
                    bold=True,
                    room=across,
                ),
                Text("faint", _MARGIN, _MARGIN + 38, cut(about, across, NAME), NAME, room=across),
            )
        )
    )
    for part, (x, y) in zip(parts, places, strict=True):
        scene.groups += _drawn(part, boxes, cards, _MARGIN + x, _MARGIN + _HEADING + y)
    if signs:
        scene.groups.append(Group(tuple(moved(signs, _MARGIN, scene.height - _MARGIN - SIZE))))
    return scene


def _parts(graph: Graph, boxes: dict[str, NetworkBox], cards: dict[str, Card]) -> list[Part]:
    """The connected parts of the picture, each with a place for all that is in it."""
    joints = {node.name: node for node in graph.nodes if node.joins}
    vertices: list[Vertex] = [("network", name) for name in boxes]
    vertices += [("node", name) for name in joints]
    pairs: list[tuple[Vertex, Vertex, tuple[str, ...], tuple[str, ...], bool]] = []
    for node in joints.values():
        for port in node.ports:
            pairs.append((("node", node.name), ("network", port.network), port.addresses, _words(port.wire), False))
    for wire in graph.wires:
        a, b = wire.ends
        pairs.append((("node", a), ("node", b), (), (*_words(wire.label), *(("cut",) if wire.cut else ())), wire.cut))
    found = []
    for layers in components(vertices, [pair[:2] for pair in pairs]):
        depth = {vertex: number for number, layer in enumerate(layers) for vertex in layer}
        things = {vertex: Thing(vertex, *_size(vertex, boxes, cards)) for vertex in depth}
        edges: list[Edge] = []
        for one, other, addresses, words, cut_off in pairs:
            if one not in depth:
                continue
            upper, lower = (one, other) if depth[one] <= depth[other] else (other, one)
            # The label stands at the network, of which the addresses are.
            holder = things[upper if upper[0] == "network" else lower]
            edges.append(Edge(things[upper], things[lower], (*addresses, *words), holder, len(addresses), cut_off))
        _make_room(things, edges, depth, boxes)
        found.append(place([[things[vertex] for vertex in layer] for layer in layers], edges))
    return found


def _words(wire: str) -> tuple[str, ...]:
    return tuple(wire.split(", ")) if wire else ()


def _size(vertex: Vertex, boxes: dict[str, NetworkBox], cards: dict[str, Card]) -> tuple[float, float]:
    kind, name = vertex
    if kind == "network":
        return boxes[name].width, boxes[name].height
    return cards[name].width, cards[name].height


def _make_room(
    things: dict[Vertex, Thing], edges: list[Edge], depth: dict[Vertex, int], boxes: dict[str, NetworkBox]
) -> None:
    """Widens what has more lines at one side than it is wide."""
    for (kind, name), thing in things.items():
        mine = [edge for edge in edges if thing in (edge.upper, edge.lower)]
        # What leads to its own layer may come to lie at either side.
        level = [edge for edge in mine if depth[edge.upper.key] == depth[edge.lower.key]]
        above = [edge for edge in mine if edge.lower is thing and edge not in level]
        below = [edge for edge in mine if edge.upper is thing and edge not in level]
        least = max(demand(thing, [*above, *level]), demand(thing, [*below, *level]))
        if least <= thing.width:
            continue
        if kind == "network":
            boxes[name].widen(least)
            thing.width, thing.height = boxes[name].width, boxes[name].height
        else:
            thing.width = least


def _drawn(part: Part, boxes: dict[str, NetworkBox], cards: dict[str, Card], x: float, y: float) -> Iterator[Group]:
    for line in part.lines:
        points = tuple((px + x, py + y) for px, py in line.points)
        yield Group((Path("edge-cut" if line.edge.cut else "edge", points, curved=True),))
    for thing in part.things:
        kind, name = thing.key
        if kind == "network":
            yield from boxes[name].drawn(x + thing.x, y + thing.y)
        else:
            yield cards[name].drawn(x + thing.x, y + thing.y, thing.width, thing.height)
    for line in part.lines:
        if line.edge.label:
            yield Group(tuple(_label(line, x, y)))


def _label(line: Line, x: float, y: float) -> Iterator[Shape]:
    addresses = line.edge.addresses
    w, h = line.edge.size
    left, top = line.label[0] + x, line.label[1] + y
    wired = len(line.edge.label) > addresses
    yield Box("wire" if wired else "label", left, top, w, h, 4)
    for number, text in enumerate(line.edge.label):
        mono = number < addresses
        role = "wire-ink" if wired else "plain"
        at = top + 2.5 + LABEL_LINE * number + 10
        yield Text(role, left + w / 2, at, text, LABEL, anchor="middle", mono=mono, room=w - 6)


def _kind(node: Node) -> str:
    return node.kind if node.kind in KINDS else KINDS[-1]


def _about(graph: Graph) -> str:
    routers = sum(node.count for node in graph.nodes if node.kind == "router")
    words = [_counted(len(graph.networks), "network"), _counted(graph.total - routers, "node")]
    if routers:
        words.append(_counted(routers, "router"))
    if graph.live:
        down = sum(node.count for node in graph.nodes if node.state == "down")
        words.append("live, " + ("all up" if not down else f"{down:,} down"))
    return " · ".join(words)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _description(graph: Graph) -> str:
    """What the picture shows, in sentences."""
    inside = graph.inside()
    sentences = []
    for network in graph.networks[:40]:
        nodes = sum(node.count for node in inside[network.name])
        sentences.append(f"Network {network.name} ({', '.join(network.prefixes)}) with {_counted(nodes, 'node')}.")
    for node in [node for node in graph.nodes if node.joins][:40]:
        joined = ", ".join(port.network for port in node.ports) or "no network"
        sentences.append(f"{node.kind.capitalize()} {node.name} joins {joined}.")
    return " ".join(sentences) or "A LAN without networks."
