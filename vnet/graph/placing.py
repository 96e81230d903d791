"""Where things stand: layers of boxes and cards, and the lines between them.

Lines only ever run straight down, and from one such stretch to the next in a curve.  They leave a thing at its lower
edge and reach the next at its upper edge; where a layer is too wide and takes several rows, lines to lower rows run
through the gaps between its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vnet.graph.lettering import width
from vnet.graph.order import Vertex
from vnet.graph.scene import Point

__all__ = ["Edge", "Line", "Part", "Thing", "place", "shelves"]

# Between things side by side: room for the lines that run through.
_ASIDE = 36.0
# The height in which lines cross from one stretch to the next: at least, and at most.
_CHANNEL, _DEEPEST = 46.0, 150.0
# Beyond this, or what the area of all asks for, a layer takes several rows, unless one thing alone is wider.
_WIDEST, _ASPECT = 1300.0, 1.4
# Between two lines at one edge without labels; no line begins at a corner.
_PITCH, _CORNER = 14.0, 10.0
LABEL, LABEL_LINE = 10.5, 13.0


@dataclass(eq=False)
class Thing:
    """What lines lead to: a network's box or a node's card.

    Attributes:
        width, height: pixels.
        x, y: its upper left corner, once it has a place.
    """

    key: Vertex
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    # The column that it stands in, where its layer takes several rows: from left to right.
    column: tuple[float, float] = (0.0, 0.0)
    above: list[Edge] = field(default_factory=list)
    below: list[Edge] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(eq=False)
class Edge:
    """A line from ``upper`` to ``lower``, labelled at one of its ends.

    Attributes:
        label: lines of text.
        holder: the end at which the label stands.
        addresses: how many of the lines, from the first on, are addresses.
        cut: whether it carries nothing.
    """

    upper: Thing
    lower: Thing
    label: tuple[str, ...]
    holder: Thing
    addresses: int = 0
    cut: bool = False
    start: float = 0.0
    end: float = 0.0
    # Whether both ends are in one row; then it leaves both at their lower edges.
    beside: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of its label."""
        if not self.label:
            return 0.0, 0.0
        return max(width(line, LABEL, mono=True) for line in self.label) + 10, LABEL_LINE * len(self.label) + 5

    def other(self, thing: Thing) -> Thing:
        """The end that ``thing`` is not."""
        return self.lower if thing is self.upper else self.upper

    def pitch(self, thing: Thing) -> float:
        """The width that it takes at the edge of one of its ends."""
        return max(_PITCH, self.size[0] + 8 if self.label and self.holder is thing and not self.beside else 0.0)


@dataclass(frozen=True)
class Line:
    """An edge that has its place: points of Bézier curves, and the upper left corner of its label."""

    edge: Edge
    points: tuple[Point, ...]
    label: Point


@dataclass
class Part:
    """One connected part of the picture, from 0, 0 to its width and height."""

    things: list[Thing]
    lines: list[Line]
    width: float
    height: float


@dataclass(eq=False)
class _Row:
    """Things side by side, from the top of their labels to the bottom of theirs and of lines that come back up."""

    things: list[Thing]
    top: float = 0.0
    bottom: float = 0.0
    # Where lines between two things of this row turn.
    turns: float = 0.0

    def asides(self) -> list[Edge]:
        """The edges between two things of this row, the shortest first, so that they nest."""
        found = [edge for thing in self.things for edge in thing.below if edge.beside and edge.upper is thing]
        return sorted(found, key=lambda edge: abs(edge.upper.middle - edge.lower.middle))


def place(layers: Sequence[Sequence[Thing]], edges: Sequence[Edge]) -> Part:
    """Gives a place to each thing and line of a connected part; edges lead from a layer to itself or the next."""
    # Rows are as high as the highest thing in them, and lines need room between them.
    area = sum(
        sum(thing.width + _ASIDE for thing in layer) * (max(thing.height for thing in layer) + 3 * _CHANNEL)
        for layer in layers
    )
    wrapped = [_rows(layer, max(_WIDEST, (area * _ASPECT) ** 0.5)) for layer in layers]
    rank = {id(thing): n for n, row in enumerate(row for rows in wrapped for row in rows) for thing in row.things}
    for edge in edges:
        if rank[id(edge.upper)] > rank[id(edge.lower)]:
            edge.upper, edge.lower = edge.lower, edge.upper
        edge.beside = rank[id(edge.upper)] == rank[id(edge.lower)]
        edge.upper.below.append(edge)
        (edge.lower.below if edge.beside else edge.lower.above).append(edge)
    _columns(wrapped)
    for edge in edges:
        edge.start, edge.end = edge.upper.middle, edge.lower.middle
    for layer in layers:
        for thing in layer:
            _attach(thing)
    height = _heights(wrapped)
    lines = list(_lines(wrapped, edges))
    everything = [thing for layer in layers for thing in layer]
    left = min([thing.x for thing in everything] + [line.label[0] for line in lines if line.edge.label])
    right = max(
        [thing.x + thing.width for thing in everything]
        + [line.label[0] + line.edge.size[0] for line in lines if line.edge.label]
        + [x for line in lines for x, _ in line.points]
    )
    left = min([left] + [x for line in lines for x, _ in line.points])
    for thing in everything:
        thing.x -= left
    moved = [
        Line(line.edge, tuple((x - left, y) for x, y in line.points), (line.label[0] - left, line.label[1]))
        for line in lines
    ]
    return Part(everything, moved, right - left, height)


def demand(thing: Thing, edges: Sequence[Edge]) -> float:
    """The width that a thing must have for lines at one of its sides."""
    return 2 * _CORNER + sum(edge.pitch(thing) for edge in edges)


def _rows(layer: Sequence[Thing], widest: float) -> list[_Row]:
    """The layer in one row, or in several where that is too wide."""
    total = sum(thing.width + _ASIDE for thing in layer) - _ASIDE
    if total <= widest or len(layer) < 3:
        return [_Row(list(layer))]
    columns = len(layer)
    while columns > 1 and sum(_widths(layer, columns)) + _ASIDE * (columns - 1) > widest:
        columns -= 1
    return [_Row(list(layer[start : start + columns])) for start in range(0, len(layer), columns)]


def _widths(layer: Sequence[Thing], columns: int) -> list[float]:
    return [max(thing.width for thing in layer[column::columns]) for column in range(columns)]


def _columns(wrapped: Sequence[Sequence[_Row]]) -> None:
    """Places everything from left to right: near what it is joined to, in order, and nothing on anything else."""
    for rows in wrapped:
        layer = [thing for row in rows for thing in row.things]
        columns = len(rows[0].things)
        widths = _widths(layer, columns)
        left = -(sum(widths) + _ASIDE * (columns - 1)) / 2
        for column in range(columns):
            for thing in layer[column::columns]:
                thing.x = left + (widths[column] - thing.width) / 2
                thing.column = left, left + widths[column]
            left += widths[column] + _ASIDE
    flat = [rows[0].things for rows in wrapped if len(rows) == 1]
    for layer in [*flat, *reversed(flat), *flat]:
        wanted = []
        for thing in layer:
            others = [edge.other(thing).middle for edge in (*thing.above, *thing.below)]
            wanted.append(sum(others) / len(others) if others else thing.middle)
        for thing, middle in zip(layer, _spread(wanted, [thing.width for thing in layer], _ASIDE), strict=True):
            thing.x = middle - thing.width / 2


def _spread(wanted: Sequence[float], widths: Sequence[float], gap: float) -> list[float]:
    """Middles as near as can be to those that are wanted, in the same order and without overlap.

    Least squares under an order: pools of neighbours that would overlap share the mean of what they want.
    """
    offsets, offset = [], 0.0
    for number, each in enumerate(widths):
        offset += (widths[number - 1] + each) / 2 + gap if number else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for want, off in zip(wanted, offsets, strict=True):
        mean, count = want - off, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + off for mean, off in zip(means, offsets, strict=True)]


def _attach(thing: Thing) -> None:
    """Where on its edges a thing's lines begin and end: each near the other end, and labels side by side."""
    for edges in (thing.below, thing.above):
        edges.sort(key=lambda edge: edge.other(thing).middle)
        pitches = [edge.pitch(thing) for edge in edges]
        before = 0.0
        wanted = []
        for edge, pitch in zip(edges, pitches, strict=True):
            # Inside the edge, with room for those before and behind it.
            first = thing.x + _CORNER + before + pitch / 2
            last = thing.x + thing.width - _CORNER - (sum(pitches) - before - pitch / 2)
            wanted.append(max(first, min(last, edge.other(thing).middle)))
            before += pitch
        for edge, x in zip(edges, _spread(wanted, pitches, 0.0), strict=True):
            if thing is edge.upper:
                edge.start = x
            else:
                edge.end = x


def _heights(wrapped: Sequence[Sequence[_Row]]) -> float:
    """Places rows from top to bottom, with room for labels and for lines to cross.  Returns where the last ends."""
    y = 0.0
    for number, rows in enumerate(wrapped):
        for index, row in enumerate(rows):
            reach = max((abs(e.start - e.end) for thing in row.things for e in thing.above), default=0.0)
            if number or index:
                y += min(max(_CHANNEL, reach / 9), _DEEPEST)
            row.top = y
            y += max((_label(e, thing) for thing in row.things for e in thing.above), default=0.0)
            tallest = max(thing.height for thing in row.things)
            for thing in row.things:
                thing.y = y
            y += tallest
            y += max((_label(e, thing) for thing in row.things for e in thing.below), default=0.0)
            row.turns = y
            y += sum(_depth(edge) for edge in row.asides())
            row.bottom = y
    return y


def _label(edge: Edge, thing: Thing) -> float:
    """The height that its label takes at one of its ends."""
    return edge.size[1] + 12 if edge.label and edge.holder is thing and not edge.beside else 0.0


def _lines(wrapped: Sequence[Sequence[_Row]], edges: Sequence[Edge]) -> Iterator[Line]:
    where = {thing.key: (rows, row) for rows in wrapped for row in rows for thing in row.things}
    lanes: dict[int, int] = {}
    for edge in edges:
        (rows, row), (lower_rows, lower_row) = where[edge.upper.key], where[edge.lower.key]
        if edge.beside:
            yield _aside(edge, row)
            continue
        start, end = edge.upper.y + edge.upper.height, edge.lower.y
        stretches = [(edge.start, start, row.bottom)]
        if row is not rows[-1] and lower_rows is not rows:
            gap = _gap(edge.upper.column[1], lanes)
            stretches.append((gap, rows[rows.index(row) + 1].top - 6, rows[-1].bottom))
        first = rows.index(row) + 1 if lower_rows is rows else 0
        if lower_rows.index(lower_row) > first:
            gap = _gap(edge.lower.column[0] - _ASIDE, lanes)
            stretches.append((gap, lower_rows[first].top, lower_rows[lower_rows.index(lower_row) - 1].bottom))
        stretches.append((edge.end, lower_row.top, end))
        w, h = edge.size
        label = (edge.start - w / 2, start + 6) if edge.holder is edge.upper else (edge.end - w / 2, end - 6 - h)
        yield Line(edge, tuple(_curve(stretches)), label)


def _gap(left: float, lanes: dict[int, int]) -> float:
    """A lane of its own in the gap that begins at ``left``, as far as there are any."""
    lane = lanes[round(left)] = lanes.get(round(left), -1) + 1
    return left + 9 + 5 * (lane % 5)


def _depth(edge: Edge) -> float:
    return max(22.0, edge.size[1] + 10)


def _aside(edge: Edge, row: _Row) -> Line:
    """A line between two things of one row: out below, across, and back up."""
    down = row.turns
    for other in row.asides():
        down += _depth(other)
        if other is edge:
            break
    ends = [(edge.start, edge.upper), (edge.end, edge.lower)]
    (x1, top1), (x2, top2) = ((x, thing.y + thing.height) for x, thing in ends)
    turn = down - _depth(edge) / 2
    # The corners are round, as far as there is room.
    r = min(10.0, abs(x2 - x1) / 2, turn - row.turns) * (1 if x2 > x1 else -1)
    h = abs(r)
    points: list[Point] = [(x1, top1), (x1, top1), (x1, turn - h), (x1, turn - h)]
    points += [(x1, turn), (x1, turn), (x1 + r, turn), (x1 + r, turn), (x2 - r, turn), (x2 - r, turn)]
    points += [(x2, turn), (x2, turn), (x2, turn - h), (x2, turn - h), (x2, top2), (x2, top2)]
    w, height = edge.size
    return Line(edge, tuple(points), ((x1 + x2 - w) / 2, turn - height / 2))


def _curve(stretches: Sequence[tuple[float, float, float]]) -> Iterator[Point]:
    """Stretches straight down (x, from, to), and curves from each to the next."""
    x, top, bottom = stretches[0]
    yield (x, top)
    yield from ((x, top), (x, bottom), (x, bottom))
    for x2, top2, bottom2 in stretches[1:]:
        half = (top2 - bottom) / 2
        yield from ((x, bottom + half), (x2, top2 - half), (x2, top2))
        yield from ((x2, top2), (x2, bottom2), (x2, bottom2))
        x, bottom = x2, bottom2


def shelves(sizes: Sequence[tuple[float, float]], gap: float, aspect: float) -> tuple[list[Point], float, float]:
    """Places for rectangles in rows, in order, so that together they are about ``aspect`` times as wide as high.

    Returns:
        The upper left corners, and the width and height of all.
    """

    def packed(limit: float) -> tuple[list[Point], float, float]:
        places: list[Point] = []
        x = y = tallest = widest = 0.0
        for w, h in sizes:
            if x and x + w > limit:
                x, y, tallest = 0.0, y + tallest + gap, 0.0
            places.append((x, y))
            x, tallest, widest = x + w + gap, max(tallest, h), max(widest, x + w)
        return places, widest, y + tallest

    least = max((w for w, _ in sizes), default=0.0)
    total = sum((w + gap) * (h + gap) for w, h in sizes)
    limits: Mapping[float, None] = dict.fromkeys(
        max(least, (total * aspect) ** 0.5 * factor) for factor in (0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.8)
    )
    return min((packed(limit) for limit in limits), key=lambda found: abs(found[1] / max(1.0, found[2]) - aspect))
