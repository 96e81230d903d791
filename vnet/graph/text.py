"""A LAN as text: a tree for people, and the languages of Graphviz and Mermaid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vnet.graph.look import KINDS, LIGHT, kind_role
from vnet.graph.model import LARGEST_MTU, Graph, Network, Node, Port

__all__ = ["to_dot", "to_json", "to_mermaid", "to_tree"]


def to_tree(graph: Graph) -> str:
    """Networks and what is on each, one node a line, for a terminal."""
    lines = [graph.name]
    inside = graph.inside()
    joints = [node for node in graph.nodes if node.joins]
    blocks: list[tuple[str, list[tuple[str, ...]]]] = []
    for network in graph.networks:
        rows = [_row(node, node.ports[0]) for node in inside[network.name]]
        rows += [_row(node, port) for node in joints for port in node.ports if port.network == network.name]
        blocks.append((_network_line(network), rows))
    loose: list[tuple[str, ...]] = [(node.name, node.kind, node.state or "") for node in joints if not node.ports]
    if loose:
        blocks.append(("on no network", loose))
    if graph.wires:
        wires = [(f"{w.ends[0]} — {w.ends[1]}", "", "cut" if w.cut else "", w.label) for w in graph.wires]
        blocks.append(("links", [*wires]))
    # Name, kind and state stand in columns, as far as there are any.
    widths = [max((len(row[i]) for _, rows in blocks for row in rows), default=0) for i in range(3)]
    for number, (head, rows) in enumerate(blocks):
        last = number == len(blocks) - 1
        lines.append(f"{'└' if last else '├'}─ {head}")
        for index, row in enumerate(rows):
            columns = [f"{text:<{min(wide, 48)}}" for text, wide in zip(row, widths, strict=False) if wide]
            words = "  ".join([*columns, *filter(None, row[3:])]).rstrip()
            lines.append(f"{'   ' if last else '│  '}{'└' if index == len(rows) - 1 else '├'}─ {words}")
    return "\n".join(lines) + "\n"


def _network_line(network: Network) -> str:
    mtu = f"  MTU {network.mtu}" if network.mtu != LARGEST_MTU else ""
    return f"{network.name}  {' '.join(network.prefixes)}{mtu}"


def _row(node: Node, port: Port) -> tuple[str, ...]:
    return _name(node), node.kind, node.state or "", "  ".join(_addresses(node, port)), port.wire


def _name(node: Node) -> str:
    return f"{node.name} … {node.last.name} ({node.count:,})" if node.last is not None else node.name


def _addresses(node: Node, port: Port) -> list[str]:
    if node.last is None:
        return list(port.addresses)
    return [f"{a} … {b}" for a, b in zip(port.addresses, node.last.ports[0].addresses, strict=True)]


def to_dot(graph: Graph) -> str:
    """The graph in the language of Graphviz: each network is a point that its nodes are joined to."""
    lines = [
        f"graph {_dot(graph.name)} {{",
        # Names, not positions: whoever lays it out may choose another engine.
        '  graph [layout=sfdp, overlap=prism, splines=true, outputorder=edgesfirst, fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=11];',
        '  edge [color="#6a7889", fontname="sans-serif", fontsize=10];',
    ]
    for network in graph.networks:
        label = "\n".join([network.name, *network.prefixes])
        if network.mtu != LARGEST_MTU:
            label += f"\nMTU {network.mtu}"
        lines.append(f'  {_dot("network " + network.name)} [label={_dot(label)}, shape=oval, fillcolor="#dfe9f8"];')
    for node in graph.nodes:
        lines.append(f"  {_dot('node ' + node.name)} [{', '.join(_dot_node(node))}];")
        for port in node.ports:
            label = "\n".join([*(port.addresses if node.joins else ()), *([port.wire] if port.wire else [])])
            about = f" [label={_dot(label)}]" if label else ""
            lines.append(f"  {_dot('node ' + node.name)} -- {_dot('network ' + port.network)}{about};")
    for wire in graph.wires:
        a, b = (_dot("node " + end) for end in wire.ends)
        style = ", style=dashed" if wire.cut else ""
        lines.append(f"  {a} -- {b} [label={_dot(wire.label)}{style}];")
    return "\n".join([*lines, "}", ""])


def _dot_node(node: Node) -> Iterator[str]:
    addresses = [] if node.joins else _addresses(node, node.ports[0])
    yield f"label={_dot(chr(10).join([_name(node), *addresses]))}"
    yield f"tooltip={_dot(node.kind + (', ' + node.state if node.state else ''))}"
    if node.state == "down":
        yield f'style="rounded,dashed", color={_dot(LIGHT["line-down"].stroke)}'
        yield f"fontcolor={_dot(LIGHT['ink-down'].fill)}"
    else:
        yield f"color={_dot(LIGHT[kind_role(node.kind)].stroke)}"


def _dot(text: str) -> str:
    """A quoted string of the DOT language, where the backslash begins escapes in labels."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart: each network is a box around its nodes."""
    networks = {network.name: f"net{number}" for number, network in enumerate(graph.networks)}
    nodes = {node.name: f"n{number}" for number, node in enumerate(graph.nodes)}
    inside = graph.inside()
    lines = ["flowchart TB"]
    for network in graph.networks:
        mtu = [f"MTU {network.mtu}"] if network.mtu != LARGEST_MTU else []
        lines.append(f"  subgraph {networks[network.name]}[{_mermaid([network.name, *network.prefixes, *mtu])}]")
        # An empty subgraph would be drawn as a node of that name.
        for node in inside[network.name]:
            words = [_name(node), *_addresses(node, node.ports[0]), *filter(None, [node.ports[0].wire])]
            lines.append(f"    {nodes[node.name]}[{_mermaid(words)}]")
        if not inside[network.name]:
            lines.append(f"    {networks[network.name]}_empty[{_mermaid(['no nodes'])}]")
        lines.append("  end")
    for node in graph.nodes:
        if node.joins:
            lines.append(f"  {nodes[node.name]}([{_mermaid([node.name])}])")
            for port in node.ports:
                words = [*port.addresses, *filter(None, [port.wire])]
                lines.append(f"  {nodes[node.name]} ---{_mermaid_label(words)} {networks[port.network]}")
    for wire in graph.wires:
        a, b = (nodes[end] for end in wire.ends)
        lines.append(f"  {a} {'-.-' if wire.cut else '---'}{_mermaid_label([wire.label])} {b}")
    lines += _mermaid_classes(graph, nodes)
    return "\n".join(lines) + "\n"


def _mermaid_classes(graph: Graph, nodes: dict[str, str]) -> Iterator[str]:
    for kind in KINDS:
        those = [nodes[node.name] for node in graph.nodes if node.kind == kind and node.state != "down"]
        if those:
            yield f"  classDef {kind} stroke:{LIGHT[kind_role(kind)].stroke}"
            yield f"  class {','.join(those)} {kind}"
    down = [nodes[node.name] for node in graph.nodes if node.state == "down"]
    if down:
        yield f"  classDef down stroke-dasharray:4 3,color:{LIGHT['ink-down'].fill}"
        yield f"  class {','.join(down)} down"


def _mermaid(words: Sequence[str]) -> str:
    return '"' + "<br/>".join(map(_mermaid_text, words)) + '"'


def _mermaid_label(words: Sequence[str]) -> str:
    return f"|{_mermaid(words)}|" if any(words) else ""


def _mermaid_text(text: str) -> str:
    for sign, entity in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(sign, entity) if sign != "#" else text.replace("#", "\0")
    return text.replace("\0", "#35;")


def to_json(graph: Graph) -> str:
    """The graph as data."""
    import json

    plain = {
        "format": 1,
        "name": graph.name,
        "live": graph.live,
        "file": graph.source or None,
        "networks": [
            {"name": network.name, "prefixes": list(network.prefixes), "mtu": network.mtu} for network in graph.networks
        ],
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "state": node.state,
                "ports": [
                    {"network": port.network, "addresses": list(port.addresses), "wire": port.wire or None}
                    for port in node.ports
                ],
            }
            for node in graph.nodes
        ],
        "links": [{"ends": list(wire.ends), "does": wire.label or None, "cut": wire.cut} for wire in graph.wires],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
