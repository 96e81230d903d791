"""A graph in the format that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vnet.graph.model import Graph
from vnet.graph.summary import MANY, summarised

__all__ = ["FORMATS", "SUFFIXES", "render"]

FORMATS = ("text", "svg", "png", "dot", "mermaid", "json")
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        ".svg": "svg",
        ".png": "png",
        ".dot": "dot",
        ".gv": "dot",
        ".mermaid": "mermaid",
        ".mmd": "mermaid",
        ".json": "json",
        ".txt": "text",
    }
)


def render(graph: Graph, form: str, *, everything: bool = False) -> bytes:
    """The graph as a file of the format.

    Args:
        graph: what to show.
        form: one of :data:`FORMATS`.
        everything: show each of more than 250 nodes, too, rather than runs such as host-1 to host-1000 as one.
            JSON has each in any case.

    Raises:
        MachineLacks: Pillow is not installed, and a PNG is wanted.
        ValueError: there is no such format.
    """
    if form == "json":
        from vnet.graph.text import to_json

        return to_json(graph).encode()
    shown = graph if everything or graph.total <= MANY else summarised(graph)
    if form in ("svg", "png"):
        from vnet.graph.drawing import draw

        scene = draw(shown)
        if form == "png":
            from vnet.graph.png import to_png

            return to_png(scene)
        from vnet.graph.svg import to_svg

        return to_svg(scene).encode()
    from vnet.graph import text

    writers = {"text": text.to_tree, "dot": text.to_dot, "mermaid": text.to_mermaid}
    if form not in writers:
        raise ValueError(f"there is no format {form!r}; expected one of {', '.join(FORMATS)}")
    return writers[form](shown).encode()
