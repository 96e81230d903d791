"""A scene as PNG, drawn with Pillow to look as the SVG does on light ground."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vnet.errors import MachineLacks
from vnet.graph.look import LIGHT
from vnet.graph.scene import Box, Path, Point, Scene, Text

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

__all__ = ["to_png"]

# Pixels of the image for one of the scene: as sharp as on a screen of fine grain.
_SCALE = 2.0
# Pixels of the image at most; larger scenes are drawn at a smaller scale.
_LARGEST = 60_000_000
# Lines and corners are drawn this much larger and shrunk, which smooths their edges.
_FINER = 2

_FONTS = {
    (False, False): ("DejaVuSans.ttf", "Verdana.ttf", "LiberationSans-Regular.ttf", "Arial.ttf"),
    (False, True): ("DejaVuSans-Bold.ttf", "Verdana_Bold.ttf", "LiberationSans-Bold.ttf", "Arial_Bold.ttf"),
    (True, False): ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf"),
    (True, True): ("DejaVuSansMono-Bold.ttf", "LiberationMono-Bold.ttf"),
}


def to_png(scene: Scene) -> bytes:
    """The scene as a PNG file.

    Raises:
        MachineLacks: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
        from PIL.PngImagePlugin import PngInfo
    except ImportError:
        raise MachineLacks("PNG pictures are drawn with Pillow, which is missing: pip install 'vnet[graph]'") from None
    scale = min(_SCALE, (_LARGEST / (scene.width * scene.height)) ** 0.5)
    size = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    image = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), LIGHT["ground"].fill)
    pen = _Pen(ImageDraw.Draw(image), scale * _FINER)
    for group in scene.groups:
        for shape in group.shapes:
            if isinstance(shape, Box):
                pen.box(shape)
            elif isinstance(shape, Path):
                pen.path(shape)
    image = image.resize(size, Image.Resampling.BOX)
    pen = _Pen(ImageDraw.Draw(image), scale)
    for group in scene.groups:
        for shape in group.shapes:
            if isinstance(shape, Text):
                pen.text(shape)
    about = PngInfo()
    about.add_text("Title", scene.title)
    about.add_text("Description", scene.description.encode("latin-1", "replace").decode("latin-1"))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=about, dpi=(96 * scale, 96 * scale))
    return file.getvalue()


class _Pen:
    def __init__(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        self.draw = draw
        self.scale = scale

    def box(self, box: Box) -> None:
        look, s = LIGHT[box.role], self.scale
        corners = (box.x * s, box.y * s, (box.x + box.width) * s, (box.y + box.height) * s)
        if not look.dash:
            # SVG centres an outline on the edge, Pillow puts it inside.
            half = look.width * s / 2 if look.stroke else 0.0
            grown = (corners[0] - half, corners[1] - half, corners[2] + half, corners[3] + half)
            self.draw.rounded_rectangle(
                grown, box.radius * s + half, look.fill or None, look.stroke or None, max(1, round(look.width * s))
            )
            return
        self.draw.rounded_rectangle(corners, box.radius * s, look.fill or None)
        self._line(_outline(box), look.stroke, look.width, look.dash)

    def path(self, path: Path) -> None:
        look = LIGHT[path.role]
        points = list(_flattened(path.points)) if path.curved else list(path.points)
        self._line(points, look.stroke, look.width, look.dash)

    def _line(self, points: Sequence[Point], colour: str, width: float, dash: Sequence[float]) -> None:
        s = self.scale
        for part in _dashed(points, dash) if dash else [points]:
            self.draw.line(
                [(x * s, y * s) for x, y in part], fill=colour, width=max(1, round(width * s)), joint="curve"
            )

    def text(self, text: Text) -> None:
        font = _font(text.mono, text.bold, text.size * self.scale)
        if text.room and font.getlength(text.text) > text.room * self.scale:
            # A font that is wider than lettering.py expects.
            font = _font(
                text.mono, text.bold, text.size * self.scale * text.room * self.scale / font.getlength(text.text)
            )
        place = (text.x * self.scale, text.y * self.scale)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[text.anchor]
        self.draw.text(place, text.text, fill=LIGHT[text.role].fill, font=font, anchor=anchor)


@cache
def _font(mono: bool, bold: bool, size: float) -> ImageFont.FreeTypeFont | Any:
    from PIL import ImageFont

    for name in _FONTS[mono, bold]:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)  # Pillow's own


def _flattened(points: Sequence[Point]) -> Iterator[Point]:
    yield points[0]
    for start in range(0, len(points) - 1, 3):
        a, b, c, d = points[start : start + 4]
        for step in range(1, 25):
            t = step / 24
            u = 1 - t
            x, y = (u**3 * a[i] + 3 * u * u * t * b[i] + 3 * u * t * t * c[i] + t**3 * d[i] for i in (0, 1))
            # Straight stretches stay straight: pixels are cut from these numbers, not rounded.
            yield round(x, 3), round(y, 3)


def _outline(box: Box) -> list[Point]:
    """The edge of a box as a line; its corners are cut rather than round, which dashes hide."""
    x, y, r = box.x, box.y, box.radius * 0.6
    right, bottom = x + box.width, y + box.height
    return [
        (x + r, y),
        (right - r, y),
        (right, y + r),
        (right, bottom - r),
        (right - r, bottom),
        (x + r, bottom),
        (x, bottom - r),
        (x, y + r),
        (x + r, y),
    ]


def _dashed(points: Sequence[Point], dash: Sequence[float]) -> Iterator[list[Point]]:
    """The parts of a line that a dash pattern (on, off) lets be seen."""
    drawn, left = True, dash[0]
    part = [points[0]]
    for (x1, y1), (x2, y2) in pairwise(points):
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        done = 0.0
        while length - done > left:
            done += left
            here = (x1 + (x2 - x1) * done / length, y1 + (y2 - y1) * done / length)
            if drawn:
                yield [*part, here]
            drawn, part = not drawn, [here]
            left = dash[0] if drawn else dash[-1]
        left -= length - done
        part.append((x2, y2))
    if drawn and len(part) > 1:
        yield part
