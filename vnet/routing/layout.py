"""Routers and links as a graph file or a generator gives them: names and numbers, and nothing of a LAN yet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Layout", "LinkSketch", "RouterSketch", "unique_names"]

# A router's name may have 64 signs (vnet/runtime.py), and its NICs and hosts have more in theirs.
_LONGEST = 40


@dataclass(frozen=True)
class RouterSketch:
    """A router to be.

    Attributes:
        name: unique in its layout, and such as a router can have.
        hosts: whether it is one that hosts are at; in a fat tree only those at its edge are.
        attributes: what the file says of it, such as ``Latitude``, ``Longitude`` and ``label``.
    """

    name: str
    hosts: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkSketch:
    """A link to be.

    Attributes:
        a: the name of a router.
        b: that of another.
        weight: what crossing it costs.
        attributes: what the file says of it, such as ``LinkSpeedRaw``.
    """

    a: str
    b: str
    weight: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Routers and links, connected.

    Attributes:
        routers: in the order of the file, or as generated.
        links: likewise.
        attributes: what the file says of the whole.
    """

    routers: tuple[RouterSketch, ...]
    links: tuple[LinkSketch, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def graph(self) -> Any:
        """Returns it as a :class:`networkx.MultiGraph`: names, and edges with a ``weight``."""
        import networkx

        graph = networkx.MultiGraph(**self.attributes)
        for router in self.routers:
            graph.add_node(router.name, **router.attributes)
        for link in self.links:
            graph.add_edge(link.a, link.b, **{**link.attributes, "weight": link.weight})
        return graph


def unique_names(labels: Iterable[tuple[str, str]]) -> list[str]:
    """Returns a name for each label, made of it, no two the same.

    Letters lose their accents, and runs of what a name cannot have become a hyphen: ``São Paulo`` is ``Sao-Paulo``.
    Without a label a node is called ``node-`` and its id.  The second of a name is ``NAME-2``.

    Arguments:
        labels: label and id of each node, in order.
    """
    names: list[str] = []
    taken: set[str] = set()
    plain = [_plain(label) or _plain(f"node-{number}") or "node" for label, number in labels]
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
