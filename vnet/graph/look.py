"""Colours and lines of each role, on light and on dark ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["DARK", "KINDS", "LIGHT", "Look", "SHADES", "kind_role"]


@dataclass(frozen=True)
class Look:
    """How a role is drawn; colours are ``#rrggbb``, an empty one is not drawn, lengths are pixels."""

    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    dash: tuple[float, ...] = ()


# The kinds of nodes in the order of the legend; a kind that is not here is drawn as the last one.
KINDS = ("host", "process", "netns", "qemu", "tap", "router", "node")
# Networks take turns.
SHADES = 6

_LIGHT_KINDS = ("#2f6fde", "#17875a", "#8a4fd0", "#c05f12", "#0b8296", "#c2336b", "#5b6776")
_DARK_KINDS = ("#7aa9ff", "#53c795", "#bd95f2", "#f0a05a", "#55c6d8", "#f38ab1", "#a4afbd")
_LIGHT_SHADES = ("#2f6fde", "#17875a", "#b3680b", "#8a4fd0", "#0b8296", "#c2336b")
_DARK_SHADES = ("#7aa9ff", "#53c795", "#e3aa56", "#bd95f2", "#55c6d8", "#f38ab1")


def kind_role(kind: str) -> str:
    """The role of what is drawn in the colour of a kind of node."""
    return f"kind-{kind if kind in KINDS else KINDS[-1]}"


def _look(
    ground: str,
    box: tuple[str, str],
    card: tuple[str, str],
    inks: tuple[str, str, str],
    wire: tuple[str, str, str],
    down: tuple[str, str],
    kinds: tuple[str, ...],
    shades: tuple[str, ...],
) -> Mapping[str, Look]:
    strong, plain, faint = inks
    looks = {
        "ground": Look(fill=ground),
        "network": Look(fill=box[0], stroke=box[1]),
        "card": Look(fill=card[0], stroke=card[1]),
        "card-down": Look(fill=box[0], stroke=down[1], dash=(4, 3)),
        "strong": Look(fill=strong),
        "plain": Look(fill=plain),
        "faint": Look(fill=faint),
        "ink-down": Look(fill=down[0]),
        "line-down": Look(stroke=down[0], width=1.5),
        "edge": Look(stroke=faint, width=1.5),
        "edge-cut": Look(stroke=down[0], width=1.5, dash=(5, 4)),
        "label": Look(fill=ground, stroke=box[1]),
        "wire": Look(fill=wire[0], stroke=wire[1]),
        "wire-ink": Look(fill=wire[2]),
    }
    for kind, colour in zip(KINDS, kinds, strict=True):
        looks[f"kind-{kind}"] = Look(stroke=colour, width=1.5)
        looks[f"kind-{kind}-solid"] = Look(fill=colour)
    for number, colour in enumerate(shades):
        looks[f"shade-{number}"] = Look(fill=colour)
    return MappingProxyType(looks)


LIGHT = _look(
    ground="#ffffff",
    box=("#f5f7fa", "#d3dbe6"),
    card=("#ffffff", "#c6d0dd"),
    inks=("#17202c", "#465465", "#6a7889"),
    wire=("#fff3dc", "#e9c98f", "#7a4b00"),
    down=("#8894a2", "#aab4c0"),
    kinds=_LIGHT_KINDS,
    shades=_LIGHT_SHADES,
)
DARK = _look(
    ground="#10151c",
    box=("#181f29", "#303b4a"),
    card=("#212a36", "#3d4a5b"),
    inks=("#eaf0f6", "#b3c0cf", "#8e9cac"),
    wire=("#3a2d14", "#6d5423", "#f4cd86"),
    down=("#7b8796", "#525e6d"),
    kinds=_DARK_KINDS,
    shades=_DARK_SHADES,
)
