"""What the two backends draw: shapes in pixels, each with a role that :mod:`vnet.graph.look` gives colours to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Box", "Group", "Path", "Point", "Scene", "Shape", "Text"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle with its upper left corner at x, y, and rounded corners."""

    role: str
    x: float
    y: float
    width: float
    height: float
    radius: float = 0.0


@dataclass(frozen=True)
class Path:
    """A line through points; where ``curved``, cubic Bézier curves: a start, and three points for each curve."""

    role: str
    points: tuple[Point, ...]
    curved: bool = False


@dataclass(frozen=True)
class Text:
    """One line of text; ``x`` is its start, its middle or its end, ``y`` its baseline.

    Attributes:
        size: height of the letters' em, in pixels.
        anchor: ``start``, ``middle`` or ``end``.
        room: the pixels that it must not exceed; :mod:`vnet.graph.lettering` has cut it to them already.
    """

    role: str
    x: float
    y: float
    text: str
    size: float
    anchor: str = "start"
    mono: bool = False
    bold: bool = False
    room: float = 0.0


Shape = Box | Path | Text


@dataclass(frozen=True)
class Group:
    """Shapes that belong together; ``title`` is what a pointer that rests on them is told."""

    shapes: Sequence[Shape]
    title: str = ""


@dataclass
class Scene:
    """A picture, back to front.

    Attributes:
        width, height: pixels.
        title: what it shows, in a few words.
        description: the same for those who cannot see it.
    """

    width: float
    height: float
    title: str
    description: str
    groups: list[Group] = field(default_factory=list)
