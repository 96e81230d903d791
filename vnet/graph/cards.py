"""Nodes as cards, and networks as boxes of cards: what stands on them and how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from vnet.graph.icons import SIZE, icon
from vnet.graph.lettering import cut, width
from vnet.graph.look import SHADES, kind_role
from vnet.graph.model import LARGEST_MTU, Network, Node
from vnet.graph.scene import Box, Group, Path, Shape, Text

__all__ = ["Card", "NetworkBox"]

NAME, SMALL, HEAD = 12.5, 10.5, 14.0
# Lines of addresses that a card shows; of more it shows one less and says how many there are.
_MOST_ADDRESSES = 3
_NARROWEST, _WIDEST = 118.0, 300.0
_EDGE, _LINE = 9.0, 14.0
# Beyond this, what a wire does takes another line.
_WIRE = 150.0
# Between cards, and between cards and the edge of their box.
_GAP, _PAD = 10.0, 14.0
_HEADER = 54.0
# How much wider than high a box is that has the choice.
_ASPECT = 1.5


@dataclass(frozen=True)
class Card:
    """One node: its name, and below it, line by line, its addresses and what its wire does."""

    node: Node
    name: str
    lines: tuple[str, ...]
    wire: tuple[str, ...]

    @classmethod
    def of(cls, node: Node, *, addresses: bool = True) -> Card:
        name, lines = node.name, list(node.ports[0].addresses) if addresses and node.ports else []
        if node.last is not None:
            name = f"{node.name} … {node.last.name}"
            lines = [f"{a} … {b}" for a, b in zip(lines, node.last.ports[0].addresses, strict=True)]
        if len(lines) > _MOST_ADDRESSES:
            lines[_MOST_ADDRESSES - 1 :] = [f"and {len(lines) - _MOST_ADDRESSES + 1} more"]
        wire = tuple(_folded(node.ports[0].wire)) if addresses and node.ports else ()
        return cls(node, name, tuple(lines), wire)

    @property
    def badge(self) -> str:
        """How many nodes it stands for, where that is not one."""
        return f"×{self.node.count:,}" if self.node.count > 1 else ""

    @property
    def width(self) -> float:
        """The width that its text asks for."""
        head = SIZE + 6 + width(self.name, NAME, bold=True)
        head += 8 + width(self.badge, SMALL, bold=True) if self.badge else 0
        rest = [width(line, SMALL, mono=True) for line in self.lines]
        rest += [8 + width(line, SMALL) for line in self.wire]
        return min(max(head, *rest, _NARROWEST - 2 * _EDGE) + 2 * _EDGE, _WIDEST)

    @property
    def height(self) -> float:
        return 2 * _EDGE + SIZE + _LINE * len(self.lines) + (_LINE * len(self.wire) + 5 if self.wire else 0)

    @property
    def title(self) -> str:
        """All of it in words, for a pointer that rests on it."""
        node = self.node
        many = f" to {node.last.name} ({node.count:,} nodes)" if node.last is not None else ""
        words = [f"{node.name}{many}, {node.kind}" + (f", {node.state}" if node.state else "")]
        for port in node.ports:
            addresses = " ".join(port.addresses)
            words.append(f"{port.network}: {addresses}" + (f" ({port.wire})" if port.wire else ""))
        return "\n".join(words)

    def drawn(self, x: float, y: float, w: float, h: float) -> Group:
        """The card at a place and of a size."""
        down = self.node.state == "down"
        shapes: list[Shape] = []
        if self.node.count > 1:
            for depth in (6.0, 3.0):
                shapes.append(Box("card", x + depth, y + depth, w, h, 6))
        shapes.append(Box("card-down" if down else "card", x, y, w, h, 6))
        colour = "line-down" if down else kind_role(self.node.kind)
        shapes += icon(self.node.kind, x + _EDGE, y + _EDGE - 1, colour)
        room = w - 2 * _EDGE
        left, at = room - SIZE - 6, y + _EDGE + 11
        ink = "ink-down" if down else "strong"
        if self.badge:
            left -= width(self.badge, SMALL, bold=True) + 8
            shapes.append(Text(ink, x + w - _EDGE, at, self.badge, SMALL, anchor="end", bold=True))
        name = cut(self.name, left, NAME, bold=True)
        shapes.append(Text(ink, x + _EDGE + SIZE + 6, at, name, NAME, bold=True, room=left))
        ink, at = "ink-down" if down else "plain", y + _EDGE + SIZE
        for line in self.lines:
            at += _LINE
            shapes.append(Text(ink, x + _EDGE, at, cut(line, room, SMALL, mono=True), SMALL, mono=True, room=room))
        if self.wire:
            wires = [cut(line, room - 8, SMALL) for line in self.wire]
            across = max(width(line, SMALL) for line in wires) + 8
            shapes.append(Box("wire", x + _EDGE - 2, at + 6, across, _LINE * len(wires) + 2, 3))
            for number, line in enumerate(wires):
                shapes.append(Text("wire-ink", x + _EDGE + 2, at + 17.5 + _LINE * number, line, SMALL, room=room - 8))
        return Group(tuple(shapes), self.title)


def _folded(wire: str) -> Iterator[str]:
    """What a wire does, in lines that fit on a card."""
    line = ""
    for part in wire.split(", ") if wire else ():
        longer = f"{line}, {part}" if line else part
        if line and width(longer, SMALL) > _WIRE:
            yield line + ","
            longer = part
        line = longer
    if line:
        yield line


class NetworkBox:
    """One network and the nodes that are on it alone.

    Attributes:
        width, height: pixels; :meth:`widen` may make it wider.
    """

    def __init__(self, network: Network, nodes: Sequence[Node], number: int) -> None:
        self.network = network
        self._shade = f"shade-{number % SHADES}"
        self._cards = [Card.of(node) for node in nodes]
        self._card = (
            max((card.width for card in self._cards), default=0.0),
            max((card.height for card in self._cards), default=0.0),
        )
        total = sum(card.node.count for card in self._cards)
        self._count = "no nodes" if not total else "1 node" if total == 1 else f"{total:,} nodes"
        self._about = ", ".join(network.prefixes)
        if network.mtu != LARGEST_MTU:
            self._count = f"MTU {network.mtu} · {self._count}"
        name = min(width(network.name, HEAD, bold=True), 420)
        head = max(name + 24 + width(self._count, SMALL), width(self._about, SMALL, mono=True))
        self._least = head + 2 * _PAD + 6
        self._columns = self._best()
        self._measure()

    def _best(self) -> int:
        """The columns that come nearest to the proportions that read well."""
        cards = len(self._cards)
        w, h = self._card[0] + _GAP, self._card[1] + _GAP

        def off(columns: int) -> float:
            across = columns * w
            return abs(across / (ceil(cards / columns) * h) - _ASPECT)

        return min(range(1, cards + 1), key=off, default=1)

    def _measure(self) -> None:
        across = self._columns * (self._card[0] + _GAP) - _GAP if self._cards else 0.0
        self.width = max(self._least, across + 2 * _PAD)
        self._rows = [
            max(card.height for card in self._cards[start : start + self._columns])
            for start in range(0, len(self._cards), self._columns)
        ]
        self.height = _HEADER + (sum(self._rows) + _GAP * (len(self._rows) - 1) + _PAD if self._rows else 0.0)

    def widen(self, least: float) -> None:
        """Makes the box at least so wide; cards fill what it gains."""
        self._least = max(self._least, least)
        room = int((self._least - 2 * _PAD + _GAP) // (self._card[0] + _GAP)) if self._cards else 1
        self._columns = max(self._columns, min(room, len(self._cards)))
        self._measure()

    def drawn(self, x: float, y: float) -> Iterator[Group]:
        """The box and its cards, with its upper left corner at x, y."""
        room = self.width - 2 * _PAD - 4
        count = width(self._count, SMALL)
        name = cut(self.network.name, room - count - 16, HEAD, bold=True)
        yield Group(
            (
                Box("network", x, y, self.width, self.height, 9),
                Box(self._shade, x + _PAD, y + 13, 4, 30, 2),
                Text("strong", x + _PAD + 12, y + 25, name, HEAD, bold=True, room=room - count - 16),
                Text("faint", x + self.width - _PAD, y + 25, self._count, SMALL, anchor="end"),
                Text("plain", x + _PAD + 12, y + 42, self._about, SMALL, mono=True, room=room),
            ),
            f"network {self.network.name}\n{self._about}\n{self._count}",
        )
        across = (self.width - 2 * _PAD + _GAP) / self._columns - _GAP
        # Cards share what the header needs beyond them, but do not become banners.
        w = min(across, self._card[0] * 1.35) if self._columns > 1 else across
        top = y + _HEADER
        for number, height in enumerate(self._rows):
            for column, card in enumerate(self._cards[number * self._columns : (number + 1) * self._columns]):
                yield card.drawn(x + _PAD + column * (w + _GAP), top, w, height)
            top += height + _GAP


def legend(kinds: Sequence[str], *, live: bool) -> tuple[list[Shape], float]:
    """The signs of the kinds and what they mean, in one line that begins at 0, 0; and its width."""
    shapes: list[Shape] = []
    x = 0.0
    for kind in kinds:
        shapes += icon(kind, x, 0, kind_role(kind))
        shapes.append(Text("faint", x + SIZE + 5, 12, kind, SMALL))
        x += SIZE + 5 + width(kind, SMALL) + 18
    if live:
        shapes.append(Box("card-down", x, 1, 22, 14, 3))
        shapes.append(Text("faint", x + 28, 12, "down: nobody holds the NIC", SMALL))
        x += 28 + width("down: nobody holds the NIC", SMALL) + 18
    return shapes, x


def moved(shapes: Sequence[Shape], dx: float, dy: float) -> list[Shape]:
    """The shapes elsewhere."""
    found: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Box):
            found.append(Box(shape.role, shape.x + dx, shape.y + dy, shape.width, shape.height, shape.radius))
        elif isinstance(shape, Path):
            found.append(Path(shape.role, tuple((x + dx, y + dy) for x, y in shape.points), shape.curved))
        else:
            found.append(
                Text(
                    shape.role,
                    shape.x + dx,
                    shape.y + dy,
                    shape.text,
                    shape.size,
                    shape.anchor,
                    shape.mono,
                    shape.bold,
                    shape.room,
                )
            )
    return found
