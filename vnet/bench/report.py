"""Runs the cases and prints them, as a table or as JSON."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from .case import Result
from .cases import CASES, run_case
from .pair import Pair

__all__ = ["run_cli"]

_ROUNDS = 15
_QUICK_ROUNDS = 3


def run_cli(names: list[str], as_json: bool, quick: bool) -> int:
    """Measures the cases ``names``, all if empty, and prints the figures.

    Returns the exit code: 0, or 2 for an unknown name.
    """
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            print(f"vnet bench: no benchmark {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    chosen = [known[name] for name in names] or list(CASES)
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    results = []
    with Pair() as pair:
        for case in chosen:
            done = 0

            def progress() -> None:
                nonlocal done
                done += 1
                if sys.stderr.isatty():
                    print(f"\r\x1b[K{case.name}: {done}/{rounds}", end="", file=sys.stderr, flush=True)  # noqa: B023

            results.append(run_case(pair, case, rounds, progress))
        pinned = pair.pinned
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps({"results": [_as_json(result) for result in results], "pinned": pinned}, indent=2))
    else:
        _print(results, pinned)
    return 0


def _as_json(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "name": case.name,
        "unit": case.unit,
        "value": result.value,
        "reference": case.reference_name,
        "reference_value": result.reference,
        "ratio": result.ratio,
        **({"difference": result.difference} if case.on == "difference" else {}),
        "range": [min(result.values), max(result.values)],
        "ratio_range": [min(result.ratios), max(result.ratios)] if result.ratios else None,
        "bar": {"on": case.on, "at_most" if case.lower else "at_least": case.bar},
        "met": result.met,
        "beside": {label: statistics.median(values) for label, values in result.beside.items()},
        **{f"{name}_share": statistics.median(shares) for name, shares in result.shares.items()},
        **({"missing": result.missing} if result.missing else {}),
        "cache_line_round_trip": statistics.median(result.distances),
        "pairs": len(result.values),
        "pairs_left_out": result.left_out,
    }


def _show(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e6:.3g} µs" if abs(value) < 1e-3 else f"{value * 1e3:.3g} ms"
    if unit in ("bit/s", "B/s"):
        return f"{value / 1e9:.3g} G{unit}"
    return f"{value / 1e6:.3g} M/s"


def _reference(result: Result) -> str:
    if result.reference is None:
        return f"{result.case.reference_name} –"
    return f"{result.case.reference_name} {_show(result.reference, result.case.unit)}"


def _ratio(result: Result) -> str:
    if result.case.on == "difference" and result.difference is not None:
        return f"{'+' if result.difference >= 0 else '−'}{_show(abs(result.difference), result.case.unit)}"
    return "–" if result.ratio is None else f"{result.ratio:.2f}"


def _bar(result: Result) -> str:
    case = result.case
    sign = "≤" if case.lower else "≥"
    bar = f"{case.bar:.2f}" if case.on == "ratio" else _show(case.bar, case.unit)
    if case.on == "difference":
        bar = f"+{bar}"
    colour = {True: "green", False: "red", None: "default"}[result.met]
    return f"[{colour}]{sign} {bar}[/]"


def _beside(result: Result) -> Iterator[str]:
    for label, values in result.beside.items():
        yield f"{label} {_show(statistics.median(values), result.case.unit)}"
    for name, shares in result.shares.items():
        share = statistics.median(shares)
        yield f"{name} {share:.1%}" if share >= 0.001 or not share else f"{name} {share:.1g}"


def _print(results: list[Result], pinned: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="vnet bench: medians of interleaved pairs", title_justify="left")
    for heading, side in (
        ("", "left"), ("what", "left"), ("vnet", "right"), ("range", "right"), ("reference", "right"),
        ("ratio", "right"), ("bar", "right"), ("beside", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=side, no_wrap=heading != "beside")  # type: ignore[arg-type]
    for result in results:
        case = result.case
        table.add_row(
            case.name,
            case.what,
            _show(result.value, case.unit),
            f"{_show(min(result.values), case.unit)} – {_show(max(result.values), case.unit)}",
            _reference(result),
            _ratio(result),
            _bar(result),
            ", ".join(_beside(result)),
        )
    console = Console(width=None if sys.stdout.isatty() else 190)
    console.print(table)
    for result in results:
        if result.missing:
            console.print(f"{result.case.name} has no reference: {result.missing}", markup=False, soft_wrap=True)
    distance = statistics.median(value for result in results for value in result.distances) * 1e9
    left_out = sum(result.left_out for result in results)
    console.print(
        f"Two processes{', pinned' if pinned else ', not pinned: one processor only'}; cache-line round trip "
        f"{distance:.0f} ns; {left_out} pairs left out because it changed."
    )
