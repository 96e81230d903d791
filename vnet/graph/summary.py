"""A thousand generated nodes as a handful: ``host-1`` to ``host-1000`` are one card."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from vnet.graph.model import Graph, Node

__all__ = ["MANY", "summarised"]

# Nodes up to which a picture shows each; what a large sheet or screen holds.
MANY = 250
# Nodes that a run has at least; fewer are as well shown one by one.
_RUN = 8

_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")


def summarised(graph: Graph) -> Graph:
    """The graph with every long run of numbered nodes as one.

    A run is of nodes that follow each other in the lab, differ in the number at the end of their names and in their
    addresses, and have both one after the other without a gap: so what is not named in the picture follows from it.
    """
    nodes: list[Node] = []
    for run in _runs(graph.nodes):
        if len(run) < _RUN:
            nodes += run
        else:
            nodes.append(replace(run[0], count=len(run), last=run[-1]))
    return replace(graph, nodes=tuple(nodes))


def _runs(nodes: tuple[Node, ...]) -> Iterator[list[Node]]:
    run: list[Node] = []
    for node in nodes:
        if run and not _follows(run[-1], node):
            yield run
            run = []
        run.append(node)
    if run:
        yield run


def _follows(before: Node, after: Node) -> bool:
    first, second = _NUMBERED.fullmatch(before.name), _NUMBERED.fullmatch(after.name)
    if first is None or second is None or before.joins or after.joins:
        return False
    if (first[1], int(first[2]) + 1) != (second[1], int(second[2])):
        return False
    if (before.kind, before.state) != (after.kind, after.state):
        return False
    one, other = before.ports[0], after.ports[0]
    if (one.network, one.wire, len(one.addresses)) != (other.network, other.wire, len(other.addresses)):
        return False
    return all(_next(a, b) for a, b in zip(one.addresses, other.addresses, strict=True))


def _next(one: str, other: str) -> bool:
    a, b = ip_address(one), ip_address(other)
    return a.version == b.version and int(a) + 1 == int(b)
