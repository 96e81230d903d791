"""Pictures of a LAN: its networks, nodes, addresses and wires.

The way of a picture through this package::

    model.py      a lab's plan, or what a live base says  →  Graph: what there is to draw
    summary.py    a Graph of a thousand generated nodes   →  one that names each run of them once
    placing.py    a Graph  →  a place for each network and router; order.py ranks them (networkx)
    drawing.py    places   →  Scene: shapes with roles, in pixels; look.py says what each role looks like
    svg.py, png.py         ←  Scene
    text.py                ←  Graph: a tree for terminals, and the languages of Graphviz and Mermaid

:func:`render` is the whole way.
"""

from __future__ import annotations

from vnet.graph.model import Graph, Network, Node, Port, Wire, from_description, from_lab, impairments
from vnet.graph.render import FORMATS, SUFFIXES, render

__all__ = [
    "FORMATS",
    "Graph",
    "Network",
    "Node",
    "Port",
    "SUFFIXES",
    "Wire",
    "from_description",
    "from_lab",
    "impairments",
    "render",
]
