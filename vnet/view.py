"""What viewers of a LAN's counters share: the columns, how values are written, and in which order rows come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .sample import REASONS, NicRates, NicSample, Sample
from .verdict import Verdict

__all__ = ["Column", "Row", "columns", "natural", "rate", "rows", "sort_keys", "sorted_rows", "table", "frame_lines"]


@dataclass(frozen=True)
class Row:
    """A NIC of a table: its sample, and its rates where there are some."""

    nic: NicSample
    rates: NicRates | None = None

    @property
    def name(self) -> str:
        return self.nic.name


@dataclass(frozen=True)
class Column:
    """A column of numbers: its key, its title, its value, and how that is written."""

    key: str
    title: str
    value: Callable[[Row], float]
    write: Callable[[float], str]


def frame_lines(chosen: Sequence[Row]) -> list[str]:
    """What befell the frames of guests behind TAP devices, a line for each guest with something to tell."""
    lines = []
    for row in chosen:
        said = [f"{name} {count:,}" for name, count in row.nic.statistics.frames.items() if count]
        if said:
            lines.append(f"frames of {row.name}: {', '.join(said)}")
    return lines


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: ``host-2`` before ``host-10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """A rate in about three digits and a prefix: ``0``, ``0.5``, ``950``, ``12.3k``, ``4.50M``."""
    prefixes = iter(("", "k", "M", "G", "T"))
    prefix = next(prefixes)
    # 999.5 would be written as 1000.
    while value >= 999.5 and prefix != "T":
        value, prefix = value / 1000, next(prefixes)
    if not prefix:
        return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{prefix}"


def columns(*, rates: bool) -> tuple[Column, ...]:
    """All columns of a table of counters, or of rates."""

    def column(key: str, title: str, count: Callable[[NicSample], float], each: Callable[[NicRates], float]) -> Column:
        if rates:
            return Column(key, f"{title}/s", lambda row: each(row.rates) if row.rates else 0.0, rate)
        return Column(key, title, lambda row: count(row.nic), _count)

    def of_reason(reason: Verdict) -> Column:
        name = reason.name.lower()
        return column(name, name, lambda nic: nic.statistics.verdicts[reason], lambda found: found.drops[reason])

    bits = "bit" if rates else "bytes"
    return (
        column("tx", "tx", lambda nic: nic.statistics.tx_datagrams, lambda found: found.tx),
        column("tx_bytes", f"tx {bits}", lambda nic: nic.statistics.tx_bytes, lambda found: found.tx_bits),
        column("rx", "rx", lambda nic: nic.statistics.rx_datagrams, lambda found: found.rx),
        column("rx_bytes", f"rx {bits}", lambda nic: nic.statistics.rx_bytes, lambda found: found.rx_bits),
        *map(of_reason, REASONS),
        column("rx_dropped", "rx full", lambda nic: nic.statistics.rx_dropped, lambda found: found.rx_dropped),
    )


def sort_keys() -> tuple[str, ...]:
    """What tables can be sorted by."""
    return ("name", "dropped", *(column.key for column in columns(rates=False)))


def rows(sample: Sample, rates: dict[str, NicRates] | None = None) -> list[Row]:
    """The rows of a sample, in the order in which the NICs came."""
    # Routers send and receive nothing themselves: what crosses them counts where it comes from and where it arrives.
    counting = [nic for nic in sample.nics if nic.kind != "router"] or sample.nics
    return [Row(nic, rates.get(nic.name) if rates is not None else None) for nic in counting]


def sorted_rows(unsorted: Iterable[Row], key: str) -> list[Row]:
    """Rows by a key of :func:`sort_keys`: names upwards, numbers downwards, equals by name."""
    by_name = sorted(unsorted, key=lambda row: natural(row.name))
    if key == "name":
        return by_name
    rated = any(row.rates is not None for row in by_name)
    if key == "dropped":
        return sorted(by_name, key=lambda row: -_dropped(row))
    (column,) = (column for column in columns(rates=rated) if column.key == key)
    return sorted(by_name, key=lambda row: -column.value(row))


def _dropped(row: Row) -> float:
    return row.rates.dropped if row.rates is not None else row.nic.statistics.dropped


def table(shown: Sequence[Row], every: Sequence[Row], *, rates: bool) -> list[str]:
    """The lines of a table of ``shown`` rows and the total of ``every`` row, without columns of zeros."""
    all_columns = columns(rates=rates)
    kept = [
        column
        for column in all_columns
        if column.key in ("tx", "tx_bytes", "rx", "rx_bytes") or any(column.value(row) for row in every)
    ]
    networks = {row.nic.network for row in every}
    heads = ["NIC", *(["network"] if len(networks) > 1 else []), "state", *(column.title for column in kept)]
    body = [
        [
            row.name,
            *([row.nic.network] if len(networks) > 1 else []),
            row.nic.state,
            *(column.write(column.value(row)) for column in kept),
        ]
        for row in shown
    ]
    left = len(heads) - len(kept)
    if len(every) > 1:
        hidden = len(every) - len(shown)
        of = f"{len(every):,} NICs" if hidden else "total"
        totals = [column.write(sum(column.value(row) for row in every)) for column in kept]
        body.append([of, *[""] * (left - 1), *totals])
    widths = [max(len(line[at]) for line in [heads, *body]) for at in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heads, *body]
    ]
