"""``vnet bench --routes FILE``: the route table of a list of prefixes, beside plain DIR-24-8 arrays of the same.

Look-ups are single ones, one after the other in one thread, each with the next address: any, or one that a route of the
list has.  The array with cells of 32 bits holds every class that the table holds; the one with 16 bits, half the size,
holds half of them.  Both lie in huge pages and cannot be updated beside their readers; the table lies in the memory
file of a LAN, as it does for senders, and can.  All three are measured in turns, and figures are medians.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vnet
from vnet import _native

__all__ = ["run_routes"]

_CLASSES = 65_535
_UPDATES = 100_000
_WHO = ("ours", "array32", "array16")
_WHICH = {
    "any4": "random IPv4 addresses",
    "routed4": "IPv4 addresses of random routes",
    "routed6": "IPv6 addresses of random routes",
}


@dataclass(frozen=True)
class _Row:
    """One figure: what, with its range over the rounds, beside what, and the bar that this project promises of it."""

    name: str
    what: str
    unit: str
    values: list[float]
    beside: dict[str, list[float]]
    bar: str = ""
    met: bool | None = None

    @property
    def value(self) -> float:
        return statistics.median(self.values)


def run_routes(file: str, as_json: bool, quick: bool) -> int:
    """Measures the table of the prefixes of a file, plain or gzipped, and prints the figures.

    Returns the exit code: 0, or 2 for a file that cannot be read.
    """
    try:
        text = Path(file).read_bytes()
        if text.startswith(b"\x1f\x8b"):
            text = gzip.decompress(text)
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged gzip file: {error}"
        print(f"vnet bench: {file}: {why}", file=sys.stderr)
        return 2
    try:
        words = _native.RouteList(text).words()
    except ValueError as error:
        print(f"vnet bench: {file}, line {error.args[0]}: {error.args[1]}", file=sys.stderr)
        return 2
    if not any(line for _, *lines in words for line in lines):
        print(f"vnet bench: {file}: no prefix is in it", file=sys.stderr)
        return 2
    rows = []
    bench = _native.RouteBench(text, _CLASSES)
    routes = sum(bench.sizes()[:2])
    for row in _measure(bench, text, file, quick):
        rows.append(row)
        if sys.stderr.isatty():
            print(f"\r\x1b[K{row.name}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps({"file": file, "routes": routes, "results": [_as_json(row) for row in rows]}, indent=2))
    else:
        _print(rows, f"{file}: {routes:,} routes")
    return 0


def _measure(bench: _native.RouteBench, text: bytes, file: str, quick: bool) -> Iterator[_Row]:
    rounds, count = (3, 2_000_000) if quick else (15, 20_000_000)
    compiled = [bench.compiled, *(_native.RouteBench(text, _CLASSES).compiled for _ in range(1 if quick else 4))]
    routes4, routes6, size, size32, size16 = bench.sizes()
    yield _Row("compile", "laid out from a list", "s", compiled, {}, "< 1 s", max(compiled) < 1)
    arrays = {"DIR-24-8, 32 bits": [float(size32)], "DIR-24-8, 16 bits": [float(size16)]} if routes4 else {}
    yield _Row("bytes", "both families", "bytes", [float(size)], arrays, "< 16 MiB", size < 16 << 20)
    mapped = _mapped(file, rounds)
    if mapped:
        yield _Row(
            "map",
            "found in an image, checked and mapped: all of lan.routes.load()",
            "s",
            mapped,
            {},
            "< 10 ms",
            statistics.median(mapped) < 0.01,
        )
    for which, what in _WHICH.items():
        if not (routes6 if which == "routed6" else routes4):
            continue
        who = ("ours",) if which == "routed6" else _WHO
        rates: dict[str, list[float]] = {name: [] for name in who}
        for turn in range(rounds + 1):
            sums = set()
            for name in who:
                # What the one before had in the caches is not measured.
                bench.look_up(name, which, count // 10 if not quick else count)
                seconds, found = bench.look_up(name, which, count)
                sums.add(found if name != "array16" else None)
                if turn:
                    rates[name].append(count / seconds)
            # The arrays are an oracle, too: cells of 16 bits cut the classes.
            assert len(sums - {None}) == 1, "the table and the array disagree"
        beside = {f"DIR-24-8, {name[5:]} bits": rates[name] for name in who[1:]}
        bar, met = "", None
        if which == "any4":
            bar = "≥ 100 M/s, and ahead of 32 bits"
            met = statistics.median(rates["ours"]) >= 1e8 and _ratio(rates["ours"], rates["array32"]) > 1
        yield _Row(f"look_up_{which}", what, "look-ups/s", rates["ours"], beside, bar, met)
    yield from _updates(bench, quick)


def _updates(bench: _native.RouteBench, quick: bool) -> Iterator[_Row]:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return
    here = os.sched_getaffinity(0)
    try:
        for rate, name in ((_UPDATES, "update"), (0, "update_most")):
            rounds, updates = bench.update((processors[0], processors[1]), rate, 0.2, 3 if quick else 15)
            kept = [changing / idle for _, idle, changing in rounds]
            beside = {"reader keeps": kept, "reader alone": [alone for alone, _, _ in rounds]}
            slower = 1 - statistics.median(kept)
            what = f"{'single updates beside a reader' if rate else 'as many as it can'}; the reader loses {slower:.1%}"
            bar, met = (
                (f"{rate:,}/s, reader loses < 5 %", updates >= 0.95 * rate and slower < 0.05) if rate else ("", None)
            )
            yield _Row(name, what, "updates/s", [updates], beside, bar, met)
    finally:
        os.sched_setaffinity(0, here)


def _mapped(file: str, rounds: int) -> list[float]:
    """Seconds until the table is there, once its image is."""
    found = []
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="vnet-bench-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            for turn in range(rounds + 1):
                with vnet.Lan(None, images=lambda _: None) as lan:
                    lan.add_network("lab", ["10.0.0.0/24", "fd00::/64"])
                    lan.router("edge", ["lab"])
                    lan.reserve("isp", ["10.0.0.9", "fd00::9"], network="lab")
                    began = time.perf_counter()
                    lan.routes.load(file, via="isp")
                    took = time.perf_counter() - began
                    use = next((use for use in lan.images if use.section == "routes"), None)
                    if use is None or not use.mapped:
                        return []
                    if turn:
                        found.append(took)
        except vnet.VnetError:
            return []
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before
    return found


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _as_json(row: _Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "unit": row.unit,
        "value": row.value,
        "range": [min(row.values), max(row.values)],
        "beside": {name: statistics.median(values) for name, values in row.beside.items()},
        "bar": row.bar or None,
        "met": row.met,
    }


def _show(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.3g} ms"
    if unit == "bytes":
        return f"{value / (1 << 20):.3g} MiB"
    return f"{value / 1e6:.3g} M/s"


def _beside(row: _Row) -> Iterator[str]:
    for name, values in row.beside.items():
        if name == "reader keeps":
            yield f"{name} {statistics.median(values):.1%} ({min(values):.1%} – {max(values):.1%})"
        elif row.unit == "updates/s":
            yield f"{name} {statistics.median(values) / 1e6:.3g} M look-ups/s"
        else:
            ratio = f", ratio {_ratio(row.values, values):.2f}" if row.unit == "look-ups/s" else ""
            yield f"{name} {_show(statistics.median(values), row.unit)}{ratio}"


def _print(rows: list[_Row], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"vnet bench --routes: {title}", title_justify="left")
    for heading, side in (
        ("", "left"),
        ("what", "left"),
        ("vnet", "right"),
        ("range", "right"),
        ("bar", "left"),
        ("beside", "left"),
    ):
        table.add_column(heading, justify=side, no_wrap=heading != "beside")  # type: ignore[arg-type]
    for row in rows:
        spread = (
            f"{_show(min(row.values), row.unit)} – {_show(max(row.values), row.unit)}" if len(row.values) > 1 else ""
        )
        colour = "green" if row.met else "red"
        bar = f"[{colour}]{row.bar}[/]" if row.bar else ""
        table.add_row(row.name, row.what, _show(row.value, row.unit), spread, bar, "; ".join(_beside(row)))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
