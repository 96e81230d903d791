"""Tables for people: aligned plain columns, with a little colour on a terminal; and words for times."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

__all__ = ["duration", "print_table", "since"]

_NARROWEST = 10


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str] | None = None) -> None:
    """Print rows under headings.

    Args:
        columns: the headings.
        rows: a text for each column.
        styles: a style of rich's for each text that shall have one, such as ``{"up": "green"}``.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal or not os.environ.get("TERM", "dumb"):
        # Nothing is cut or folded here: programs read it.
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    if console.width < _NARROWEST:
        # A terminal that does not know its width.
        console = Console(width=80)
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, (styles or {}).get(cell, "")) for cell in row))
    console.print(table)


def since(epoch: float) -> str:
    """How long ago that was."""
    return duration(max(0.0, time.time() - epoch)) if epoch else ""


def duration(seconds: float) -> str:
    """``7 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
