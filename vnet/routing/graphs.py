"""Routers and links out of graph files: GML and GraphML, as the Internet Topology Zoo has them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import GraphError
from .layout import Layout, LinkSketch, RouterSketch, unique_names
from .model import MAX_WEIGHT

__all__ = ["from_networkx", "read_graph"]

# Bytes of the largest file that is read; the largest of the zoo has 200 KB.
_LARGEST = 64 << 20
_FORMATS = {".gml": "GML", ".graphml": "GraphML"}

Parallel = Literal["error", "keep", "merge"]
SelfLoops = Literal["error", "drop"]
Disconnected = Literal["error", "keep", "largest"]


def read_graph(
    path: str | os.PathLike[str],
    *,
    parallel: Parallel = "error",
    self_loops: SelfLoops = "error",
    disconnected: Disconnected = "error",
) -> Layout:
    """Reads routers and links from a GML or GraphML file.

    Routers are called as their labels say (``label``, or ``name`` in GraphML); of nodes that have one label, the second
    is ``NAME-2``, and those without are ``node-ID``.  Edges have the weight that their ``weight`` says, or 1.  Directed
    edges are links in both directions, and two in opposite directions are one link.  All attributes are kept.

    Arguments:
        path: the file, ``.gml`` or ``.graphml``.
        parallel: what becomes of several edges between two nodes: a mistake; or ``keep`` makes each a link, and
            ``merge`` makes one of them, the first, with the least weight.
        self_loops: what becomes of an edge from a node to itself: a mistake, or ``drop``.
        disconnected: what becomes of a graph in several parts: a mistake; or ``keep`` it, or keep the ``largest`` part.

    Raises:
        GraphError: the file cannot be read, is not what it should be, or has one of these mistakes.
    """
    where = os.fspath(path)
    suffix = Path(where).suffix.lower()
    if suffix not in _FORMATS:
        raise GraphError(where, f"a graph file ends in .gml or .graphml, not {suffix or 'nothing'!r}")
    try:
        with open(where, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise GraphError(where, f"it cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise GraphError(where, f"it has more than {_LARGEST >> 20} MiB")
    graph = _gml(where, data) if suffix == ".gml" else _graphml(where, data)
    return from_networkx(graph, where, parallel=parallel, self_loops=self_loops, disconnected=disconnected)


def from_networkx(
    graph: Any,
    name: str = "the graph",
    *,
    parallel: Parallel = "error",
    self_loops: SelfLoops = "error",
    disconnected: Disconnected = "error",
) -> Layout:
    """Makes a layout of a graph of networkx; arguments and errors as of :func:`read_graph`.

    Arguments:
        graph: any of networkx's kinds.
        name: what it is called in errors.
    """
    import networkx

    nodes = list(graph.nodes(data=True))
    if not nodes:
        raise GraphError(name, "it has no nodes")
    labels = [(_label(number, said), str(number)) for number, said in nodes]
    names = dict(zip((number for number, _ in nodes), unique_names(labels), strict=True))
    edges = [(a, b, said) for a, b, said in graph.edges(data=True)]
    for a, b, _ in edges:
        if a == b and self_loops == "error":
            raise GraphError(name, f"node {names[a]!r} is linked to itself; self_loops='drop' leaves such edges out")
    edges = [edge for edge in edges if edge[0] != edge[1]]
    if graph.is_directed():
        edges = _one_way_each(edges)
    links = [LinkSketch(names[a], names[b], _weight(name, names[a], names[b], said), said) for a, b, said in edges]
    links = _parallel(name, links, parallel)
    plain = networkx.Graph()
    plain.add_nodes_from(names.values())
    plain.add_edges_from((link.a, link.b) for link in links)
    parts = sorted(networkx.connected_components(plain), key=len, reverse=True)
    kept = set(names.values())
    if len(parts) > 1 and disconnected == "error":
        outside = next(each for each in names.values() if each not in parts[0])
        raise GraphError(
            name,
            f"it is not connected: it falls into {len(parts)} parts, and {outside!r} is not in the largest; "
            "disconnected='largest' takes that alone, 'keep' takes all",
        )
    if disconnected == "largest":
        kept = parts[0]
    routers = tuple(RouterSketch(names[node], attributes=dict(said)) for node, said in nodes if names[node] in kept)
    return Layout(routers, tuple(link for link in links if link.a in kept), dict(graph.graph))


def _label(number: Any, said: Mapping[str, Any]) -> str:
    for key in ("label", "name"):
        found = said.get(key)
        # The zoo's way to say that there is none.
        if found is not None and str(found).strip() not in ("", "None", "NULL"):
            return str(found)
    # Graphs that programs made have their names as nodes.
    return number if isinstance(number, str) and not re.fullmatch(r"n?\d+", number) else ""


def _one_way_each(edges: list[tuple[Any, Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """Directed edges without those that lead back where another leads."""
    back: Counter[tuple[Any, Any]] = Counter()
    found = []
    for a, b, said in edges:
        if back[b, a]:
            back[b, a] -= 1
            continue
        back[a, b] += 1
        found.append((a, b, said))
    return found


def _weight(where: str, a: str, b: str, said: Mapping[str, Any]) -> int:
    found = said.get("weight", 1)
    try:
        weight = int(found)
        if weight != float(found) or not 1 <= weight <= MAX_WEIGHT:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise GraphError(
            where, f"the weight of {a!r} to {b!r} is a whole number, 1 to {MAX_WEIGHT:,}, not {found!r}"
        ) from None
    return weight


def _parallel(where: str, links: list[LinkSketch], parallel: Parallel) -> list[LinkSketch]:
    if parallel == "keep":
        return links
    merged: dict[frozenset[str], LinkSketch] = {}
    for link in links:
        pair = frozenset((link.a, link.b))
        first = merged.setdefault(pair, link)
        if first is link:
            continue
        if parallel == "error":
            raise GraphError(
                where,
                f"{link.a!r} and {link.b!r} are linked more than once; parallel='keep' makes each edge a link, "
                "'merge' makes one of them",
            )
        merged[pair] = LinkSketch(first.a, first.b, min(first.weight, link.weight), first.attributes)
    return list(merged.values())


def _gml(where: str, data: bytes) -> Any:
    import networkx

    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # networkx takes ASCII and what stands for the rest in HTML; and several edges between two nodes only where the file
    # announces them, which not all do that have them.
    text = text.encode("ascii", "xmlcharrefreplace").decode()
    text = re.sub(r"^(\s*)multigraph\s+\d", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"(^|\s)graph\s*\[", r"\1graph [ multigraph 1", text, count=1)
    try:
        return networkx.parse_gml(text, label="id")
    except (networkx.NetworkXError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise GraphError(where, f"it is no GML: {_said(error)}") from None


def _graphml(where: str, data: bytes) -> Any:
    import xml.etree.ElementTree

    import networkx

    if b"<!ENTITY" in data:
        # A few of them, nested, fill any memory.
        raise GraphError(where, "it is no GraphML: it declares entities")
    try:
        return networkx.parse_graphml(data, force_multigraph=True)
    except (
        networkx.NetworkXError,
        xml.etree.ElementTree.ParseError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise GraphError(where, f"it is no GraphML: {_said(error)}") from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
