"""A small sign for each kind of node, 16 by 16 pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi, sin
from types import MappingProxyType

from vnet.graph.look import KINDS
from vnet.graph.scene import Box, Path, Point, Shape

__all__ = ["SIZE", "icon"]

SIZE = 16.0

_Maker = Callable[[str], list[Shape]]


def icon(kind: str, x: float, y: float, role: str) -> list[Shape]:
    """The sign of a kind with its upper left corner at x, y; ``role`` is one of lines."""
    return [_moved(shape, x, y) for shape in _ICONS.get(kind, _node)(role)]


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Box):
        return Box(shape.role, shape.x + x, shape.y + y, shape.width, shape.height, shape.radius)
    assert isinstance(shape, Path)
    return Path(shape.role, tuple((px + x, py + y) for px, py in shape.points), shape.curved)


def _line(role: str, *points: Point) -> Path:
    return Path(role, points)


def _ring(role: str, x: float, y: float, radius: float) -> Path:
    return Path(
        role, tuple((x + radius * cos(a * pi / 12), y + radius * sin(a * pi / 12)) for a in range(25)), curved=False
    )


def _host(role: str) -> list[Shape]:  # a screen on its foot
    return [
        Box(role, 1.5, 2.5, 13, 8.5, 1.5),
        _line(role, (8, 11), (8, 13.5)),
        _line(role, (4.5, 13.5), (11.5, 13.5)),
    ]


def _process(role: str) -> list[Shape]:  # a prompt
    return [
        Box(role, 1.5, 2.5, 13, 11, 1.5),
        _line(role, (4.5, 6), (6.8, 8), (4.5, 10)),
        _line(role, (8.3, 10.5), (11.5, 10.5)),
    ]


def _netns(role: str) -> list[Shape]:  # a cube: a space of its own
    return [
        _line(role, (8, 1.5), (14, 4.8), (14, 11.2), (8, 14.5), (2, 11.2), (2, 4.8), (8, 1.5)),
        _line(role, (2, 4.8), (8, 8.1), (14, 4.8)),
        _line(role, (8, 8.1), (8, 14.5)),
    ]


def _qemu(role: str) -> list[Shape]:  # a chip with its pins
    pins = [
        _line(role, *pin)
        for at in (5.5, 10.5)
        for pin in (((at, 1), (at, 3.5)), ((at, 12.5), (at, 15)), ((1, at), (3.5, at)), ((12.5, at), (15, at)))
    ]
    return [Box(role, 3.5, 3.5, 9, 9, 1), *pins]


def _tap(role: str) -> list[Shape]:  # a plug
    return [
        _line(role, (5.5, 1.5), (5.5, 5)),
        _line(role, (10.5, 1.5), (10.5, 5)),
        Path(role, ((3, 5), (3, 5), (13, 5), (13, 5), (13, 13), (3, 13), (3, 5)), curved=True),
        _line(role, (8, 11), (8, 15)),
    ]


def _router(role: str) -> list[Shape]:  # ways that cross
    return [
        _ring(role, 8, 8, 6.7),
        _line(role, (4.6, 4.6), (11.4, 11.4)),
        _line(role, (11.4, 4.6), (4.6, 11.4)),
    ]


def _node(role: str) -> list[Shape]:
    return [_ring(role, 8, 8, 6), _ring(role, 8, 8, 2)]


_ICONS: Mapping[str, _Maker] = MappingProxyType(
    dict(zip(KINDS, (_host, _process, _netns, _qemu, _tap, _router, _node), strict=True))
)
