"""A scene as SVG: text stays text, and a viewer that prefers dark colours gets them."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from vnet.graph.look import DARK, LIGHT, Look
from vnet.graph.scene import Box, Path, Scene, Shape, Text

__all__ = ["to_svg"]


def to_svg(scene: Scene) -> str:
    """The scene as an SVG document.

    Colours stand at each shape for the light look, because some programs read no style sheets, and in a style sheet
    for the dark one.
    """
    roles = sorted({shape.role for group in scene.groups for shape in group.shapes} | {"ground"})
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(scene.width)}" height="{_n(scene.height)}" '
        f'viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" role="img" aria-labelledby="title desc" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">',
        f'<title id="title">{escape(scene.title)}</title>',
        f'<desc id="desc">{escape(scene.description)}</desc>',
        "<style>",
        ".mono { font-family: DejaVu Sans Mono, Menlo, Consolas, monospace }",
        "@media (prefers-color-scheme: dark) {",
        *(f"  .{role} {{ {_css(DARK[role])} }}" for role in roles),
        "}",
        "</style>",
        f'<rect class="ground" width="100%" height="100%"{_paint(LIGHT["ground"])}/>',
    ]
    for group in scene.groups:
        if group.title:
            lines.append(f"<g><title>{escape(group.title)}</title>")
        lines += map(_element, group.shapes)
        if group.title:
            lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _element(shape: Shape) -> str:
    paint = _paint(LIGHT[shape.role])
    if isinstance(shape, Box):
        corner = f' rx="{_n(shape.radius)}"' if shape.radius else ""
        return (
            f'<rect class="{shape.role}" x="{_n(shape.x)}" y="{_n(shape.y)}" '
            f'width="{_n(shape.width)}" height="{_n(shape.height)}"{corner}{paint}/>'
        )
    if isinstance(shape, Path):
        first, *rest = (f"{_n(x)} {_n(y)}" for x, y in shape.points)
        return f'<path class="{shape.role}" d="M{first} {"C" if shape.curved else "L"}{" ".join(rest)}"{paint}/>'
    return _text(shape, paint)


def _text(shape: Text, paint: str) -> str:
    style = f' font-size="{_n(shape.size)}"'
    if shape.bold:
        style += ' font-weight="bold"'
    if shape.anchor != "start":
        style += f' text-anchor="{shape.anchor}"'
    role = quoteattr(f"{shape.role} mono" if shape.mono else shape.role)
    return f'<text class={role} x="{_n(shape.x)}" y="{_n(shape.y)}"{style}{paint}>{escape(shape.text)}</text>'


def _paint(look: Look) -> str:
    paint = f' fill="{look.fill or "none"}"'
    if look.stroke:
        paint += f' stroke="{look.stroke}"'
        if look.width != 1:
            paint += f' stroke-width="{_n(look.width)}"'
        if look.dash:
            paint += f' stroke-dasharray="{" ".join(map(_n, look.dash))}"'
    return paint


def _css(look: Look) -> str:
    return f"fill: {look.fill or 'none'}" + (f"; stroke: {look.stroke}" if look.stroke else "")


def _n(number: float) -> str:
    """A number in few letters: a tenth of a pixel is finer than anybody sees."""
    return f"{number:.1f}".removesuffix(".0")
