"""Routers and links as graphs of networkx, out of GML and GraphML files as the Internet Topology Zoo has them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import GraphError
from .model import MAX_WEIGHT

__all__ = ["Disconnected", "Parallel", "SelfLoops", "read", "tidy", "unique_names"]

# Bytes of the largest file that is read; the largest of the zoo has 200 KB.
_LARGEST = 64 << 20
_FORMATS = (".gml", ".graphml")
# A router's name may have 64 signs (vnet/runtime.py), and its NICs and hosts have more in theirs.
_LONGEST = 40

Parallel = Literal["error", "keep", "merge"]
SelfLoops = Literal["error", "drop"]
Disconnected = Literal["error", "keep", "largest"]


def read(
    path: str | os.PathLike[str],
    *,
    parallel: Parallel = "error",
    self_loops: SelfLoops = "error",
    disconnected: Disconnected = "keep",
) -> Any:
    """Reads routers and links from a GML or GraphML file.

    Nodes are called as their labels say (``label``, or ``name``), in signs that a router's name can have: letters lose
    their accents, and runs of other signs become a hyphen, so ``São Paulo`` is ``Sao-Paulo``.  Of nodes with one name
    the second is ``NAME-2``; those without a label are ``node-ID``.  Edges have the ``weight`` that the file gives
    them, or 1.  Directed edges are links in both directions, and two in opposite directions are one link.  All
    attributes are kept.

    Arguments:
        path: the file, ``.gml`` or ``.graphml``.
        parallel: what becomes of several edges between two nodes: a mistake; or ``keep`` makes each a link, and
            ``merge`` makes one of them, the first, with the least weight.
        self_loops: what becomes of an edge from a node to itself: a mistake, or ``drop``.
        disconnected: what becomes of a graph in several parts: a mistake; or ``keep`` it, or only the ``largest`` part.

    Returns:
        A :class:`networkx.MultiGraph`.

    Raises:
        GraphError: the file cannot be read, is not what it should be, or has one of these mistakes.
    """
    where = os.fspath(path)
    suffix = Path(where).suffix.lower()
    if suffix not in _FORMATS:
        raise GraphError(where, f"a graph file's name ends in .gml or .graphml, not in {suffix or 'neither'!r}")
    try:
        with open(where, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise GraphError(where, f"it cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise GraphError(where, f"it has more than {_LARGEST >> 20} MiB")
    graph = _gml(where, data) if suffix == ".gml" else _graphml(where, data)
    return tidy(graph, where, parallel=parallel, self_loops=self_loops, disconnected=disconnected)


def tidy(
    graph: Any,
    name: str = "the graph",
    *,
    parallel: Parallel = "error",
    self_loops: SelfLoops = "error",
    disconnected: Disconnected = "keep",
) -> Any:
    """Makes of any graph of networkx one whose nodes can be routers, as :func:`read` does; errors as there.

    Arguments:
        graph: the graph; it is not changed.
        name: what it is called in errors.
    """
    import networkx

    nodes = list(graph.nodes(data=True))
    if not nodes:
        raise GraphError(name, "it has no nodes")
    names = unique_names((_label(number, said), str(number)) for number, said in nodes)
    called = dict(zip((number for number, _ in nodes), names, strict=True))
    found = networkx.MultiGraph(**graph.graph)
    for number, said in nodes:
        found.add_node(called[number], **said)
    edges = [(called[a], called[b], dict(said)) for a, b, said in graph.edges(data=True)]
    for a, b, said in edges:
        if a == b and self_loops == "error":
            raise GraphError(name, f"node {a!r} is linked to itself; self_loops='drop' leaves such edges out")
        said["weight"] = _weight(name, a, b, said)
    edges = [edge for edge in edges if edge[0] != edge[1]]
    edges = _parallel(name, _one_way_each(edges) if graph.is_directed() else edges, parallel)
    found.add_edges_from(edges)
    parts = sorted(networkx.connected_components(found), key=len, reverse=True)
    if len(parts) > 1 and disconnected == "error":
        outside = next(each for each in found if each not in parts[0])
        raise GraphError(
            name,
            f"it is not connected: it falls into {len(parts)} parts, and {outside!r} is not in the largest; "
            "disconnected='largest' takes that alone, 'keep' takes all",
        )
    if disconnected == "largest":
        found.remove_nodes_from([each for each in found if each not in parts[0]])
    return found


def unique_names(labels: Iterable[tuple[str, str]]) -> list[str]:
    """Returns a name that a router can have for each label, made of it, no two the same; see :func:`read`.

    Arguments:
        labels: label and id of each node, in order.
    """
    names: list[str] = []
    taken: set[str] = set()
    plain = [_plain(label) or _plain(f"node-{number}") for label, number in labels]
    # Names that are there as they stand are not given to others.
    own = set(plain)
    for wanted in plain:
        name, count = wanted, 1
        while name in taken or (count > 1 and name in own):
            count += 1
            name = f"{wanted}-{count}"
        taken.add(name)
        names.append(name)
    return names


def _plain(label: str) -> str:
    letters = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._]+", "-", letters)[:_LONGEST].strip("-._")


def _label(number: Any, said: Mapping[str, Any]) -> str:
    for key in ("label", "name"):
        found = said.get(key)
        # The zoo's ways to say that there is none.
        if found is not None and str(found).strip() not in ("", "None", "NULL"):
            return str(found)
    # Graphs that programs made have names as nodes.
    return number if isinstance(number, str) and not re.fullmatch(r"n?\d+", number) else ""


_Edge = tuple[str, str, dict[str, Any]]


def _one_way_each(edges: list[_Edge]) -> list[_Edge]:
    """Directed edges without those that lead back where another leads."""
    back: Counter[tuple[str, str]] = Counter()
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
            where, f"the weight of {a!r} to {b!r} is {found!r}; expected a whole number, 1 to {MAX_WEIGHT:,}"
        ) from None
    return weight


def _parallel(where: str, edges: list[_Edge], parallel: Parallel) -> list[_Edge]:
    if parallel == "keep":
        return edges
    merged: dict[frozenset[str], _Edge] = {}
    for edge in edges:
        a, b, said = edge
        first = merged.setdefault(frozenset((a, b)), edge)
        if first is edge:
            continue
        if parallel == "error":
            raise GraphError(
                where,
                f"{a!r} and {b!r} are linked more than once; parallel='keep' makes each edge a link, 'merge' makes one "
                "of them",
            )
        first[2]["weight"] = min(first[2]["weight"], said["weight"])
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
    wrong = (xml.etree.ElementTree.ParseError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
    try:
        return networkx.parse_graphml(data, force_multigraph=True)
    except (networkx.NetworkXError, *wrong) as error:
        raise GraphError(where, f"it is no GraphML: {_said(error)}") from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
