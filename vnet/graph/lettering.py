"""How wide text is, without a font: as wide as the widest of those that a viewer is likely to take."""

from __future__ import annotations

__all__ = ["cut", "width"]

# Hundredths of an em of the letters from space to tilde in DejaVu Sans and its bold; few sans-serif fonts are wider.
_PLAIN = (
    "32 40 46 84 64 95 78 27 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 100 "
    "68 69 70 77 63 58 77 75 29 29 66 56 86 75 79 60 79 69 63 61 73 68 99 69 61 69 39 34 39 84 50 50 61 "
    "63 55 63 62 35 63 63 28 28 58 28 97 63 61 63 63 41 52 39 63 59 82 59 59 52 64 34 64 84"
)
_BOLD = (
    "35 46 52 84 70 100 87 31 46 46 52 84 38 42 38 37 70 70 70 70 70 70 70 70 70 70 40 40 84 84 84 58 100 "
    "77 76 73 83 68 68 82 84 37 37 77 64 100 84 85 73 85 77 72 68 81 77 110 77 72 73 46 37 46 84 50 50 67 "
    "72 59 72 68 44 72 71 34 34 67 34 104 71 69 72 72 49 60 48 71 65 92 65 65 58 71 37 71 84"
)
_WIDTHS = {bold: tuple(map(int, text.split())) for bold, text in ((False, _PLAIN), (True, _BOLD))}
# Every letter of a fixed-width font, and any letter that is not in the tables.
_MONO, _OTHER = 0.61, 1.0
_ELLIPSIS = "…"


def width(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """Pixels that ``text`` takes at most in letters of ``size`` pixels."""
    if mono:
        return len(text) * _MONO * size
    table = _WIDTHS[bold]
    return sum(table[ord(c) - 32] / 100 if " " <= c <= "~" else _OTHER for c in text) * size


def cut(text: str, room: float, size: float, *, mono: bool = False, bold: bool = False) -> str:
    """``text``, or its two ends where it is wider than ``room`` pixels: names differ at the end as a rule."""
    if width(text, size, mono=mono, bold=bold) <= room + 0.01:  # rooms are sums of such widths
        return text
    for kept in range(len(text) - 1, 1, -1):
        tail = kept // 2
        short = text[: kept - tail] + _ELLIPSIS + text[len(text) - tail :]
        if width(short, size, mono=mono, bold=bold) <= room:
            return short
    return _ELLIPSIS
