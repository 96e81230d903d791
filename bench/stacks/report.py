"""What came out, as tables and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .cases import OURS, Bar, Result

__all__ = ["as_json", "print_table"]


def as_json(results: Sequence[Result], left_out: Sequence[str], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The report as programs read it: SI units throughout, figures in the order of the rounds."""
    return {
        "machine": dict(machine),
        "left_out": list(left_out),
        "results": [
            {
                "name": result.case.name,
                "what": result.case.what,
                "unit": result.case.unit,
                "peers": {
                    peer: {
                        "median": statistics.median(figures),
                        "range": [min(figures), max(figures)],
                        "figures": figures,
                        **_ratio(result, peer),
                    }
                    for peer, figures in result.figures.items()
                },
                "bars": [_bar(result, bar) for bar in result.case.bars],
            }
            for result in results
        ],
    }


def _ratio(result: Result, peer: str) -> dict[str, Any]:
    ratios = result.ratios(peer)
    if not ratios:
        return {}
    return {"ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}


def _bar(result: Result, bar: Bar) -> dict[str, Any]:
    found = result.found(bar)
    return {
        "beside": bar.peer,
        "at_most" if bar.at_most else "more_than" if bar.strict else "at_least": bar.value,
        "found": found,
        "met": None if found is None else bar.met(found),
    }


def _show(value: float, unit: str) -> str:
    if unit == "bit/s":
        return f"{value / 1e9:.3g} Gbit/s"
    if unit == "s":
        if value >= 1:
            return f"{value:.3g} s"
        return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"
    return f"{value / 1e3:.3g} k/s"


def _sign(bar: Bar) -> str:
    return "≤" if bar.at_most else ">" if bar.strict else "≥"


def print_table(
    results: Sequence[Result], left_out: Sequence[str], machine: Mapping[str, Any], width: int | None
) -> None:
    """Prints one table, a row for each peer of each case, and what was left out."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=width, highlight=False)
    table = Table(title=f"Linux stacks, medians of {machine['rounds']} interleaved rounds", title_justify="left")
    for heading in ("what", "peer", "median", "range", "vnet / peer", "range", "bar"):
        table.add_column(heading, justify="left" if heading in ("what", "peer") else "right", no_wrap=True)
    for result in results:
        unit = result.case.unit
        first = True
        for peer, figures in result.figures.items():
            ratios = result.ratios(peer)
            table.add_row(
                result.case.what if first else "",
                peer,
                _show(statistics.median(figures), unit),
                f"{_show(min(figures), unit)} – {_show(max(figures), unit)}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
                f"{min(ratios):.2f} – {max(ratios):.2f}" if ratios else "",
                _bars_beside(result, peer),
            )
            first = False
        if result.figures:
            table.add_section()
    console.print(table)
    console.print(
        f"TCP's congestion control: {machine['congestion_control']}; load {machine['load']:.1f}.", markup=False
    )
    for sentence in left_out:
        console.print(sentence, markup=False)


def _bars_beside(result: Result, peer: str) -> str:
    shown = []
    for bar in result.case.bars:
        if (bar.peer or OURS) != peer:
            continue
        found = result.found(bar)
        value = f"{bar.value:.1f}" if bar.peer else _show(bar.value, result.case.unit)
        if found is not None:
            shown.append(f"[{'green' if bar.met(found) else 'red'}]{_sign(bar)} {value}[/]")
    return ", ".join(shown)
