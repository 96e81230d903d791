"""The widget with a line for each NIC; it draws those in sight, so that thousands cost no more than twenty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from vnet.top.layout import Field, NicLine, cells

__all__ = ["NicTable"]


class NicTable(ScrollView, can_focus=True):
    """Lines of NICs, scrolled with the arrow keys, Page Up and Down, Home and End, and the mouse wheel."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"nic--down", "nic--alarm"}
    DEFAULT_CSS = """
    NicTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    NicTable > .nic--down { text-style: dim; }
    NicTable > .nic--alarm { color: $text-warning; text-style: bold; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: Sequence[NicLine] = ()
        self._columns: Sequence[tuple[Field, int]] = ()

    def show(self, lines: Sequence[NicLine], columns: Sequence[tuple[Field, int]]) -> None:
        """Shows these NICs, in this order, where the last ones were."""
        self._lines, self._columns = lines, columns
        self.virtual_size = Size(0, len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        at = self.scroll_offset.y + y
        if at >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        shown = self._lines[at]
        style = self.rich_style
        if shown.nic.state != "up":
            style += self.get_component_rich_style("nic--down", partial=True)
        alarm = style + self.get_component_rich_style("nic--alarm", partial=True)
        line = [Segment(text, alarm if stands_out else style) for text, stands_out in cells(self._columns, shown)]
        return Strip(line).adjust_cell_length(width, style)
